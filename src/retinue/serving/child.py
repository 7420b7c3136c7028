"""What workers and keeper have in common: how they get what they need, when they stop."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import uvicorn
import uvloop
from msgspec import json

from retinue import streams
from retinue.errors import RetinueError
from retinue.key_pair import KeyPair
from retinue.serving import logs
from retinue.serving.confinement import confine
from retinue.serving.station import FAILED, LOST_RECORDS, Station
from retinue.web.listener import ListenerTls

_PIPE_BYTES = 64 * 1024

Life = Callable[[Station], Awaitable[bool]]  # whether no audit record was lost

_LOGGER = logging.getLogger("retinue.serving")


def live(life: Life, role: str) -> None:
    """Run a child process, which gets its station in the first line of stdin."""
    streams.install()
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:  # later lines stay in the pipe
        line = unbuffered.readline()
    if not line:
        return  # the supervisor was gone before it could say anything
    station = json.decode(line, type=Station)
    logs.set_up(station.settings, role)
    confine(station.settings, role)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn repeats a signal when it is done with it; what is open must be closed after that.
        signal.signal(number, lambda _number, _frame: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            is_complete = runner.run(_coroutine(life, station))
        except (RetinueError, OSError) as error:
            _LOGGER.error("%s ends: %s", role, error)  # noqa: TRY400 - no fault of ours
            sys.exit(FAILED)
    if not is_complete:
        sys.exit(LOST_RECORDS)


async def serve_until_stopped(server: uvicorn.Server, station: Station, tls: ListenerTls | None = None) -> None:
    """Serve until a signal comes or the supervisor is gone, then let requests in flight finish.

    Each line that the supervisor sends meanwhile is the key pair to use from now on.
    """
    loop, unread = asyncio.get_running_loop(), bytearray()

    def receive() -> None:
        received = os.read(sys.stdin.fileno(), _PIPE_BYTES)
        if not received:  # the supervisor is gone
            loop.remove_reader(sys.stdin)
            server.should_exit = True
        unread.extend(received)
        while b"\n" in unread:
            line, _, rest = bytes(unread).partition(b"\n")
            unread[:] = rest
            if tls is not None:
                tls.replace(json.decode(line, type=KeyPair))

    loop.add_reader(sys.stdin, receive)
    await server.serve(sockets=[station.open_listener()])
    # Requests that were cut off by the stop get their last word, and their record.
    await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


async def _coroutine(life: Life, station: Station) -> bool:
    return await life(station)
