"""Faults on purpose, pure: what can go wrong, the named profiles, how both are written, and what is drawn for a call.

One setting for each fault; all are off in a fresh `Faults`. What a fault does to an answer is `web/faults.py`'s
business; here nothing is known of HTTP.
"""

from collections.abc import Mapping
from enum import Enum
from random import Random
from typing import Annotated, Any, get_type_hints
from zlib import crc32

import msgspec
from msgspec import Meta, Struct, structs

from retinue.errors import InputError

Share = Annotated[float, Meta(ge=0, le=1, description="a share from 0 to 1")]
Seconds = Annotated[float, Meta(ge=0, le=600, description="seconds from 0 to 600")]
WholeSeconds = Annotated[int, Meta(ge=0, le=60, description="whole seconds from 0 to 60")]
Rows = Annotated[int, Meta(ge=0, le=1_000_000, description="a number of rows up to 1000000, or 0 for no end")]
Switch = Annotated[bool, Meta(description="true or false")]
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1, description="a number from 0 to 2^63 - 1")]


class Failure(Enum):
    """What may become of a whole call, at most one of them; the value is the fault that gives its share."""

    SERVER_ERROR = "server_errors"
    GATEWAY_TIMEOUT = "gateway_timeouts"
    CLOSED_CONNECTION = "closed_connections"
    BROKEN_BODY = "broken_bodies"
    RATE_LIMIT = "rate_limits"
    REFUSED_TOKEN = "refused_tokens"  # noqa: S105 - the name of a fault


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a server is to misbehave, and the seed of what is drawn. Raises `InputError` that names the fault.

    docs/sandbox.md says what each does.
    """

    short_pages: Share = 0.0
    repeated_pages: Share = 0.0
    stuck_cursors: Share = 0.0
    list_end_rows: Rows = 0
    missing_empty_lists: Switch = False
    server_errors: Share = 0.0
    gateway_timeouts: Share = 0.0
    closed_connections: Share = 0.0
    broken_bodies: Share = 0.0
    failures_cost_quota: Switch = False
    rate_limits: Share = 0.0
    retry_after_seconds: WholeSeconds = 0
    quota_spent: Switch = False
    refused_tokens: Share = 0.0
    fresh_token_seconds: WholeSeconds = 0
    token_errors_with_200: Switch = False
    delay_seconds: Seconds = 0.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        _converted(structs.asdict(self), strict=True)
        _at_most_one(self, [failure.value for failure in Failure])
        _at_most_one(self, ["repeated_pages", "stuck_cursors"])


def _at_most_one(faults: Faults, names: list[str]) -> None:
    """One call meets at most one of these, so each can have its share only if all together have no more than 1."""
    total = round(sum(getattr(faults, name) for name in names), 9)
    if total > 1:
        raise InputError(f"faults: {', '.join(names)}: expected shares of at most 1 together, not {total}")


def _converted(values: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """Values of faults by name, also such as are written as text unless `strict`. Raises `InputError`."""
    forms = get_type_hints(Faults, include_extras=True)
    converted = {}
    for name, value in values.items():
        if name not in forms:
            raise InputError(f"faults: there is no {name!r}; there are {', '.join(forms)}")
        try:
            converted[name] = msgspec.convert(value, forms[name], strict=strict)
        except msgspec.ValidationError:
            expected = forms[name].__metadata__[0].description
            raise InputError(f"faults: {name}: expected {expected}, not {value}") from None
    return converted


# --- profiles -------------------------------------------------------------------------------------------------------

DOCUMENTED = Faults()

PROFILES: Mapping[str, Faults] = {
    "documented": DOCUMENTED,
    # What users of the real service reported, as far as it has a number; docs/sandbox.md has the sources.
    "tiktok-2024": Faults(
        short_pages=1.0,
        repeated_pages=0.01,
        list_end_rows=5_000,
        missing_empty_lists=True,
        server_errors=0.05,
        gateway_timeouts=0.01,
        failures_cost_quota=True,
        rate_limits=0.01,
        token_errors_with_200=True,
    ),
    # All that a client can get over. Nothing in it may lose a row for good.
    "hostile": Faults(
        short_pages=0.5,
        repeated_pages=0.05,
        stuck_cursors=0.05,
        missing_empty_lists=True,
        server_errors=0.1,
        gateway_timeouts=0.05,
        closed_connections=0.05,
        broken_bodies=0.05,
        failures_cost_quota=True,
        rate_limits=0.05,
        refused_tokens=0.05,
        fresh_token_seconds=1,
        token_errors_with_200=True,
        delay_seconds=0.005,
    ),
}


def profile(name: str, *, seed: int = 0) -> Faults:
    """The faults of a named profile. Raises `InputError`."""
    if name not in PROFILES:
        raise InputError(f"faults: there is no profile {name!r}; there are {', '.join(PROFILES)}, or fault=value")
    return structs.replace(PROFILES[name], seed=seed)


def profile_of(faults: Faults) -> str | None:
    """The name of the profile that has just these faults, if one has."""
    unseeded = structs.replace(faults, seed=0)
    return next((name for name, each in PROFILES.items() if each == unseeded), None)


# --- as text and as values ------------------------------------------------------------------------------------------


def parsed(text: str, *, seed: int = 0) -> Faults:
    """The faults of a text like `hostile`, `hostile,delay_seconds=0.2` or `server_errors=0.1`. Raises `InputError`."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    named = words.pop(0) if words and "=" not in words[0] else "documented"
    values: dict[str, str] = {}
    for word in words:
        name, separator, value = (part.strip() for part in word.partition("="))
        if not separator or name in values:
            raise InputError(f"faults: {word!r}: expected name=value, each name once, behind at most one profile")
        values[name] = value
    return changed(profile(named, seed=seed), values, strict=False)


def changed(faults: Faults, values: Mapping[str, Any], *, strict: bool = True) -> Faults:
    """The same with other values for some, which may be texts unless `strict`. Raises `InputError`."""
    return structs.replace(faults, **_converted(values, strict=strict))


# --- shared by processes --------------------------------------------------------------------------------------------

SHARED_BYTES = 4096
_CHECKSUM_BYTES = 4


class ActiveFaults(Struct, frozen=True):
    """The faults that hold now; each setting of them has its own `revision`, from 1."""

    revision: int = 0
    faults: Faults = DOCUMENTED


class SharedFaults:
    """The faults in memory that several processes share: one sets them, all see them with their next call.

    Who reads while they are being written finds a wrong checksum, and goes by what was there before.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._seen = b""
        self._standing = ActiveFaults()

    @property
    def standing(self) -> ActiveFaults:
        """What holds now."""
        found = bytes(self._memory)
        if found != self._seen:
            checksum, document = found[:_CHECKSUM_BYTES], found[_CHECKSUM_BYTES:]
            if checksum == _checksum(document):
                self._seen, self._standing = found, msgspec.json.decode(document, type=ActiveFaults)
        return self._standing

    def put(self, faults: Faults) -> None:
        """Let these hold from now on; what is drawn begins anew with their seed. Raises `InputError`."""
        if not isinstance(faults, Faults):
            raise InputError(f"faults: expected Faults, such as profile('hostile') gives, not {faults!r}")
        document = msgspec.json.encode(ActiveFaults(self.standing.revision + 1, faults))
        document = document.ljust(SHARED_BYTES - _CHECKSUM_BYTES)
        self._memory[:] = _checksum(document) + document


def _checksum(document: bytes) -> bytes:
    return crc32(document).to_bytes(_CHECKSUM_BYTES, "big")


# --- what is drawn --------------------------------------------------------------------------------------------------

_LEAST_FULL, _MOST_FULL = 0.57, 0.93  # of the pages in the real answers that a user published


class InjectedFaults(Struct, frozen=True):
    """What is drawn for one call. `fullness` is the part of `max_count` that a page may have."""

    faults: Faults
    failure: Failure | None
    fullness: float
    is_repeated: bool
    is_stuck: bool


class FaultInjector:
    """Draws for one call after the other, the same with the same seed, from the moment the faults are set."""

    def __init__(self, shared: SharedFaults) -> None:
        self._shared = shared
        self._standing = ActiveFaults(-1)
        self._is_any = False
        self._random = Random()  # noqa: S311 - faults are to be repeated, not to be unforeseeable

    def next(self) -> InjectedFaults | None:
        """What is to happen to the next call; None where nothing is to go wrong."""
        standing = self._shared.standing
        if standing is not self._standing:
            self._standing, self._is_any = standing, profile_of(standing.faults) != "documented"
            self._random.seed(standing.faults.seed)
        return _drawn(standing.faults, self._random) if self._is_any else None


def _drawn(faults: Faults, random: Random) -> InjectedFaults:
    # Always as many numbers, whatever is switched on: then a call's number in the row alone decides.
    failing, shortening, fullness, straying = (random.random() for _ in range(4))
    return InjectedFaults(
        faults,
        _failure_at(faults, failing),
        _LEAST_FULL + (_MOST_FULL - _LEAST_FULL) * fullness if shortening < faults.short_pages else 1.0,
        straying < faults.repeated_pages,
        faults.repeated_pages <= straying < faults.repeated_pages + faults.stuck_cursors,
    )


def _failure_at(faults: Faults, drawn: float) -> Failure | None:
    """The failure on whose stretch, of all laid end to end from 0 to 1, a number lies."""
    for failure in Failure:
        drawn -= getattr(faults, failure.value)
        if drawn < 0:
            return failure
    return None
