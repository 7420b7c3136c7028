"""The keeper's side of the audit: takes records, writes the log, moves its anchor in the store, lets old files go."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import closing, suppress

import msgspec
from msgspec import structs

from retinue.access.audit import Record
from retinue.access.record_counters import RecordCounters
from retinue.access.tally import Tally
from retinue.access.trail import Trail, without_oldest
from retinue.clock import Clock
from retinue.errors import StoreUnavailable
from retinue.serving.audit_socket import Batch
from retinue.store.base import Anchor, AuditStore

ANCHOR_SECONDS = 1.0

_LOGGER = logging.getLogger("retinue.audit")
_encode = msgspec.json.Encoder().encode


class AuditKeeping:
    """Writes the audit log and keeps it anchored. It is an `Outbox` for the keeper's own records."""

    def __init__(
        self, trail: Trail, anchor: Anchor, store: AuditStore, tally: Tally, counters: RecordCounters, clock: Clock
    ) -> None:
        self._trail = trail
        self._counters = counters
        self._clock = clock
        self._anchor = anchor
        self._store = store
        self._tally = tally
        self.is_full = False

    @property
    def count(self) -> int:
        """How many records were ever written."""
        return self._trail.written.count

    async def begin(self) -> None:
        """Say in the store that records may come after the last that it knows of."""
        if self._trail.fault:
            _LOGGER.error("the audit log is not as it was left: %s; see `retinue audit verify`", self._trail.fault)
        await self._move(is_open=True)
        if self._trail.has_resumed:
            self._counters.count_own()
        self._note_lost(self._counters.received - self._trail.count)
        self._counters.follow_log(self._trail.count)
        with suppress(OSError):  # told with the first batch that cannot be written
            self._trail.flush()

    def add(self, record: Record) -> None:
        """Take a record of the keeper's own."""
        self._counters.count_own()
        try:
            self._write([_encode(record)])
        except OSError as error:
            _LOGGER.error("the audit log cannot be written for now: %s", error)  # noqa: TRY400 - no fault of ours

    def take(self, batch: Batch) -> None:
        """Write a worker's records. Raises `OSError`; then they are kept for `flush`."""
        self._note_lost(self._counters.receive(batch.worker, batch.first, len(batch.records)))
        self._write(batch.records)

    def _write(self, records: Sequence[bytes]) -> None:
        self._tally.add(records)
        self.is_full = True
        self._trail.write(records)
        self.is_full = False

    def flush(self) -> None:
        """Write what could not be written before. Raises `OSError`."""
        self._trail.flush()
        self.is_full = False

    async def settle(self) -> None:
        """Make the log durable up to now, then let the store know; and let go what is too old."""
        if self._trail.leave_removed_file():
            _LOGGER.error("a file of the audit log was removed; see `retinue audit verify`")
        if self._trail.written.count == self._counters.made.count:
            self._counters.note_complete(self._clock.now())
        if self._trail.written.count != self._anchor.count:
            await self._move(is_open=True)
        expired = self._trail.expired()
        if expired is not None:
            path, last = expired
            if last is not None:
                self._anchor = without_oldest(self._anchor, last)
                await self._store.move_audit_anchor(self._anchor)
            path.unlink(missing_ok=True)

    async def finish(self, *, is_complete: bool) -> bool:
        """Close the log; returns whether it holds everything that was made.

        Only if all came and is written does the store take what is there for the end. What is lost stays counted, and
        the next start writes that into the log, if it cannot be written now.
        """
        missing = self._counters.made.count - self._counters.received
        if is_complete:
            self._counters.receive_all()
            self._note_lost(missing)
        is_written = self._is_flushed()
        try:
            with closing(self._trail):
                await self._move(is_open=not (is_complete and is_written))
        except (OSError, StoreUnavailable) as error:
            _LOGGER.error("the audit log was not closed in order: %s", error)  # noqa: TRY400 - no fault of ours
            return False
        return is_complete and is_written and not missing

    def _is_flushed(self) -> bool:
        try:
            self._trail.flush()
        except OSError as error:
            lost = self._counters.made.count - self._trail.written.count
            _LOGGER.error("%d audit records are lost: they could not be written: %s", lost, error)  # noqa: TRY400 - no fault of ours
            return False
        return True

    def _note_lost(self, lost: int) -> None:
        if lost > 0:
            since = self._counters.made.since
            _LOGGER.error("%d audit records are lost, made between %d and now", lost, since)
            self._trail.add_lost(lost, since)

    async def _move(self, *, is_open: bool) -> None:
        last = self._trail.written
        await asyncio.to_thread(self._sync)
        anchor = structs.replace(self._anchor, count=last.count, hash=last.hash, is_open=is_open)
        await self._store.move_audit_anchor(anchor)
        self._anchor = anchor

    def _sync(self) -> None:
        self._trail.sync()
        self._counters.sync()
