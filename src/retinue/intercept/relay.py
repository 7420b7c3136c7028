"""The relay: a forward proxy and a TLS endpoint that lead TikTok's hosts to a server and block other hosts.

Clients that use a proxy and clients that connect to the endpoint get the server's own responses, byte for byte.
"""

import asyncio
import re
import ssl
import struct
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from socket import socket
from typing import cast
from urllib.parse import urlsplit

from msgspec import Struct

from retinue.errors import InputError
from retinue.intercept.authority import HTTP2, is_tiktok, is_tiktok_host
from retinue.intercept.exchanges import Exchanges
from retinue.intercept.traffic import Traffic

_CHUNK = 64 * 1024
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CONNECT = re.compile(rb"CONNECT \[?([^ /]+?)\]?:(\d{1,5}) HTTP/1\.[01]\r\n")
_ABSOLUTE = re.compile(rb"([A-Z]+) (https?)://([^ /:]+)(?::(\d{1,5}))?(/[^ ]*)? (HTTP/1\.[01])\r\n")
_CONNECTION = re.compile(rb"^(?:proxy-)?connection:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)

_SETTINGS, _GOAWAY, _HTTP_1_1_REQUIRED = 0x4, 0x7, 0xD  # RFC 9113
_LAST_BYTES_SECONDS = 2.0  # for bytes sent just before the command ended

_Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[], Awaitable[_Streams]]  # to the server; raises `OSError`


def parse_server(url: str) -> tuple[str, int, bool]:
    """Return a server's host, port, and whether it speaks TLS. Raises `InputError`."""
    expected = InputError(f"--server {url}: expected http://HOST:PORT or https://HOST:PORT")
    try:
        parts = urlsplit(url)
        port = parts.port or _DEFAULT_PORTS[parts.scheme]
    except (ValueError, KeyError):
        raise expected from None
    if not parts.hostname or parts.path.strip("/") or parts.query or parts.username:
        raise expected
    return parts.hostname, port, parts.scheme == "https"


class Listeners(Struct, frozen=True):
    """Listening sockets for proxy requests and for TLS."""

    proxy: list[socket]
    tls: list[socket]


class Relay:
    """Serves connections. `allow_network`: other hosts than TikTok's may be reached."""

    def __init__(self, connect: Connect, tls: ssl.SSLContext, traffic: Traffic, *, allow_network: bool) -> None:
        self._connect = connect
        self._tls = tls
        self._traffic = traffic
        self._allow_network = allow_network
        # The event loop has only weak references to tasks.
        self._tasks: set[asyncio.Task[None]] = set()

    @contextmanager
    def answering(self, listeners: Listeners) -> Iterator[None]:
        """Serve in a thread during the block."""
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        thread = threading.Thread(target=loop.run_until_complete, args=(self._serve(listeners, stop),))
        thread.start()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()

    async def _serve(self, listeners: Listeners, stop: asyncio.Event) -> None:
        sockets = [(each, self._serve_proxy) for each in listeners.proxy]
        sockets += [(each, self._over_tls) for each in listeners.tls]
        servers = [await asyncio.start_server(partial(self._accept, answer), sock=each) for each, answer in sockets]
        await stop.wait()
        for server in servers:
            server.close()
        await _finish(_LAST_BYTES_SECONDS)

    async def _accept(
        self,
        answer: Callable[[_Streams], Awaitable[None]],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        # Tasks are cancelled only at the end of the run; Python 3.11 would report a cancelled connection task.
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.add(task)
        try:
            with suppress(OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
                await answer((reader, writer))
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _serve_proxy(self, client: _Streams) -> None:
        head = await client[0].readuntil(b"\r\n\r\n")
        if tunnel := _CONNECT.match(head):
            await self._tunnel(client, tunnel[1].decode("latin-1"), int(tunnel[2]))
        elif (plain := _ABSOLUTE.match(head)) and _is_tiktok_request(plain):
            await self._to_server(client, _origin_form(plain, head))
        elif plain:
            await self._block(client, plain[3].decode("latin-1"))
        else:
            await _refuse(client, "400 Not asked as a proxy", "retinue run: this is a proxy; it was asked as a server")

    async def _tunnel(self, client: _Streams, host: str, port: int) -> None:
        if is_tiktok(host, port):
            await _established(client)
            await self._over_tls(client)
        elif self._allow_network and not is_tiktok_host(host):
            await self._to_other(client, host, port)
        else:
            await self._block(client, host)

    async def _over_tls(self, client: _Streams) -> None:
        try:
            await client[1].start_tls(self._tls)
            first = await client[0].read(_CHUNK)  # an alert may follow the handshake
        except OSError as error:
            self._traffic.add_tls_failure(error)
            return
        if not first:
            self._traffic.silent += 1
        elif client[1].get_extra_info("ssl_object").selected_alpn_protocol() == HTTP2:
            self._traffic.http2_only += 1
            await _refuse_http2(client)
        else:
            await self._to_server(client, first)

    async def _to_server(self, client: _Streams, head: bytes = b"") -> None:
        """Connect a client, which sent `head` already, with the server."""
        try:
            server = await self._connect()
        except OSError as error:
            await _refuse(client, "502 Server not reached", f"retinue run: the server cannot be reached: {error}")
            return
        exchanges = Exchanges(self._traffic)
        exchanges.sent(head)
        server[1].write(head)
        await _exchange(client, server, exchanges)

    async def _to_other(self, client: _Streams, host: str, port: int) -> None:
        try:
            other = await asyncio.open_connection(host, port)
        except OSError as error:
            await _refuse(client, "502 Host not reached", f"retinue run: {host} cannot be reached: {error}")
            return
        await _established(client)
        await _exchange(client, other)

    async def _block(self, client: _Streams, host: str) -> None:
        self._traffic.blocked[host] += 1
        way = "only https leads to the server" if is_tiktok_host(host) else "--allow-network lets it through"
        text = f"{host} is blocked by retinue run; {way}"
        await _refuse(client, f"403 Blocked by retinue run: {host}", text)


async def _finish(seconds: float) -> None:
    """Wait some seconds for other tasks, and cancel the rest."""
    own = {asyncio.current_task()}
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while running := asyncio.all_tasks() - own:
                await asyncio.wait(running)
    while running := asyncio.all_tasks() - own:
        for task in running:
            task.cancel()
        await asyncio.wait(running)


async def _exchange(client: _Streams, server: _Streams, exchanges: Exchanges | None = None) -> None:
    """Copy bytes both ways until the server closes."""
    sent, delivered = (exchanges.sent, exchanges.delivered) if exchanges else (_ignore, _ignore)
    upward = asyncio.create_task(_copy(client[0], server[1], before=sent))
    try:
        await _copy(server[0], client[1], after=delivered)
        if exchanges:
            exchanges.ended(by_client=client[0].at_eof() or client[0].exception() is not None)
    finally:
        upward.cancel()
        server[1].close()


def _ignore(_data: bytes) -> None:
    """Count nothing."""


async def _copy(
    source: asyncio.StreamReader,
    sink: asyncio.StreamWriter,
    *,
    before: Callable[[bytes], None] = _ignore,
    after: Callable[[bytes], None] = _ignore,
) -> None:
    """Copy bytes one way; report them `before` or `after` they are written."""
    with suppress(OSError):
        while data := await source.read(_CHUNK):
            before(data)
            sink.write(data)
            await sink.drain()
            after(data)
    # The other side may still answer. TLS cannot close one direction only.
    if sink.can_write_eof():
        sink.write_eof()
    else:
        sink.close()


async def _established(client: _Streams) -> None:
    client[1].write(b"HTTP/1.1 200 Connection established\r\n\r\n")
    await client[1].drain()


async def _refuse(client: _Streams, status: str, text: str) -> None:
    """Refuse with a reason; many clients show only the status line."""
    body = f"{text}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
    client[1].write(f"{head}Connection: close\r\n\r\n".encode() + body)
    await client[1].drain()


async def _refuse_http2(client: _Streams) -> None:
    """Refuse with a reason in HTTP/2 frames: SETTINGS and GOAWAY."""
    text = b"retinue run: only HTTP/1.1 is spoken here"
    goaway = struct.pack(">II", 0, _HTTP_1_1_REQUIRED) + text
    for kind, payload in ((_SETTINGS, b""), (_GOAWAY, goaway)):
        client[1].write(len(payload).to_bytes(3) + bytes([kind]) + bytes(5) + payload)
    await client[1].drain()
    async with asyncio.timeout(_LAST_BYTES_SECONDS):  # unread bytes would reset the connection and lose the GOAWAY
        await client[0].read()


def _is_tiktok_request(request: re.Match[bytes]) -> bool:
    # Of a client such as axios, which uses no tunnel.
    port = int(request[4] or _DEFAULT_PORTS[request[2].decode()])
    return request[2] == b"https" and is_tiktok(request[3].decode("latin-1"), port)


def _origin_form(request: re.Match[bytes], head: bytes) -> bytes:
    # The server must close the connection, since the next request may be for another host.
    headers = _CONNECTION.sub(b"", head[request.end() :])
    return b"%b %b %b\r\nConnection: close\r\n%b" % (request[1], request[5] or b"/", request[6], headers)
