"""The keeper process: what must exist once per server. The management listener, and removing expired tokens.

Run by the supervisor, never by hand. If it dies it is restarted; meanwhile reads go on.
"""

import asyncio
import logging
import socket
from contextlib import closing

from retinue import assemble
from retinue.clock import Clock, SystemClock
from retinue.errors import StoreUnavailable
from retinue.serving.child import live, serve_until_stopped
from retinue.settings import Settings
from retinue.store.base import AccessStore
from retinue.web.listener import management_server
from retinue.web.management import management_application

TIDY_SECONDS = 60

_LOGGER = logging.getLogger("retinue.keeper")


async def keep(settings: Settings, listener: socket.socket) -> None:
    """Keep the server's house until told to stop."""
    with closing(assemble.open_access(settings.store)) as access:
        tidying = asyncio.create_task(_tidy(access, SystemClock()))
        await serve_until_stopped(management_server(management_application(settings.store, access)), listener)
        tidying.cancel()


async def _tidy(access: AccessStore, clock: Clock) -> None:
    """Expired tokens are refused anyway; this only keeps the file small."""
    while True:
        try:
            await access.forget_tokens(clock.now())
        except StoreUnavailable as error:
            _LOGGER.warning("expired tokens stay for now: %s", error)
        await asyncio.sleep(TIDY_SECONDS)


if __name__ == "__main__":
    live(keep)
