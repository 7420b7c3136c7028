"""Do what the protocol's generators say, over HTTP, on an event loop.

Proxies and authorities are taken from the environment, as most programs do; passwords from `.netrc` are not, since a
token stands where they would.
"""

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, TypeVar

import aiohttp

from retinue.client import connection_errors
from retinue.client.addresses import check_address, proxy_of
from retinue.client.connections import Connections, Service
from retinue.client.errors import ClientError
from retinue.client.protocol import ApiProtocol, Flow, NeedToken, NoResponse, SendRequest
from retinue.client.responses import HttpResponse
from retinue.errors import InputError

# Of an answer. A page of 100 rows has 10 to 40 KB; this leaves room for long names, and 32 at once fit into memory.
MOST_BYTES = 4 << 20
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_BAD_REQUEST = 400  # as servers answer plain HTTP on a port for TLS

_T = TypeVar("_T")

OnWait = Callable[[float, str], None]  # for how many seconds, and why


class Transport:
    """Runs generators, any number at once. `sleep` takes seconds; `on_wait` is told before each."""

    def __init__(
        self, protocol: ApiProtocol, target: Service, sleep: Callable[[float], Awaitable[None]], on_wait: OnWait
    ) -> None:
        check_address(target.url)
        self._protocol = protocol
        self._target = target
        self._url = target.url.rstrip("/")
        self._sleep = sleep
        self._on_wait = on_wait
        self._proxy = proxy_of(self._url)
        self._is_closed = False
        self._connections: Connections | None = None

    async def run(self, steps: Flow[_T]) -> _T:
        """What a generator returns in the end."""
        said: Any = None
        try:
            while True:
                effect = steps.send(said)
                if isinstance(effect, SendRequest):
                    said = await self._send(effect)
                elif isinstance(effect, NeedToken):
                    said = await self.token(effect.refused)
                else:
                    said = None
                    self._on_wait(effect.seconds, effect.reason)
                    await self._sleep(effect.seconds)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's result has no type
        finally:
            steps.close()

    async def close(self) -> None:
        """Close all connections, for good."""
        self._is_closed = True
        if self._connections is not None:
            await self._connections.close()

    async def token(self, refused: str | None) -> str:
        """Return a good token. However many tasks wait for one, it is fetched once; a failure is one for all."""
        known = self._protocol.known_token(refused)
        if known is not None:
            return known
        connections = await self._opened()
        if connections.fetching is None:
            connections.fetching = asyncio.create_task(self._fetch(connections))
        try:
            return await asyncio.shield(connections.fetching)
        except ClientError as error:
            raise copy(error) from None  # one for each: what it says of a list is filled in by who reads that

    async def _fetch(self, connections: Connections) -> str:
        try:
            return await self.run(self._protocol.fetch_token())
        finally:
            connections.fetching = None

    async def _send(self, ask: SendRequest) -> HttpResponse | NoResponse:
        connections = await self._opened()
        reply: HttpResponse | NoResponse
        try:
            reply = await self._post(connections, ask)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            reply = connection_errors.broken(error, self._url)
        return connection_errors.needs_tls(self._url) if await self._is_plain_by_mistake(reply) else reply

    async def _post(self, connections: Connections, ask: SendRequest) -> HttpResponse:
        sent = {"Content-Type": _FORM if ask.token is None else _JSON}
        if ask.token is not None:
            sent["Authorization"] = f"Bearer {ask.token}"
        url = self._url + ask.path
        # All of it has to be over in time: name, connection, proxy, headers, body.
        async with (
            connections.free,
            asyncio.timeout(self._target.timeout_seconds),
            connections.session.post(url, data=ask.body, headers=sent, allow_redirects=False) as response,
        ):
            body = await _whole(response.content)
            return HttpResponse(
                response.status, body, {name.lower(): text for name, text in response.headers.items()}, url
            )

    async def _is_plain_by_mistake(self, reply: HttpResponse | NoResponse) -> bool:
        """Return whether a service that never answered is asked without TLS on a port that speaks it."""
        is_strange = reply.max_attempts is None if isinstance(reply, NoResponse) else reply.status == _BAD_REQUEST
        is_plain = self._url.startswith("http:") and self._proxy is None
        is_mistake = is_strange and is_plain and not self._protocol.has_answered
        return is_mistake and await connection_errors.speaks_tls(self._url)

    async def _opened(self) -> Connections:
        """Return the connections of this event loop. Those of a loop that is over are replaced."""
        if self._is_closed:
            raise InputError("the client is closed")
        before = self._connections
        if before is not None and before.is_usable():
            return before
        if before is not None and not before.is_over():
            raise InputError("the client is in use on another event loop; make one client for each loop")
        self._connections = opened = Connections(self._target, self._proxy)
        if before is not None:
            await before.close()
        return opened


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """Return a whole body. Raises `ValueError` if it is larger than any answer of the contract."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
    return bytes(body)
