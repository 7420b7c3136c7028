"""The transport: runs the protocol's generators over HTTP."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy
from typing import Any, TypeVar

import aiohttp
from msgspec import Struct

from retinue.client import connection_errors
from retinue.client.addresses import check_address, proxy_of
from retinue.client.errors import ClientError
from retinue.client.protocol import ApiProtocol, Flow, NeedToken, NoResponse, SendRequest
from retinue.client.responses import HttpResponse
from retinue.errors import InputError

# A page of 100 rows has 10 to 40 KB. This leaves room for long names, and 32 responses at once fit into memory.
MAX_BYTES = 4 << 20
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_BAD_REQUEST = 400  # the usual answer to plain HTTP on a TLS port

_T = TypeVar("_T")

OnWait = Callable[[float, str], None]  # seconds and reason


class Service(Struct, frozen=True):
    """A service and the limits of its use. Raises `InputError`."""

    url: str
    connections: int
    timeout_seconds: float

    def __post_init__(self) -> None:
        """Validate the values."""
        check_address(self.url)
        if self.connections < 1:
            raise InputError(f"connections: expected at least 1, not {self.connections}")
        if not self.timeout_seconds > 0:
            raise InputError(f"timeout_seconds: expected more than 0, not {self.timeout_seconds}")


class Connections:
    """The HTTP session and the token request of one event loop."""

    def __init__(self, service: Service, proxy: str | None) -> None:
        self.free = asyncio.Semaphore(service.connections)
        self.fetching: asyncio.Task[str] | None = None
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=service.connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._loop = asyncio.get_running_loop()
        self._process_id = os.getpid()

    def is_usable(self) -> bool:
        """Return whether these belong to the running event loop."""
        return self._is_of_this_process() and self._loop is asyncio.get_running_loop()

    def is_over(self) -> bool:
        """Return whether their loop is closed or another process's."""
        return self._loop.is_closed() or not self._is_of_this_process()

    async def close(self) -> None:
        """Close all connections; drop those of a closed loop."""
        if self.is_usable():
            if self.fetching is not None:
                self.fetching.cancel()
                with suppress(asyncio.CancelledError, ClientError):
                    await self.fetching
        elif not self._is_of_this_process() and self._loop is not asyncio.get_running_loop():
            self._disown()
        elif not self._loop.is_closed():
            return  # another thread still runs them
        await self.session.close()

    def _disown(self) -> None:
        # Both processes share the selector: closing a socket properly here would unregister it in the parent.
        with suppress(AttributeError):  # loops not written in Python
            self._loop.is_closed = lambda: True  # type: ignore[method-assign]
        self._loop.set_exception_handler(lambda *_: None)

    def _is_of_this_process(self) -> bool:
        return self._process_id == os.getpid()


class Transport:
    """Runs any number of generators at once. `on_wait` is called before each wait."""

    def __init__(
        self, protocol: ApiProtocol, service: Service, sleep: Callable[[float], Awaitable[None]], on_wait: OnWait
    ) -> None:
        self._protocol = protocol
        self._service = service
        self._url = service.url.rstrip("/")
        self._sleep = sleep
        self._on_wait = on_wait
        self._proxy = proxy_of(self._url)
        self._is_closed = False
        self._connections: Connections | None = None

    async def run(self, flow: Flow[_T]) -> _T:
        """Return the result of a generator."""
        reply: Any = None
        try:
            while True:
                effect = flow.send(reply)
                if isinstance(effect, SendRequest):
                    reply = await self._send(effect)
                elif isinstance(effect, NeedToken):
                    reply = await self.token(effect.refused)
                else:
                    reply = None
                    self._on_wait(effect.seconds, effect.reason)
                    await self._sleep(effect.seconds)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's result has no type
        finally:
            flow.close()

    async def close(self) -> None:
        """Close all connections permanently."""
        self._is_closed = True
        if self._connections is not None:
            await self._connections.close()

    async def token(self, refused: str | None) -> str:
        """Return a valid token. Tasks share one request for it, and its failure."""
        cached = self._protocol.cached_token(refused)
        if cached is not None:
            return cached
        connections = await self._opened()
        if connections.fetching is None:
            connections.fetching = asyncio.create_task(self._fetch(connections))
        try:
            return await asyncio.shield(connections.fetching)
        except ClientError as error:
            raise copy(error) from None  # each reader adds the rows of its own list

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
            reply = connection_errors.no_response(error, self._url)
        return connection_errors.needs_tls(self._url) if await self._is_missing_tls(reply) else reply

    async def _post(self, connections: Connections, ask: SendRequest) -> HttpResponse:
        sent = {"Content-Type": _FORM if ask.token is None else _JSON}
        if ask.token is not None:
            sent["Authorization"] = f"Bearer {ask.token}"
        url = self._url + ask.path
        # The timeout covers everything: name lookup, connection, proxy, headers and body.
        async with (
            connections.free,
            asyncio.timeout(self._service.timeout_seconds),
            connections.session.post(url, data=ask.body, headers=sent, allow_redirects=False) as response,
        ):
            body = await _whole(response.content)
            return HttpResponse(
                response.status, body, {name.lower(): text for name, text in response.headers.items()}, url
            )

    async def _is_missing_tls(self, reply: HttpResponse | NoResponse) -> bool:
        is_strange = reply.max_attempts is None if isinstance(reply, NoResponse) else reply.status == _BAD_REQUEST
        is_plain = self._url.startswith("http:") and self._proxy is None
        is_mistake = is_strange and is_plain and not self._protocol.has_answered
        return is_mistake and await connection_errors.speaks_tls(self._url)

    async def _opened(self) -> Connections:
        if self._is_closed:
            raise InputError("the client is closed")
        existing = self._connections
        if existing is not None and existing.is_usable():
            return existing
        if existing is not None and not existing.is_over():
            raise InputError("the client is in use on another event loop; make one client for each loop")
        self._connections = opened = Connections(self._service, self._proxy)
        if existing is not None:
            await existing.close()
        return opened


async def _whole(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > MAX_BYTES:
            raise ValueError(f"a response of more than {MAX_BYTES} bytes")
    return bytes(body)
