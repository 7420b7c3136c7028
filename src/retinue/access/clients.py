"""The register of clients, for operators. Each `InputError` names the field."""

import hashlib
import string
from base64 import b32encode
from collections.abc import Callable, Iterator

from msgspec import UNSET, Struct, structs

from retinue.access.contract import AccessStore
from retinue.clock import Clock
from retinue.errors import InputError, NoSuchClient
from retinue.model import MAX_SECOND, RESEARCH_SCOPE, ClientChange, Quota, RateLimit, RegisteredClient, Usage

SECRET_BYTES = 32
SECRET_CHARACTERS = 43  # 62 to this power is more than 256 bits
CLIENT_KEY_BYTES = 10
GRACE_SECONDS = 24 * 3600
MAX_GRACE_SECONDS = 366 * 24 * 3600
MAX_RATE_SECONDS = 60  # the longest wait that a response may ask for
MAX_RATE_CALLS = 1_000_000
MAX_PER_DAY = 2**53

_MAX_CHARACTERS = {"name": 200, "contact": 500, "notes": 5000}
_MAX_SCOPE = 100
_DIGITS = string.digits + string.ascii_letters
_DAILY = ("list_calls", "list_rows", "other_calls")


class Registered(Struct, frozen=True):
    """A client and its new secret, which is not stored."""

    client: RegisteredClient
    secret: str


class ClientView(Struct, frozen=True):
    """A client as JSON."""

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
    rate: RateLimit | None
    used_today: Usage


class Clients:
    """Registers, changes and revokes clients. An unknown key raises `NoSuchClient`."""

    def __init__(self, store: AccessStore, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes

    async def create(self, fields: ClientChange) -> Registered:
        """Register a client, by default with TikTok's scope and quota."""
        if fields.name is UNSET:
            raise InputError("name: is missing")
        key = "aw" + b32encode(self._random_bytes(CLIENT_KEY_BYTES)).decode().lower()
        client = RegisteredClient(key, "", frozenset({RESEARCH_SCOPE}), self._clock.now())
        client = _apply(client, fields)
        secret = fresh_secret(self._random_bytes)
        return Registered(await self._store.add_client(client, digest_of(secret)), secret)

    async def all(self) -> list[RegisteredClient]:
        """Return all clients, oldest first."""
        return await self._store.clients()

    async def get(self, key: str) -> RegisteredClient:
        """Return the client with a key."""
        stored = await self._store.find_client(key)
        if stored is None:
            raise NoSuchClient(f"client {key}: does not exist")
        return stored[0]

    async def change(self, key: str, change: ClientChange) -> RegisteredClient:
        """Change the given fields. Workers apply the change within a second."""
        _apply(await self.get(key), change)
        await self._store.change_client(key, change)
        return await self.get(key)

    async def rotate(self, key: str, grace_seconds: int = GRACE_SECONDS) -> Registered:
        """Give a client a new secret. The old one stays valid for `grace_seconds`."""
        if not 0 <= grace_seconds <= MAX_GRACE_SECONDS:
            raise InputError(f"grace: expected 0 to {MAX_GRACE_SECONDS} seconds")
        await self._get_unrevoked(key)
        secret = fresh_secret(self._random_bytes)
        await self._store.rotate_secret(key, digest_of(secret), self._clock.now() + grace_seconds)
        return Registered(await self.get(key), secret)

    async def suspend(self, key: str) -> RegisteredClient:
        """Refuse a client and its tokens until it is resumed."""
        client = await self._get_unrevoked(key)
        since = self._clock.now() if client.suspended_at is None else client.suspended_at
        await self._store.suspend_client(key, since)  # even if it is already suspended: that may not be durable yet
        return await self.get(key)

    async def resume(self, key: str) -> RegisteredClient:
        """Accept a suspended client and its unexpired tokens again."""
        await self._get_unrevoked(key)
        await self._store.suspend_client(key, None)
        return await self.get(key)

    async def revoke(self, key: str) -> RegisteredClient:
        """Revoke a client and all its tokens permanently."""
        await self._store.revoke_client(key, self._clock.now())
        return await self.get(key)

    async def _get_unrevoked(self, key: str) -> RegisteredClient:
        client = await self.get(key)
        if client.revoked_at is not None:
            raise InputError(f"client {key}: was revoked permanently; create another")
        return client


def view_of(client: RegisteredClient, used: Usage, now: int) -> ClientView:
    """Return a client with its usage since 00:00 UTC."""
    values = structs.asdict(client) | structs.asdict(client.quota)
    values |= {"client_key": client.key, "scopes": sorted(client.scopes)}
    values |= {"status": status_of(client, now), "used_today": used}
    return ClientView(**{field: values[field] for field in ClientView.__struct_fields__})


def status_of(client: RegisteredClient, now: int) -> str:
    """Return the status of a client at a Unix second."""
    if client.revoked_at is not None:
        return "revoked"
    if client.suspended_at is not None:
        return "suspended"
    if client.not_before is not None and now < client.not_before:
        return "pending"
    return "expired" if client.not_after is not None and now >= client.not_after else "active"


def digest_of(secret: str) -> bytes:
    """Return the digest of a secret or token that the store has."""
    return hashlib.sha256(secret.encode()).digest()


def fresh_secret(random_bytes: Callable[[int], bytes]) -> str:
    """Return 256 random bits as letters and digits."""
    # Not Base64: it may begin with `-`, and command lines would take it for an option.
    number = int.from_bytes(random_bytes(SECRET_BYTES))
    digits = []
    for _ in range(SECRET_CHARACTERS):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "".join(digits)


def _apply(client: RegisteredClient, change: ClientChange) -> RegisteredClient:
    fields = {name: value for name, value in structs.asdict(change).items() if value is not UNSET}
    quota = {name: fields.pop(name) for name in Quota.__struct_fields__ if name in fields}
    after = structs.replace(client, **fields, quota=structs.replace(client.quota, **quota))
    for fault in (*_faults_in_texts(after), *_faults_in_window(after), *_faults_in_quota(after.quota)):
        raise InputError(fault)
    return after


def _faults_in_texts(client: RegisteredClient) -> Iterator[str]:
    if not client.name.strip():
        yield "name: is empty"
    for field, maximum in _MAX_CHARACTERS.items():
        text: str = getattr(client, field)
        if len(text) > maximum:
            yield f"{field}: has more than {maximum} characters"
        # Other control characters could deceive a reader of a terminal or a table.
        if not (text.replace("\n", "").replace("\t", "") if field == "notes" else text).isprintable():
            yield f"{field}: has characters that cannot be printed"
    for scope in sorted(client.scopes):
        if not scope or not scope.isascii() or not scope.isprintable() or " " in scope or len(scope) > _MAX_SCOPE:
            yield f"scopes: {scope!r} is not a scope; expected a word such as {RESEARCH_SCOPE}"


def _faults_in_window(client: RegisteredClient) -> Iterator[str]:
    for field in ("not_before", "not_after"):
        second: int | None = getattr(client, field)
        if second is not None and not 0 <= second <= MAX_SECOND:
            yield f"{field}: expected a Unix second from 0 to {MAX_SECOND}"
    if client.not_before is not None and client.not_after is not None and client.not_before >= client.not_after:
        yield "not_after: the access window would end before it begins"


def _faults_in_quota(quota: Quota) -> Iterator[str]:
    for field in _DAILY:
        count: int | None = getattr(quota, field)
        if count is not None and not 0 <= count <= MAX_PER_DAY:
            yield f"{field}: expected 0 to {MAX_PER_DAY}, or none for no limit"
    rate: RateLimit | None = quota.rate
    if rate is not None and not (1 <= rate.calls <= MAX_RATE_CALLS and 1 <= rate.seconds <= MAX_RATE_SECONDS):
        yield f"rate: expected 1 to {MAX_RATE_CALLS} calls within 1 to {MAX_RATE_SECONDS} seconds"
