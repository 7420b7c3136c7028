"""The coordinator's writes to the graph, on a separate thread."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from retinue.errors import StoreError, StoreUnavailable
from retinue.store.contract import GraphWriter
from retinue.store.open import OpenWriter

MAX_WAITING = 16

_Result = TypeVar("_Result")


class WriterThread:
    """Runs pieces of work one by one. The first one opens the writer."""

    def __init__(self, open_writer: Callable[[], OpenWriter]) -> None:
        self._open_writer = open_writer
        self._writer: OpenWriter | None = None
        self._waiting = 0
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="graph-writer")

    async def run(self, work: Callable[[GraphWriter], Coroutine[Any, Any, _Result]]) -> _Result:
        """Run a piece of work after those before it. Raises `StoreUnavailable`, also if too many wait."""
        if self._waiting >= MAX_WAITING:
            raise StoreUnavailable(f"{MAX_WAITING} writes are waiting already")
        self._waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, work)
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Finish the current piece, drop those that wait, and close the writer."""
        self._thread.shutdown(cancel_futures=True)
        if self._writer is not None:
            self._writer.close()

    def _run(self, work: Callable[[GraphWriter], Coroutine[Any, Any, _Result]]) -> _Result:
        if self._writer is None:
            try:
                self._writer = self._open_writer()
            except StoreError as error:
                raise StoreUnavailable(str(error)) from error
        return asyncio.run(work(self._writer))
