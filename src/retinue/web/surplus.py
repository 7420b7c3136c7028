"""Refusal of connections beyond the limit.

A connection is read until its first request's head is complete, then refused and closed. That takes a few system calls
on a bare socket, so a server refuses several times more connections than it can serve.
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable

import httptools
from msgspec import Struct

from retinue.web.replies import Scope

MAX_REFUSALS = 512  # waiting for a request or for the client to close; a new one ends the oldest
BRIEF_SECONDS = 0.25  # for the request, and for the client to close, while no descriptor is left
_READ_BYTES = 8192
_MAX_READS = 8
_UNKNOWN = "-"

Refuse = Callable[[Scope], bytes]
Address = tuple[str, int] | None


class RefusedRequest:
    """The parts of a request that its refusal needs."""

    def __init__(self, client: Address, scheme: str) -> None:
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._method = _UNKNOWN
        self._target = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._client = client
        self._scheme = scheme
        self.is_head_read = False
        self.is_complete = False  # the whole request has arrived

    def feed(self, data: bytes) -> None:
        """Parse bytes. Invalid HTTP ends the head, and so does an upgrade."""
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            self.is_head_read = True
        if self._target:
            self._method = self._parser.get_method().decode("ascii")
        if self.is_head_read:
            self._parser = None  # breaks a reference cycle

    def scope(self) -> Scope:
        """Return what is known of the request as an ASGI scope."""
        # No endpoint's path is spelled with escapes, or with a host before it.
        path = self._target.partition(b"?")[0].decode("latin-1") if self._target else _UNKNOWN
        request = {"method": self._method, "path": path, "headers": self._headers}
        return {"type": "http", "scheme": self._scheme, "client": self._client, **request}

    def on_url(self, url: bytes) -> None:
        """Add a part of the target."""
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header."""
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Note that the head is complete."""
        self.is_head_read = True

    def on_message_complete(self) -> None:
        """Note that the request is complete."""
        self.is_complete = True


class _Open(Struct, frozen=True):
    request: RefusedRequest
    timer: asyncio.TimerHandle


_GoOn = Callable[[socket.socket, RefusedRequest], None]


class Refusals:
    """Refuses connections, once their first request has arrived. A silent connection has a few seconds to send it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, refuse: Refuse, seconds: float) -> None:
        self._loop = loop
        self._refuse = refuse
        self._seconds = seconds
        self._open: dict[socket.socket, _Open] = {}  # oldest first
        self._protocols: dict[RefusingProtocol, None] = {}

    def take(self, connection: socket.socket, client: Address) -> None:
        """Refuse a connection as soon as its request has arrived."""
        self._read(connection, RefusedRequest(client, "http"))

    def protocol(self, client: Address) -> "RefusingProtocol":
        """Return a protocol that refuses a connection over TLS."""
        if len(self._protocols) >= MAX_REFUSALS:
            oldest = next(iter(self._protocols))
            self._protocols.pop(oldest)
            oldest.abort()
        protocol = RefusingProtocol(self._loop, self._refuse, self._seconds, client, self._protocols)
        self._protocols[protocol] = None
        return protocol

    async def take_briefly(self, connection: socket.socket, client: Address) -> None:
        """Refuse and close a connection soon, so no descriptor stays open."""
        request = RefusedRequest(client, "http")
        with contextlib.closing(connection), contextlib.suppress(OSError):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BRIEF_SECONDS):
                    while not request.is_head_read:
                        data = await self._loop.sock_recv(connection, _READ_BYTES)
                        if not data:
                            return
                        request.feed(data)
            connection.send(self._refuse(request.scope()))
            if not request.is_complete:
                connection.shutdown(socket.SHUT_WR)
                async with asyncio.timeout(BRIEF_SECONDS):
                    while await self._loop.sock_recv(connection, _READ_BYTES):
                        pass

    def close(self) -> None:
        """Close all remaining connections."""
        for connection in list(self._open):
            self._end(connection)

    def _read(self, connection: socket.socket, request: RefusedRequest) -> None:
        try:
            data = connection.recv(_READ_BYTES)
        except BlockingIOError:
            self._wait(connection, self._read, request)
            return
        except OSError:
            data = b""
        request.feed(data)
        if not data:
            self._end(connection)
        elif request.is_head_read:
            self._answer(connection, request)
        else:
            self._wait(connection, self._read, request)

    def _answer(self, connection: socket.socket, request: RefusedRequest) -> None:
        try:
            connection.send(self._refuse(request.scope()))  # into an empty buffer, so no bytes can remain unsent
            if not request.is_complete:
                # Closing while the client is still sending would lose the answer.
                connection.shutdown(socket.SHUT_WR)
                self._wait(connection, self._drop, request)
                return
        except OSError:
            pass
        self._end(connection)

    def _drop(self, connection: socket.socket, _request: RefusedRequest) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(_MAX_READS):
                try:
                    data = connection.recv(_READ_BYTES)
                except ConnectionError:
                    data = b""
                if not data:
                    self._end(connection)
                    return

    def _wait(self, connection: socket.socket, go_on: _GoOn, request: RefusedRequest) -> None:
        if connection not in self._open:
            if len(self._open) >= MAX_REFUSALS:
                self._give_up(next(iter(self._open)))
            self._open[connection] = _Open(request, self._loop.call_later(self._seconds, self._give_up, connection))
        self._loop.add_reader(connection, go_on, connection, request)

    def _give_up(self, connection: socket.socket) -> None:
        """End a waiting connection; refuse it if its request never came."""
        request = self._open[connection].request
        if not request.is_head_read:
            with contextlib.suppress(OSError):
                connection.send(self._refuse(request.scope()))
        self._end(connection)

    def _end(self, connection: socket.socket) -> None:
        opened = self._open.pop(connection, None)
        if opened is not None:
            opened.timer.cancel()
            self._loop.remove_reader(connection)
        connection.close()


class RefusingProtocol(asyncio.Protocol):
    """Refuses a connection over TLS, after its handshake."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        refuse: Refuse,
        seconds: float,
        client: Address,
        open_ones: dict["RefusingProtocol", None],
    ) -> None:
        self._loop = loop
        self._refuse = refuse
        self._seconds = seconds
        self._request = RefusedRequest(client, "https")
        self._open_ones = open_ones
        self._is_answered = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the client's timer."""
        self.transport = transport
        self._loop.call_later(self._seconds, transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        _ = exc
        self._open_ones.pop(self, None)

    def abort(self) -> None:
        """Close the connection immediately."""
        if self.transport is not None:
            self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Refuse as soon as the head is complete."""
        if self._is_answered or self.transport is None:
            return
        self._request.feed(data)
        if self._request.is_head_read:
            self._is_answered = True
            self.transport.write(self._refuse(self._request.scope()))
            self.transport.close()
