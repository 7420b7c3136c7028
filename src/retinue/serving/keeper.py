"""The keeper process: what must exist once per server. The management listener, and tidying up in the background.

Run by the supervisor, never by hand. If it dies it is restarted; meanwhile reads go on.
"""

import asyncio
import logging
import socket
from contextlib import closing

from retinue import assemble
from retinue.clock import Clock, SystemClock
from retinue.errors import StoreUnavailable
from retinue.ingest.live import Outcome, apply_body
from retinue.serving.child import live, serve_until_stopped
from retinue.serving.graph_thread import GraphThread
from retinue.serving.token import token_of
from retinue.settings import Settings
from retinue.store.base import AccessStore
from retinue.web.listener import management_server
from retinue.web.management import management_application

FORGET_SECONDS = 60
TIDY_SECONDS = 1

_LOGGER = logging.getLogger("retinue.keeper")


async def keep(settings: Settings, listener: socket.socket) -> None:
    """Keep the server's house until told to stop."""
    clock = SystemClock()
    with (
        closing(assemble.open_access(settings.store)) as access,
        closing(GraphThread(lambda: assemble.open_graph_writer(settings.store, clock))) as graph,
    ):

        async def apply_events(body: bytes) -> Outcome:
            received_at = clock.now()
            return await graph.run(lambda writer: apply_body(writer, body, received_at))

        chores = [asyncio.create_task(chore) for chore in (_forget(access, clock), _tidy(graph, clock))]
        application = management_application(settings.store, access, token_of(settings), apply_events)
        await serve_until_stopped(management_server(application), listener)
        for chore in chores:
            chore.cancel()


async def _forget(access: AccessStore, clock: Clock) -> None:
    """Expired tokens are refused anyway; this only keeps the file small."""
    while True:
        try:
            await access.forget_tokens(clock.now())
        except StoreUnavailable as error:
            _LOGGER.warning("expired tokens stay for now: %s", error)
        await asyncio.sleep(FORGET_SECONDS)


async def _tidy(graph: GraphThread, clock: Clock) -> None:
    """Readers get along with what is not tidied yet; so this leaves at least half of the time to others."""
    while True:
        started = clock.elapsed()
        try:
            has_more = await graph.run(lambda writer: writer.tidy())
        except StoreUnavailable as error:
            _LOGGER.warning("the graph is not tidied for now: %s", error)
            has_more = False
        except Exception:  # a chore that ended without a word would be missed too late
            _LOGGER.exception("the graph is not tidied for now")
            has_more = False
        await asyncio.sleep(clock.elapsed() - started if has_more else TIDY_SECONDS)


if __name__ == "__main__":
    live(keep)
