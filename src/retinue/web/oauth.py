"""The token and revoke endpoints, with flat errors as in OAuth.

Failed attempts never lock out or slow down a client: its secret is checked first.
"""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

from retinue.access.authentication import Authenticator, is_basic
from retinue.access.quotas import Quotas
from retinue.errors import CredentialsInHeader, MissingParameter, RateLimitExceeded, WrongSecret
from retinue.model import RegisteredClient
from retinue.web.asgi import Request
from retinue.wire import parsing, rendering

FAILURE_SECONDS = 0.5  # the delay of the answer to a wrong secret
MOST_FAILURES = 64  # delayed answers in one process; more are refused at once

Pause = Callable[[float], Awaitable[None]]


class Gate:
    """Authenticates clients at their rate, and delays failures."""

    def __init__(self, authenticator: Authenticator, quotas: Quotas, pause: Pause) -> None:
        self._authenticator = authenticator
        self._quotas = quotas
        self._pause = pause
        self._waiting = 0

    async def client(self, request: Request, proof: parsing.Proof) -> RegisteredClient:
        """Return the client. Raises `WrongSecret`, `InvalidClient` or `RateLimitExceeded`."""
        try:
            client = await self._authenticator.authenticate(proof.client_key, proof.client_secret)
        except WrongSecret:
            await self._slow_down()
            raise
        request.context.client = client.key
        self._quotas.admit_token(client)
        return client

    async def _slow_down(self) -> None:
        if self._waiting >= MOST_FAILURES:
            raise RateLimitExceeded(None, 1)
        self._waiting += 1
        try:
            await self._pause(FAILURE_SECONDS)
        finally:
            self._waiting -= 1


async def issue_token(gate: Gate, authenticator: Authenticator, request: Request) -> bytes:
    """Issue a token."""
    body = await request.body()
    with _header_noticed(request):
        proof = parsing.read_token_request(body)
    client = await gate.client(request, proof)
    return rendering.token_body(await authenticator.issue_token(client))


async def revoke_token(gate: Gate, authenticator: Authenticator, request: Request) -> bytes:
    """Revoke a token of the client."""
    body = await request.body()
    with _header_noticed(request):
        proof, token = parsing.read_revoke_request(body)
    await authenticator.revoke_token(await gate.client(request, proof), token)
    return rendering.REVOKED_BODY


@contextmanager
def _header_noticed(request: Request) -> Iterator[None]:
    """Raise `CredentialsInHeader` if credentials are sent as `client_secret_basic`."""
    try:
        yield
    except MissingParameter as missing:
        if missing.detail in parsing.PROOF_LABELS and is_basic(request.header(b"authorization")):
            raise CredentialsInHeader(missing.detail) from None
        raise
