"""The connections of one event loop in one process."""

import asyncio
import os
from contextlib import suppress

import aiohttp
from msgspec import Struct

from retinue.client.errors import ClientError
from retinue.errors import InputError


class Service(Struct, frozen=True):
    """A service and the limits of its use. Raises `InputError`."""

    url: str
    connections: int = 32
    timeout_seconds: float = 60.0

    def __post_init__(self) -> None:
        """Validate the values."""
        if self.connections < 1:
            raise InputError(f"connections: expected at least 1, not {self.connections}")
        if not self.timeout_seconds > 0:
            raise InputError(f"timeout_seconds: expected more than 0, not {self.timeout_seconds}")


class Connections:
    """An HTTP session and a token request of the running event loop."""

    def __init__(self, service: Service, proxy: str | None) -> None:
        self.free = asyncio.Semaphore(service.connections)
        self.fetching: asyncio.Task[str] | None = None
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=service.connections),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            proxy=proxy,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._loop = asyncio.get_running_loop()
        self._process_id = os.getpid()

    def is_usable(self) -> bool:
        """Return whether these belong to the running event loop."""
        return self._is_of_this_process() and self._loop is asyncio.get_running_loop()

    def is_over(self) -> bool:
        """Return whether their loop is closed or another process's."""
        return self._loop.is_closed() or not self._is_of_this_process()

    async def close(self) -> None:
        """Close all connections; drop those of a closed loop."""
        if self.is_usable():
            if self.fetching is not None:
                self.fetching.cancel()
                with suppress(asyncio.CancelledError, ClientError):
                    await self.fetching
        elif not self._is_of_this_process() and self._loop is not asyncio.get_running_loop():
            self._disown()
        elif not self._loop.is_closed():
            return  # another thread still runs them
        await self.session.close()

    def _disown(self) -> None:
        # Both processes share the selector: closing a socket properly here would unregister it in the parent.
        with suppress(AttributeError):  # loops not written in Python
            self._loop.is_closed = lambda: True  # type: ignore[method-assign]
        self._loop.set_exception_handler(lambda *_: None)

    def _is_of_this_process(self) -> bool:
        return self._process_id == os.getpid()
