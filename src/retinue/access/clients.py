"""The register of clients: who is let in, from when to when, with what quota. For operators; requests never come here.

Holds the rules for what a client may be called and given. Errors are `InputError`s that name the field. Knows no HTTP
and no SQL.
"""

import hashlib
import string
from base64 import b32encode
from collections.abc import Callable, Iterator

from msgspec import UNSET, Struct, structs

from retinue.clock import Clock
from retinue.errors import InputError, NoSuchClient
from retinue.model import RESEARCH_SCOPE, Client, ClientChange, Quota, Rate, Used
from retinue.store.contract import AccessStore

SECRET_BYTES = 32
SECRET_CHARACTERS = 43  # 62 to this power is more than 256 bits
CLIENT_KEY_BYTES = 10
GRACE_SECONDS = 24 * 3600
LONGEST_GRACE_SECONDS = 366 * 24 * 3600
LONGEST_RATE_SECONDS = 60  # an answer may tell a client to wait so long, and no longer
MOST_RATE_CALLS = 1_000_000
MOST_A_DAY = 2**53
LAST_SECOND = 253_402_300_799  # the end of the year 9999

_LONGEST = {"name": 200, "contact": 500, "notes": 5000}
_LONGEST_SCOPE = 100
_DIGITS = string.digits + string.ascii_letters
_SHOWN_AS_THEY_ARE = (
    *("name", "contact", "notes"),
    *("created_at", "not_before", "not_after", "suspended_at", "revoked_at"),
)
_DAILY = ("list_calls", "list_rows", "other_calls")


class Registered(Struct, frozen=True):
    """A client and its new secret, which is known here and never again."""

    client: Client
    secret: str


class Shown(Struct, frozen=True):
    """A client as programs see it. `status` is active, suspended, revoked, pending or expired."""

    client_key: str
    name: str
    contact: str
    notes: str
    scopes: list[str]
    status: str
    created_at: int
    not_before: int | None
    not_after: int | None
    suspended_at: int | None
    revoked_at: int | None
    list_calls: int | None
    list_rows: int | None
    other_calls: int | None
    rate: Rate | None
    used_today: Used


class Clients:
    """Registers, changes and ends clients. All methods but `create` and `all` raise `InputError` for unknown keys."""

    def __init__(self, store: AccessStore, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    async def create(self, wanted: ClientChange) -> Registered:
        """Register a client. What is not named gets its default: the research scope, the quota of TikTok's API."""
        if wanted.name is UNSET:
            raise InputError("name: is missing")
        key = "aw" + b32encode(self._random_bytes(CLIENT_KEY_BYTES)).decode().lower()
        client = Client(key, "", frozenset({RESEARCH_SCOPE}), self._clock.now())
        client = _changed(client, wanted)
        secret = fresh_secret(self._random_bytes)
        return Registered(await self._store.add_client(client, digest_of(secret)), secret)

    async def all(self) -> list[Client]:
        """All clients, oldest first."""
        return await self._store.clients()

    async def get(self, key: str) -> Client:
        """The client with a key."""
        found = await self._store.find_client(key)
        if found is None:
            raise NoSuchClient(f"client {key}: there is none with this key")
        return found[0]

    async def change(self, key: str, change: ClientChange) -> Client:
        """Change what is named; every worker knows within a second."""
        _changed(await self.get(key), change)
        await self._store.change_client(key, change)
        return await self.get(key)

    async def rotate(self, key: str, grace_seconds: int = GRACE_SECONDS) -> Registered:
        """Give a client another secret; the one it has is good for some more seconds."""
        if not 0 <= grace_seconds <= LONGEST_GRACE_SECONDS:
            raise InputError(f"grace: expected 0 to {LONGEST_GRACE_SECONDS} seconds")
        await self._unrevoked(key)
        secret = fresh_secret(self._random_bytes)
        await self._store.rotate_secret(key, digest_of(secret), self._clock.now() + grace_seconds)
        return Registered(await self.get(key), secret)

    async def suspend(self, key: str) -> Client:
        """Keep a client and its tokens out until it is resumed."""
        client = await self._unrevoked(key)
        since = self._clock.now() if client.suspended_at is None else client.suspended_at
        await self._store.suspend_client(key, since)  # again, if it is: maybe the disk does not have that yet
        return await self.get(key)

    async def resume(self, key: str) -> Client:
        """Let a suspended client in again, with those of its tokens that have not expired."""
        await self._unrevoked(key)
        await self._store.suspend_client(key, None)
        return await self.get(key)

    async def revoke(self, key: str) -> Client:
        """End a client and all its tokens, for good."""
        await self._store.revoke_client(key, self._clock.now())
        return await self.get(key)

    async def _unrevoked(self, key: str) -> Client:
        client = await self.get(key)
        if client.revoked_at is not None:
            raise InputError(f"client {key}: has been revoked, which is for good; create another")
        return client


def shown(client: Client, used: Used, now: int) -> Shown:
    """A client with what it has used since 00:00 UTC."""
    return Shown(
        client_key=client.key,
        scopes=sorted(client.scopes),
        status=status_of(client, now),
        used_today=used,
        **{field: getattr(client, field) for field in _SHOWN_AS_THEY_ARE},
        **structs.asdict(client.quota),
    )


def status_of(client: Client, now: int) -> str:
    """Whether it may be used at a second, in a word."""
    if client.revoked_at is not None:
        return "revoked"
    if client.suspended_at is not None:
        return "suspended"
    if client.not_before is not None and now < client.not_before:
        return "pending"
    return "expired" if client.not_after is not None and now >= client.not_after else "active"


def digest_of(secret: str) -> bytes:
    """What the store keeps of a secret or token."""
    return hashlib.sha256(secret.encode()).digest()


def fresh_secret(random_bytes: Callable[[int], bytes]) -> str:
    """Return 256 random bits as letters and digits.

    Command lines take a word that begins with `-` for an option, so base64 will not do.
    """
    number = int.from_bytes(random_bytes(SECRET_BYTES))
    digits = []
    for _ in range(SECRET_CHARACTERS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def _changed(client: Client, change: ClientChange) -> Client:
    """What a client becomes. Raises `InputError` where that may not be."""
    given = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
    of_quota = {name: given.pop(name) for name in Quota.__struct_fields__ if name in given}
    after = structs.replace(client, **given, quota=structs.replace(client.quota, **of_quota))
    for fault in (*_faults_in_texts(after), *_faults_in_window(after), *_faults_in_quota(after.quota)):
        raise InputError(fault)
    return after


def _faults_in_texts(client: Client) -> Iterator[str]:
    if not client.name.strip():
        yield "name: is empty"
    for field, longest in _LONGEST.items():
        text: str = getattr(client, field)
        if len(text) > longest:
            yield f"{field}: has more than {longest} characters"
        # Other control characters could make a terminal or a table show something else than what is there.
        if not (text.replace("\n", "").replace("\t", "") if field == "notes" else text).isprintable():
            yield f"{field}: has characters that cannot be printed"
    for scope in sorted(client.scopes):
        if not scope or not scope.isascii() or not scope.isprintable() or " " in scope or len(scope) > _LONGEST_SCOPE:
            yield f"scopes: {scope!r} is no scope; expected a word such as {RESEARCH_SCOPE}"


def _faults_in_window(client: Client) -> Iterator[str]:
    for field in ("not_before", "not_after"):
        second: int | None = getattr(client, field)
        if second is not None and not 0 <= second <= LAST_SECOND:
            yield f"{field}: expected a Unix second from 0 to {LAST_SECOND}"
    if client.not_before is not None and client.not_after is not None and client.not_before >= client.not_after:
        yield "not_after: the access window would end before it begins"


def _faults_in_quota(quota: Quota) -> Iterator[str]:
    for field in _DAILY:
        count: int | None = getattr(quota, field)
        if count is not None and not 0 <= count <= MOST_A_DAY:
            yield f"{field}: expected 0 to {MOST_A_DAY}, or none for no limit"
    rate: Rate | None = quota.rate
    if rate is not None and not (1 <= rate.calls <= MOST_RATE_CALLS and 1 <= rate.seconds <= LONGEST_RATE_SECONDS):
        yield f"rate: expected 1 to {MOST_RATE_CALLS} calls within 1 to {LONGEST_RATE_SECONDS} seconds"
