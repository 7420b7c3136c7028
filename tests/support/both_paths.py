"""One application behind two servers: with the fast path, and with the ASGI path alone."""

import asyncio
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from retinue.model import FollowEvent
from retinue.settings import Settings
from retinue.web.listener import bind, public_server
from support.service import FOLLOWING, Service
from support.waiting import waiting_until_read

FAST, ASGI = 0, 1
PLAIN = b'{"username":"p"}'
CLOSE = b"Connection: close"
CHANGING = re.compile(rb"date: [^\r]*\r\n|[0-9]{14}[0-9A-F]{20}|ratelimit-re[a-z]*: [0-9]+")


@pytest.fixture
def ports(service: Service) -> Iterator[tuple[int, int]]:
    """Two servers on one application: one with the fast path, one without."""
    service.follow("p", *((f"f{n}", 1_600_000_000 + n) for n in range(150)))
    service.add_follows(*((f"f{n}", "p", 1_600_000_000 + n) for n in range(150)))
    service.apply(*(FollowEvent(f"f{n}", "p", 1_650_000_000, is_follow=False) for n in range(9)))
    servers, threads, ports = [], [], []
    for fast_path in (service.fast_path, None):
        listener = bind("127.0.0.1", 0)
        server = public_server(service.application, Settings(), fast_path)
        thread = threading.Thread(target=asyncio.run, args=(server.serve(sockets=[listener]),))
        thread.start()
        servers.append(server)
        threads.append(thread)
        ports.append(listener.getsockname()[1])
    yield ports[FAST], ports[ASGI]
    for server, thread in zip(servers, threads, strict=True):
        server.should_exit = True
        thread.join()


def responses_to(port: int, *pieces: bytes) -> bytes:
    """Return the responses to bytes sent in pieces, without their changing parts.

    End when the server closes the connection, or after a second of silence.
    """
    received: list[bytes] = []
    with (
        socket.create_connection(("127.0.0.1", port), timeout=1) as connection,
        suppress(TimeoutError, ConnectionError),
    ):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        waiting_until_read(connection)
        while more := connection.recv(65536):
            received.append(more)
    return CHANGING.sub(b"*", b"".join(received))


def request(token: str, body: bytes, *headers: bytes, target: str = FOLLOWING) -> bytes:
    """Return the bytes of a POST request."""
    head = f"POST {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"".join(header + b"\r\n" for header in headers) + b"\r\n" + body


def response_to(port: int, sent: bytes) -> bytes:
    """Return the response to one request on its own connection, without its changing parts."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        return CHANGING.sub(b"*", read_response(connection))


def read_response(connection: socket.socket) -> bytes:
    """Read one whole response."""
    response = b""
    while not response.endswith(b'"}}') and (more := connection.recv(65536)):
        response += more
    return response


def responses_after_shutdown(port: int, sent: bytes) -> bytes:
    """Return the responses to a client that sends everything and then closes its sending half."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        while more := connection.recv(65536):
            received += more
    return CHANGING.sub(b"*", received)
