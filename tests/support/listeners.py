"""A public listener in a thread of the test."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvloop

from retinue.settings import Settings
from retinue.web.limits import Limits
from retinue.web.listener import Server, bind, public_server
from support.service import Service
from support.waiting import PATIENCE_SECONDS


@dataclass(frozen=True, slots=True)
class Running:
    """A server in a thread."""

    server: Server
    port: int
    context: ssl.SSLContext | None = None

    def connect(self) -> socket.socket:
        """Return a new connection, without TLS."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS)

    def connect_securely(self) -> socket.socket:
        """Return a new connection after its handshake."""
        assert self.context is not None
        return self.context.wrap_socket(self.connect(), server_hostname="localhost")

    def connections(self) -> int:
        """Return how many connections the server has."""
        return len(self.server.server_state.connections)


@contextmanager
def serving(service: Service, limits: Limits, listener: socket.socket | None = None, **named: Any) -> Iterator[Running]:
    """A server with these limits, on an event loop as workers have."""
    listening = listener or bind("127.0.0.1", 0)
    context, tls = named.pop("context", None), named.pop("tls", None)
    server = public_server(service.application, Settings(**named), service.fast_path, limits=limits, tls=tls)

    def run() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(server.serve(sockets=[listening]))

    port = listening.getsockname()[1]
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield Running(server, port, context)
    finally:
        server.should_exit = True
        thread.join()


def rest_of(connection: socket.socket) -> bytes:
    """Return all bytes until the server closes."""
    received = b""
    while more := connection.recv(65536):
        received += more
    return received
