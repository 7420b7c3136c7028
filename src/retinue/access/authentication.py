"""Authentication: clients prove their identity with key and secret, and get tokens.

The store has only the SHA-256 of both. They are 256 random bits, so no slow hash is needed.
"""

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from retinue.access.clients import digest_of, fresh_secret, status_of
from retinue.access.contract import AccessStore
from retinue.clock import Clock
from retinue.errors import InvalidClient, InvalidToken, MissingScope, UnknownToken, WrongSecret
from retinue.model import RESEARCH_SCOPE, TOKEN_SECONDS, RegisteredClient, Secrets, TokenGrant

MAX_TOKEN_BYTES = 512
CACHE_SECONDS = 0.9
MAX_CACHED = 10_000
MAX_CACHED_BYTES = MAX_TOKEN_BYTES + 50  # of a header, which may be padded with spaces

BASIC_HINT = "The Authorization header is Basic, not Bearer; a netrc file may have replaced the token."

_NO_SECRETS = Secrets(b"")


class Authenticator:
    """Issues tokens to clients and checks them.

    With `registers` an unknown key is registered with its first secret. Grants are cached for less than a second.
    """

    def __init__(
        self, store: AccessStore, clock: Clock, random_bytes: Callable[[int], bytes], *, registers: bool = False
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._registers = registers
        self._registering = asyncio.Lock()
        self._cache: dict[bytes, tuple[TokenGrant, float]] = {}

    async def authenticate(self, client_key: str, client_secret: str) -> RegisteredClient:
        """Return the client. Raises `WrongSecret`, or `InvalidClient` if only the secret is right."""
        stored = await self._store.find_client(client_key)
        if stored is None and self._registers:
            stored = await self._register(client_key, client_secret)
        client, secrets = stored or (None, _NO_SECRETS)
        now = self._clock.now()
        digest = digest_of(client_secret)
        # Both are always compared, so the time it takes does not reveal which one matched.
        is_current = hmac.compare_digest(digest, secrets.current)
        is_former = hmac.compare_digest(digest, secrets.former or b"") and now < secrets.former_until
        if client is None or not (is_current or is_former):
            raise WrongSecret
        if reason := _refusal_reason(client, now):
            raise InvalidClient(reason)
        return client

    async def _register(self, client_key: str, client_secret: str) -> tuple[RegisteredClient, Secrets] | None:
        async with self._registering:
            if await self._store.find_client(client_key) is None:
                client = RegisteredClient(client_key, "first request", frozenset({RESEARCH_SCOPE}), self._clock.now())
                await self._store.add_client(client, digest_of(client_secret))
        return await self._store.find_client(client_key)

    async def issue_token(self, client: RegisteredClient) -> str:
        """Return a new token. Earlier ones stay valid."""
        token = f"clt.{fresh_secret(self._random_bytes)}"
        await self._store.add_token(digest_of(token), client.id, self._clock.now() + TOKEN_SECONDS)
        return token

    async def revoke_token(self, client: RegisteredClient, token: str) -> None:
        """Revoke a client's token. Raises `UnknownToken`."""
        digest = digest_of(token)
        grant = await self._store.find_grant(digest)
        is_valid = grant is not None and self._clock.now() < grant.expires_at
        if not await self._store.remove_token(digest, client.id) or not is_valid:
            raise UnknownToken
        self._cache.clear()

    async def authorize(self, authorization: bytes, scope: str) -> TokenGrant:
        """Return a header's grant. Raises `InvalidToken` or `MissingScope`."""
        grant = self.cached_grant(authorization, scope) or await self._look_up(authorization)
        if not grant.begins_at <= self._clock.now() < grant.expires_at:
            raise InvalidToken
        if scope not in grant.scopes:
            raise MissingScope(scope)
        return grant

    def cached_grant(self, authorization: bytes, scope: str) -> TokenGrant | None:
        """Return the grant if it is cached and valid, else None."""
        # The key is the unparsed header: parsing and hashing would cost most of the check. Python hashes bytes under a
        # secret of the process before it compares them, so the time it takes does not reveal what is cached.
        entry = self._cache.get(authorization)
        if entry is None or self._clock.elapsed() >= entry[1]:
            return None
        grant = entry[0]
        is_valid = grant.begins_at <= self._clock.now() < grant.expires_at and scope in grant.scopes
        return grant if is_valid else None

    async def _look_up(self, authorization: bytes) -> TokenGrant:
        instant = self._clock.elapsed()
        grant = await self._store.find_grant(sha256(bearer_token(authorization)).digest())
        if grant is None:
            self._cache.pop(authorization, None)
            raise InvalidToken
        if len(authorization) <= MAX_CACHED_BYTES:
            if len(self._cache) >= MAX_CACHED:
                self._cache.clear()
            self._cache[authorization] = (grant, instant + CACHE_SECONDS)
        return grant


def bearer_token(authorization: bytes) -> bytes:
    """Return the token of an Authorization header. Raises `InvalidToken`."""
    scheme, _, rest = authorization.partition(b" ")
    token = rest.strip(b" \t")
    if is_basic(authorization):
        raise InvalidToken(BASIC_HINT)
    if scheme.lower() != b"bearer" or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise InvalidToken
    return token


def is_basic(authorization: bytes) -> bool:
    """Return whether an Authorization header is Basic."""
    return authorization[:6].lower() == b"basic "


def _refusal_reason(client: RegisteredClient, now: int) -> str:
    reasons = {
        "active": "",
        "revoked": "The client has been revoked.",
        "suspended": "The client is suspended.",
        "pending": f"The client's access begins at {_date(client.not_before)}.",
        "expired": f"The client's access ended at {_date(client.not_after)}.",
    }
    return reasons[status_of(client, now)]


def _date(second: int | None) -> str:
    return "" if second is None else f"{datetime.fromtimestamp(second, UTC):%Y-%m-%d %H:%M:%S} UTC"
