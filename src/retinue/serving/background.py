"""The coordinator's background tasks, and the thread that writes the graph."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from retinue.audit.recount import FutureDayWarnings, Recount
from retinue.audit.trusted_time import TrustedTime
from retinue.audit.writer import CHECKPOINT_SECONDS, AuditWriter
from retinue.clock import Clock
from retinue.errors import StoreError, StoreUnavailable
from retinue.store.contract import GraphWriter
from retinue.store.open import OpenAccess, OpenQuotas, OpenRowFile, OpenWriter

MAX_WAITING = 16  # pieces of work for the writer
MAINTENANCE_SECONDS = 1
ROWS_SECONDS = 0.3
RECOUNT_SECONDS = 1  # above a worker's wait before it sends its records

_Result = TypeVar("_Result")
Step = Callable[[], Awaitable[float]]  # returns how many seconds to pause

_LOGGER = logging.getLogger("retinue.coordinator")


class WriterThread:
    """Writes to the graph on a separate thread, piece by piece. The first piece opens the writer."""

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


async def repeat(step: Step, trouble: str, pause: float) -> None:
    """Run a step again and again until cancelled. After an error, log `trouble` and pause.

    No error ends the task, since its end would be noticed too late.
    """
    while True:
        seconds = pause
        try:
            seconds = await step()
        except (OSError, StoreError, StoreUnavailable) as error:
            _LOGGER.warning("%s: %s", trouble, error)
        except Exception:
            _LOGGER.exception(trouble)
        await asyncio.sleep(seconds)


async def settle(audit: AuditWriter, quotas: OpenQuotas) -> None:
    """Make records and counters survive a power loss, once a second."""

    async def step() -> float:
        await audit.settle()
        await asyncio.to_thread(quotas.settle)
        return CHECKPOINT_SECONDS

    await repeat(step, "audit and quotas are not safe from a power loss for now", CHECKPOINT_SECONDS)


async def recount(
    audit: AuditWriter, quotas: OpenQuotas, access: OpenAccess, folder: Path, trusted: TrustedTime
) -> None:
    """Restore damaged counters once all their records are in the log."""
    recount, days = Recount(quotas, folder), FutureDayWarnings()
    is_reported = False

    async def step() -> float:
        nonlocal is_reported
        if quotas.is_removed and not is_reported:
            is_reported = True
            _LOGGER.error(
                "the file of quota counters was removed: this server counts on in it, commands do not see it, "
                "and the next start counts the day's calls again from the audit log"
            )
        for sentence in days.warnings(quotas.newest_day(), trusted.latest()):
            _LOGGER.warning("%s", sentence)
        if not audit.is_full:
            made, received = audit.record_counters.made.count, audit.record_counters.received
            for sentence in await recount.of_damaged(access, trusted.latest(), made, received):
                _LOGGER.warning("%s", sentence)
        return RECOUNT_SECONDS

    await repeat(step, "damaged counters of quotas stay refused for now", RECOUNT_SECONDS)


async def maintain(graph: WriterThread, clock: Clock) -> None:
    """Relocate entries piece by piece. At least half of the time is left to other writers."""

    async def step() -> float:
        started = clock.elapsed()
        has_more = await graph.run(lambda writer: writer.run_maintenance())
        return clock.elapsed() - started if has_more else MAINTENANCE_SECONDS

    await repeat(step, "maintenance of the graph fails for now", MAINTENANCE_SECONDS)


async def update_rows(rows: OpenRowFile) -> None:
    """Keep the row file up to date: an erased name leaves it within a second."""

    async def step() -> float:
        return 0.0 if await asyncio.to_thread(rows.step) else ROWS_SECONDS

    await repeat(step, "rows are read from the store for now, without its row file", MAINTENANCE_SECONDS)
