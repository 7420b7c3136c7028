"""A worker process: reads the store, answers the public listener. Run by the supervisor, never by hand."""

import gc
import socket
from contextlib import closing

from retinue import assemble
from retinue.clock import SystemClock
from retinue.serving.child import live, serve_until_stopped
from retinue.settings import Settings
from retinue.web.listener import public_server

# A request leaves little for the garbage collector, but each of its rounds walks through all the remembered rows.
GC_THRESHOLDS = (20_000, 50, 50)


async def work(settings: Settings, listener: socket.socket) -> None:
    """Answer until told to stop."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock = SystemClock()
    with (
        closing(assemble.open_wire_graph(settings.store, clock)) as graph,
        closing(assemble.open_access(settings.store)) as access,
    ):
        application = assemble.public_application(graph, access, clock)
        await serve_until_stopped(public_server(application, settings), listener)


if __name__ == "__main__":
    live(work)
