"""An event loop in its own thread, for blocking code."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any, TypeVar

from retinue.clock import new_event_loop
from retinue.errors import InputError

_CLOSED = "the client is closed"

_T = TypeVar("_T")


class LoopThread:
    """Runs coroutines of many threads on one event loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False

    def run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Return the result of a coroutine. Raises `InputError` if the loop is closed first."""
        with self._lock:
            if self._is_closed:
                coroutine.close()
                raise InputError(_CLOSED)
            waiting = asyncio.run_coroutine_threadsafe(coroutine, self._started())
        try:
            return waiting.result()
        except CancelledError:
            raise InputError(_CLOSED) from None
        except BaseException:  # such as Ctrl-C, while we wait
            waiting.cancel()
            raise

    def close(self, end: Callable[[], Awaitable[None]]) -> None:
        """Cancel all coroutines, run `end`, and stop the loop."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
            loop = self._started()
        asyncio.run_coroutine_threadsafe(_end(end), loop).result()
        loop.call_soon_threadsafe(loop.stop)

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), name="retinue-client", daemon=True).start()
        return self._loop


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


async def _end(end: Callable[[], Awaitable[None]]) -> None:
    cancelled = asyncio.all_tasks() - {asyncio.current_task()}
    for task in cancelled:
        task.cancel()
    await asyncio.gather(*cancelled, return_exceptions=True)
    await end()
