"""The connections of one event loop in one process."""

import asyncio
import os
from contextlib import suppress

import aiohttp
from msgspec import Struct

from retinue.client.errors import ClientError
from retinue.errors import InputError


class Service(Struct, frozen=True):
    """Whom to ask, over how many connections at most, and how long to wait for one answer. Raises `InputError`."""

    url: str
    connections: int = 32
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Refuse values with which no answer could come."""
        if self.connections < 1:
            raise InputError(f"connections: expected at least 1, not {self.connections}")
        if not self.timeout_seconds > 0:
            raise InputError(f"timeout_seconds: expected more than 0, not {self.timeout_seconds}")


class Connections:
    """A session of the HTTP library, and who is fetching a token, on the event loop that runs now."""

    def __init__(self, target: Service, proxy: str | None) -> None:
        self.free = asyncio.Semaphore(target.connections)
        self.fetching: asyncio.Task[str] | None = None
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=target.connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._loop = asyncio.get_running_loop()
        self._process_id = os.getpid()

    def is_usable(self) -> bool:
        """Return whether these belong to the event loop that runs now."""
        return self._is_of_this_process() and self._loop is asyncio.get_running_loop()

    def is_over(self) -> bool:
        """Return whether they can be replaced: their loop is closed, or stayed in the parent process of a fork."""
        return self._loop.is_closed() or not self._is_of_this_process()

    async def close(self) -> None:
        """Close all connections, or drop them if their loop is over."""
        if self.is_usable():
            if self.fetching is not None:
                self.fetching.cancel()
                with suppress(asyncio.CancelledError, ClientError):
                    await self.fetching
        elif not self._is_of_this_process() and self._loop is not asyncio.get_running_loop():
            self._disown()
        elif not self._loop.is_closed():
            return  # another thread's, which still runs
        await self.session.close()

    def _disown(self) -> None:
        """Keep the parent's loop from being touched by this process, also when objects are finalized.

        Both processes share its selector: to close a socket properly here would unregister it there.
        """
        with suppress(AttributeError):  # loops that are not written in Python
            self._loop.is_closed = lambda: True  # type: ignore[method-assign]
        self._loop.set_exception_handler(lambda *_: None)

    def _is_of_this_process(self) -> bool:
        return self._process_id == os.getpid()
