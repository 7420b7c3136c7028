"""Who may ask: clients prove themselves with key and secret, and get tokens that open the data endpoints.

Secrets and tokens are 256 random bits; only their SHA-256 reaches the store. With so much entropy no slow hash is
needed: guessing is hopeless, and a stolen digest cannot be turned back. Knows no HTTP beyond one header's value.
"""

import hashlib
import hmac
from base64 import b32encode, urlsafe_b64encode
from collections.abc import Callable

from retinue.clock import Clock
from retinue.errors import ClientInvalid, ScopeMissing, TokenInvalid
from retinue.model import TOKEN_SECONDS, Client, Grant
from retinue.store.base import AccessStore

SECRET_BYTES = 32
CLIENT_KEY_BYTES = 10
MAX_TOKEN_BYTES = 512
REMEMBER_SECONDS = 0.9
REMEMBER_AT_MOST = 10_000

_WRONG = "Client key or secret is incorrect."
_REVOKED = "The client has been revoked."


class Credentials:
    """Makes clients and tokens, and tells good ones from bad ones.

    A grant is remembered for less than a second, so a revocation reaches every process within one; an unknown
    token is looked up each time before it is refused.
    """

    def __init__(self, store: AccessStore, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._store = store
        self._clock = clock
        self._random_bytes = random_bytes
        self._remembered: dict[bytes, tuple[Grant, float]] = {}

    async def create_client(self, name: str, scopes: frozenset[str]) -> tuple[Client, str]:
        """Register a client; its secret is known here and never again."""
        key = "aw" + b32encode(self._random_bytes(CLIENT_KEY_BYTES)).decode().lower()
        secret = self._fresh_secret()
        client = Client(key, name, scopes, self._clock.now())
        await self._store.add_client(client, _digest(secret.encode()))
        return client, secret

    async def issue_token(self, client_key: str, client_secret: str) -> str:
        """A new token, good for `TOKEN_SECONDS`; earlier ones stay good. Raises `ClientInvalid`."""
        found = await self._store.find_client(client_key)
        client, expected = found or (None, b"")
        is_right = hmac.compare_digest(_digest(client_secret.encode()), expected)
        if client is None or not is_right:
            raise ClientInvalid(_WRONG)
        if client.revoked_at is not None:
            raise ClientInvalid(_REVOKED)
        token = f"clt.{self._fresh_secret()}"
        await self._store.add_token(_digest(token.encode()), client.key, self._clock.now() + TOKEN_SECONDS)
        return token

    async def authorize(self, authorization: bytes, scope: str) -> Grant:
        """The grant of the token in an Authorization header. Raises `TokenInvalid` or `ScopeMissing`."""
        grant = await self._grant(_digest(bearer_token(authorization)))
        if self._clock.now() >= grant.expires_at:
            raise TokenInvalid
        if scope not in grant.scopes:
            raise ScopeMissing(scope)
        return grant

    async def _grant(self, digest: bytes) -> Grant:
        instant = self._clock.elapsed()
        remembered = self._remembered.get(digest)
        if remembered is not None and instant < remembered[1]:
            return remembered[0]
        grant = await self._store.find_grant(digest)
        if grant is None:
            self._remembered.pop(digest, None)
            raise TokenInvalid
        if len(self._remembered) >= REMEMBER_AT_MOST:
            self._remembered.clear()
        self._remembered[digest] = (grant, instant + REMEMBER_SECONDS)
        return grant

    def _fresh_secret(self) -> str:
        return urlsafe_b64encode(self._random_bytes(SECRET_BYTES)).rstrip(b"=").decode()


def bearer_token(authorization: bytes) -> bytes:
    """The token in an Authorization header. Raises `TokenInvalid`."""
    scheme, _, rest = authorization.partition(b" ")
    token = rest.strip(b" \t")
    if scheme.lower() != b"bearer" or not 0 < len(token) <= MAX_TOKEN_BYTES:
        raise TokenInvalid
    return token


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()
