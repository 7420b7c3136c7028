"""Fault injection without HTTP: settings, profiles, their text form, and the draws for each call."""

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
    """Failures of a whole call, at most one each. The value names the fault with its share."""

    SERVER_ERROR = "server_errors"
    GATEWAY_TIMEOUT = "gateway_timeouts"
    CLOSED_CONNECTION = "closed_connections"
    BROKEN_BODY = "broken_bodies"
    RATE_LIMIT = "rate_limits"
    REFUSED_TOKEN = "refused_tokens"  # noqa: S105 - the name of a fault


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The faults of a server (docs/sandbox.md), and their seed. Raises `InputError`."""

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
        """Validate all values."""
        _converted(structs.asdict(self), strict=True)
        _at_most_one(self, [failure.value for failure in Failure])
        _at_most_one(self, ["repeated_pages", "stuck_cursors"])


def _at_most_one(faults: Faults, names: list[str]) -> None:
    total = round(sum(getattr(faults, name) for name in names), 9)
    if total > 1:
        raise InputError(f"faults: {', '.join(names)}: expected shares of at most 1 together, not {total}")


def _converted(values: Mapping[str, Any], *, strict: bool) -> dict[str, Any]:
    """Return converted values; texts are accepted unless `strict`. Raises `InputError`."""
    forms = get_type_hints(Faults, include_extras=True)
    converted = {}
    for name, value in values.items():
        if name not in forms:
            raise InputError(f"faults: {name!r} does not exist; expected one of {', '.join(forms)}")
        try:
            converted[name] = msgspec.convert(value, forms[name], strict=strict)
        except msgspec.ValidationError:
            expected = forms[name].__metadata__[0].description
            raise InputError(f"faults: {name}: expected {expected}, not {value}") from None
    return converted


DOCUMENTED = Faults()

PROFILES: Mapping[str, Faults] = {
    "documented": DOCUMENTED,
    # Reported by users of the real service; docs/sandbox.md has the sources.
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
    # Everything from which a client can recover. Nothing in it may lose a row.
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
    """Return the faults of a profile. Raises `InputError`."""
    if name not in PROFILES:
        raise InputError(
            f"faults: profile {name!r} does not exist; expected one of {', '.join(PROFILES)}, or fault=value"
        )
    return structs.replace(PROFILES[name], seed=seed)


def profile_name(faults: Faults) -> str | None:
    """Return the name of the profile with exactly these faults, or None."""
    unseeded = structs.replace(faults, seed=0)
    return next((name for name, each in PROFILES.items() if each == unseeded), None)


def parse_faults(text: str, *, seed: int = 0) -> Faults:
    """Parse a text like `hostile,delay_seconds=0.2` or `server_errors=0.1`. Raises `InputError`."""
    words = [word.strip() for word in text.split(",")] if text.strip() else []
    named = words.pop(0) if words and "=" not in words[0] else "documented"
    values: dict[str, str] = {}
    for word in words:
        name, separator, value = (part.strip() for part in word.partition("="))
        if not separator or name in values:
            raise InputError(f"faults: {word!r}: expected name=value, each name once, after at most one profile")
        values[name] = value
    return with_values(profile(named, seed=seed), values, strict=False)


def with_values(faults: Faults, values: Mapping[str, Any], *, strict: bool = True) -> Faults:
    """Return faults with other values; texts are accepted unless `strict`. Raises `InputError`."""
    return structs.replace(faults, **_converted(values, strict=strict))


SHARED_BYTES = 4096
_CHECKSUM_BYTES = 4


class ActiveFaults(Struct, frozen=True):
    """The active faults; `revision` grows with each setting."""

    revision: int = 0
    faults: Faults = DOCUMENTED


class SharedFaults:
    """The active faults in shared memory: one process sets them for all.

    A reader that meets a partial write finds a wrong checksum and keeps the earlier faults.
    """

    def __init__(self, memory: memoryview) -> None:
        self._memory = memory
        self._document = b""
        self._active = ActiveFaults()

    @property
    def active(self) -> ActiveFaults:
        """The active faults."""
        content = bytes(self._memory)
        if content != self._document:
            checksum, document = content[:_CHECKSUM_BYTES], content[_CHECKSUM_BYTES:]
            if checksum == _checksum(document):
                self._document, self._active = content, msgspec.json.decode(document, type=ActiveFaults)
        return self._active

    def set(self, faults: Faults) -> None:
        """Activate faults and restart the draws from their seed. Raises `InputError`."""
        if not isinstance(faults, Faults):
            raise InputError(f"faults: expected Faults, such as profile('hostile'), not {faults!r}")
        document = msgspec.json.encode(ActiveFaults(self.active.revision + 1, faults))
        document = document.ljust(SHARED_BYTES - _CHECKSUM_BYTES)
        self._memory[:] = _checksum(document) + document


def _checksum(document: bytes) -> bytes:
    return crc32(document).to_bytes(_CHECKSUM_BYTES, "big")


_MIN_FULLNESS, _MAX_FULLNESS = 0.57, 0.93  # of pages in real responses that a user published


class InjectedFaults(Struct, frozen=True):
    """The faults of one call. `fullness` is the part of `max_count` that a page may have."""

    faults: Faults
    failure: Failure | None
    fullness: float
    is_repeated: bool
    is_stuck: bool


class FaultInjector:
    """Draws the faults of each call, reproducibly from the seed."""

    def __init__(self, shared: SharedFaults) -> None:
        self._shared = shared
        self._active = ActiveFaults(-1)
        self._is_enabled = False
        self._random = Random()  # noqa: S311 - faults must be reproducible

    def next(self) -> InjectedFaults | None:
        """Draw the faults of the next call; None if all are off."""
        active = self._shared.active
        if active is not self._active:
            self._active, self._is_enabled = active, profile_name(active.faults) != "documented"
            self._random.seed(active.faults.seed)
        return _draw(active.faults, self._random) if self._is_enabled else None


def _draw(faults: Faults, random: Random) -> InjectedFaults:
    # Always draw all numbers, so that a draw depends only on the seed and the number of the call.
    failing, shortening, fullness, misdirecting = (random.random() for _ in range(4))
    return InjectedFaults(
        faults,
        _failure_at(faults, failing),
        _MIN_FULLNESS + (_MAX_FULLNESS - _MIN_FULLNESS) * fullness if shortening < faults.short_pages else 1.0,
        misdirecting < faults.repeated_pages,
        faults.repeated_pages <= misdirecting < faults.repeated_pages + faults.stuck_cursors,
    )


def _failure_at(faults: Faults, drawn: float) -> Failure | None:
    """Return the failure whose share, of all added up, contains a number."""
    for failure in Failure:
        drawn -= getattr(faults, failure.value)
        if drawn < 0:
            return failure
    return None
