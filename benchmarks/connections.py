"""Requests through whole connections, in one process and without sockets."""

import asyncio
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import uvloop

from retinue.settings import Settings
from retinue.web.asgi import Application
from retinue.web.fast_path import FastPath
from retinue.web.listener import public_server

CONNECTIONS = 16
_ADDRESSES = {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}

Connect = Callable[[], asyncio.Protocol]


class Sink:
    """A transport that drops what is written."""

    def __init__(self) -> None:
        self.is_written = False

    def write(self, data: bytes) -> None:
        """Drop bytes."""
        self.is_written = bool(data)

    def is_closing(self) -> bool:
        """Return False: it never closes."""
        return False

    def get_extra_info(self, name: str) -> Any:
        """Return the address of an end."""
        return _ADDRESSES.get(name)

    def pause_reading(self) -> None:
        """Ignore the call."""

    resume_reading = close = pause_reading


def connecting(application: Application, fast_path: FastPath | None) -> Connect:
    """Return a function that makes connections of a public listener. Call it in an event loop."""
    server = public_server(application, Settings(), fast_path)
    server.config.load()
    protocol: Any = server.config.http_protocol_class
    return partial(protocol, config=server.config, server_state=server.server_state, app_state={})


def microseconds(make: Callable[[], Connect], packets: Sequence[bytes]) -> float:
    """Return the microseconds of processor time per request, on several connections."""

    async def measure() -> float:
        connect = make()
        connections: list[tuple[Any, Any]] = []
        for _ in range(CONNECTIONS):
            connection, sink = connect(), Sink()
            connection.connection_made(sink)  # type: ignore[arg-type]
            connections.append((connection, sink))
        started = time.process_time()
        for first in range(0, len(packets), CONNECTIONS):
            await _answered(connections, packets[first : first + CONNECTIONS])
        took = time.process_time() - started
        for connection, _ in connections:
            connection.connection_lost(None)
        return took / len(packets) * 1e6

    return uvloop.run(measure())


async def _answered(connections: Sequence[tuple[Any, Any]], packets: Sequence[bytes]) -> None:
    asked = list(zip(connections, packets, strict=False))
    for (connection, sink), packet in asked:
        sink.is_written = False
        connection.data_received(packet)
    while not all(sink.is_written for (_, sink), _ in asked):  # noqa: ASYNC110 - an event would cost time too
        await asyncio.sleep(0)
    await asyncio.sleep(0)  # the tasks of the ASGI path end
