"""What workers and keeper have in common: how they get their settings, when they stop."""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable

import uvicorn
import uvloop
from msgspec import json

from retinue.settings import Settings

Life = Callable[[Settings, socket.socket], Awaitable[None]]


def live(life: Life) -> None:
    """Run a child process: settings from the first line of stdin, the listening socket from the first argument."""
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the supervisor was gone before it could say anything
    settings = json.decode(line, type=Settings)
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    if settings.log_level == "warning":
        # uvicorn warns of each request that is not HTTP or one too many; anybody could fill a disk with that.
        logging.getLogger("uvicorn").setLevel(logging.ERROR)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn repeats a signal when it is done with it; what is open must be closed after that.
        signal.signal(number, lambda _number, _frame: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_coroutine(life, settings, socket.socket(fileno=int(sys.argv[1]))))


async def serve_until_stopped(server: uvicorn.Server, listener: socket.socket) -> None:
    """Serve until a signal comes or the supervisor is gone, then let requests in flight finish."""

    def supervisor_is_gone() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        server.should_exit = True

    asyncio.get_running_loop().add_reader(sys.stdin, supervisor_is_gone)
    await server.serve(sockets=[listener])


async def _coroutine(life: Life, settings: Settings, listener: socket.socket) -> None:
    await life(settings, listener)
