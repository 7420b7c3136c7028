"""What workers and keeper have in common: how they get what they need, when they stop."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable

import uvicorn
import uvloop
from msgspec import json

from retinue import streams
from retinue.serving import logs
from retinue.serving.station import Station

Life = Callable[[Station], Awaitable[None]]


def live(life: Life, role: str) -> None:
    """Run a child process, which gets its station in the first line of stdin."""
    streams.install()
    line = sys.stdin.buffer.readline()
    if not line:
        return  # the supervisor was gone before it could say anything
    station = json.decode(line, type=Station)
    logs.set_up(station.settings, role)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn repeats a signal when it is done with it; what is open must be closed after that.
        signal.signal(number, lambda _number, _frame: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_coroutine(life, station))


async def serve_until_stopped(server: uvicorn.Server, station: Station) -> None:
    """Serve until a signal comes or the supervisor is gone, then let requests in flight finish."""

    def supervisor_is_gone() -> None:
        asyncio.get_running_loop().remove_reader(sys.stdin)
        server.should_exit = True

    asyncio.get_running_loop().add_reader(sys.stdin, supervisor_is_gone)
    await server.serve(sockets=[station.open_listener()])
    # Requests that were cut off by the stop get their last word, and their record.
    await asyncio.gather(*server.server_state.tasks, return_exceptions=True)


async def _coroutine(life: Life, station: Station) -> None:
    await life(station)
