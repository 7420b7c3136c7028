"""The start and the stop of workers and coordinator."""

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvicorn
import uvloop
from msgspec import json

from retinue import streams
from retinue.errors import RetinueError
from retinue.key_pair import KeyPair
from retinue.serving import logs
from retinue.serving.child_config import FAILED, LOST_RECORDS, ChildConfig
from retinue.serving.confinement import confine
from retinue.store.open import Store, open_store
from retinue.web.listener import ListenerTls

_PIPE_BYTES = 64 * 1024

Main = Callable[[ChildConfig, Store], Coroutine[Any, Any, bool]]  # returns whether no audit record was lost

_LOGGER = logging.getLogger("retinue.serving")


def run_child(main: Main, role: str) -> None:
    """Run a child process, configured by the first line of stdin."""
    streams.install()
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as unbuffered:  # later lines stay in the pipe
        line = unbuffered.readline()
    if not line:
        return  # the supervisor has ended
    config = json.decode(line, type=ChildConfig)
    logs.set_up(config.settings, role)
    store = open_store(config.settings.store, config.settings.cache_dir)
    confine(config.settings, store, role)
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn repeats a signal when it is done with it; what is open must be closed after that.
        signal.signal(number, lambda _number, _frame: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            is_complete = runner.run(main(config, store))
        except (RetinueError, OSError) as error:
            _LOGGER.error("%s ends: %s", role, error)  # noqa: TRY400 - no fault of ours
            sys.exit(FAILED)
    if not is_complete:
        sys.exit(LOST_RECORDS)


async def serve_until_stopped(server: uvicorn.Server, config: ChildConfig, tls: ListenerTls | None = None) -> None:
    """Serve until a signal arrives or the supervisor ends.

    Requests in flight are finished. Each line from the supervisor is a key pair to use from now on.
    """
    loop, unread = asyncio.get_running_loop(), bytearray()

    def receive() -> None:
        received = os.read(sys.stdin.fileno(), _PIPE_BYTES)
        if not received:  # the supervisor has ended
            loop.remove_reader(sys.stdin)
            server.should_exit = True
        unread.extend(received)
        while b"\n" in unread:
            line, _, rest = bytes(unread).partition(b"\n")
            unread[:] = rest
            if tls is not None:
                tls.replace(json.decode(line, type=KeyPair))

    loop.add_reader(sys.stdin, receive)
    await server.serve(sockets=[socket.socket(fileno=config.listener)])
    # Requests that the stop cut off get their answer and their record.
    await asyncio.gather(*server.server_state.tasks, return_exceptions=True)
