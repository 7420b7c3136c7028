"""Who asks: clients prove themselves with key and secret, and get tokens that open the data endpoints.

Secrets and tokens are 256 random bits; only their SHA-256 reaches the store. With so much entropy no slow hash is
needed: guessing is hopeless, and a stolen digest cannot be turned back. Knows no HTTP beyond one header's value.
"""

import asyncio
import hmac
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256

from retinue.access.clients import digest_of, fresh_secret, status_of
from retinue.clock import Clock
from retinue.errors import ClientInvalid, ScopeMissing, SecretWrong, TokenInvalid, TokenUnknown
from retinue.model import RESEARCH_SCOPE, TOKEN_SECONDS, Client, Grant, Secrets
from retinue.store.contract import AccessStore

MAX_TOKEN_BYTES = 512
REMEMBER_SECONDS = 0.9
REMEMBER_AT_MOST = 10_000
LONGEST_REMEMBERED = MAX_TOKEN_BYTES + 50  # of a header, which may be filled up with blanks

BASIC_HINT = "The Authorization header is Basic, not Bearer; a netrc file may have replaced the token."

_NOBODY = Secrets(b"")


class Credentials:
    """Gives tokens to clients, and tells good ones from bad ones.

    `registers`: an unknown client key is registered with the secret that first comes with it, for throw-away servers.
    A grant is remembered for less than a second, so whatever is done to a client or token reaches every process within
    one; an unknown token is looked up each time before it is refused.
    """

    def __init__(
        self, store: AccessStore, clock: Clock, random_bytes: Callable[[int], bytes], *, registers: bool = False
    ) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._registers = registers
        self._registering = asyncio.Lock()
        self._remembered: dict[bytes, tuple[Grant, float]] = {}

    async def prove(self, client_key: str, client_secret: str) -> Client:
        """The client that knows this secret. Raises `SecretWrong`, and only to who knows it `ClientInvalid`."""
        found = await self._store.find_client(client_key)
        if found is None and self._registers:
            found = await self._registered(client_key, client_secret)
        client, secrets = found or (None, _NOBODY)
        now = self._clock.now()
        given = digest_of(client_secret)
        # Both are always compared: how long it takes says nothing of which one was right.
        is_current = hmac.compare_digest(given, secrets.current)
        is_former = hmac.compare_digest(given, secrets.former or b"") and now < secrets.former_until
        if client is None or not (is_current or is_former):
            raise SecretWrong
        if reason := _kept_out(client, now):
            raise ClientInvalid(reason)
        return client

    async def _registered(self, client_key: str, client_secret: str) -> tuple[Client, Secrets] | None:
        """Return the client with this key, registered now unless a request at the same time has done so."""
        async with self._registering:
            if await self._store.find_client(client_key) is None:
                client = Client(client_key, "first request", frozenset({RESEARCH_SCOPE}), self._clock.now())
                await self._store.add_client(client, digest_of(client_secret))
        return await self._store.find_client(client_key)

    async def issue_token(self, client: Client) -> str:
        """A new token, good for `TOKEN_SECONDS`; earlier ones stay good."""
        token = f"clt.{fresh_secret(self._random_bytes)}"
        await self._store.add_token(digest_of(token), client.id, self._clock.now() + TOKEN_SECONDS)
        return token

    async def revoke_token(self, client: Client, token: str) -> None:
        """End a token of a client. Raises `TokenUnknown` where it has no such token that is good."""
        digest = digest_of(token)
        grant = await self._store.find_grant(digest)
        is_good = grant is not None and self._clock.now() < grant.expires_at
        if not await self._store.remove_token(digest, client.id) or not is_good:
            raise TokenUnknown
        self._remembered.clear()

    async def authorize(self, authorization: bytes, scope: str) -> Grant:
        """The grant of the token in an Authorization header. Raises `TokenInvalid` or `ScopeMissing`."""
        grant = self.remembered(authorization, scope)
        if grant is not None:
            return grant
        grant = await self._looked_up(authorization)
        if not grant.begins_at <= self._clock.now() < grant.expires_at:
            raise TokenInvalid
        if scope not in grant.scopes:
            raise ScopeMissing(scope)
        return grant

    def remembered(self, authorization: bytes, scope: str) -> Grant | None:
        """The same, if it was looked up within the last second and is good; else None, for whatever reason."""
        # By the header as it came: parsing and hashing it would cost most of the check. Python hashes bytes under a
        # secret of the process before it compares them, so how long that takes says nothing of what is remembered.
        found = self._remembered.get(authorization)
        if found is None or self._clock.elapsed() >= found[1]:
            return None
        grant = found[0]
        is_good = grant.begins_at <= self._clock.now() < grant.expires_at and scope in grant.scopes
        return grant if is_good else None

    async def _looked_up(self, authorization: bytes) -> Grant:
        instant = self._clock.elapsed()
        grant = await self._store.find_grant(sha256(bearer_token(authorization)).digest())
        if grant is None:
            self._remembered.pop(authorization, None)
            raise TokenInvalid
        if len(authorization) <= LONGEST_REMEMBERED:
            if len(self._remembered) >= REMEMBER_AT_MOST:
                self._remembered.clear()
            self._remembered[authorization] = (grant, instant + REMEMBER_SECONDS)
        return grant


def bearer_token(authorization: bytes) -> bytes:
    """The token in an Authorization header. Raises `TokenInvalid`."""
    scheme, _, rest = authorization.partition(b" ")
    token = rest.strip(b" \t")
    if is_basic(authorization):
        raise TokenInvalid(BASIC_HINT)
    if scheme.lower() != b"bearer" or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise TokenInvalid
    return token


def is_basic(authorization: bytes) -> bool:
    """Return whether an Authorization header has the Basic scheme, as programs make it of a netrc file."""
    return authorization[:6].lower() == b"basic "


def _kept_out(client: Client, now: int) -> str:
    """Why a client may not have a token now; empty if it may."""
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
