"""The writer of the audit log: receives records, writes them, saves the checkpoint, removes old files."""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import closing, suppress

from msgspec import structs

from retinue.access.contract import AuditStore, Checkpoint
from retinue.audit.channel import Batch
from retinue.audit.hash_chain import ChainHead
from retinue.audit.log import AuditLog
from retinue.audit.log_files import ExpiredFile, describe_loss, without_oldest
from retinue.audit.record import AuditRecord, encode_record, log_record
from retinue.audit.record_counters import RecordCounters
from retinue.audit.refusals import RefusalSummary, RefusalSums
from retinue.audit.space import SpaceMonitor
from retinue.audit.usage import RequestCounters
from retinue.clock import Clock
from retinue.errors import StoreUnavailable

CHECKPOINT_SECONDS = 1.0

_LOGGER = logging.getLogger("retinue.audit")


class AuditWriter:
    """Writes the audit log. It is the `AuditSink` of the coordinator's own records."""

    def __init__(
        self,
        log: AuditLog,
        checkpoint: Checkpoint,
        store: AuditStore,
        request_counters: RequestCounters,
        record_counters: RecordCounters,
        monitor: SpaceMonitor,
        clock: Clock,
    ) -> None:
        self._log = log
        self._checkpoint = checkpoint
        self._store = store
        self._saving = asyncio.Lock()
        self._request_counters = request_counters
        self.record_counters = record_counters
        self.sums = RefusalSums(clock)
        self.monitor = monitor
        self._clock = clock
        self.is_full = False

    @property
    def count(self) -> int:
        """The number of records ever written."""
        return self._log.written.count

    def measure(self) -> None:
        """Measure the space of the log again. Raises `OSError` or `StoreError`."""
        self.monitor.update(self._log.bytes_written)

    async def begin(self) -> None:
        """Open the checkpoint in the store; record losses of the previous run."""
        if self._log.fault:
            _LOGGER.error("the audit log is not as it was left: %s; see `retinue audit verify`", self._log.fault)
        await self._save_checkpoint(is_open=True)
        if self._log.has_resumed:
            self.record_counters.count_own()
        self._add_lost(self.record_counters.received - self._log.count)
        self.record_counters.follow_log(self._log.count)
        with suppress(OSError):  # reported with the first batch that cannot be written
            self._log.flush()

    def add(self, record: AuditRecord) -> None:
        """Write a record of the coordinator."""
        self.record_counters.count_own()
        try:
            self._write([encode_record(record)])
        except OSError as error:
            _LOGGER.error("the audit log cannot be written for now: %s", error)  # noqa: TRY400 - no fault of ours

    def write(self, batch: Batch) -> None:
        """Write a worker's records, or raise `OSError` and buffer them for `flush`."""
        self._add_lost(self.record_counters.receive(batch.worker, batch.first, len(batch.records)))
        self._write(batch.records)

    def flush(self) -> None:
        """Write buffered records. Raises `OSError`."""
        self._log.flush()
        self.monitor.require(self._log.bytes_written)
        self.is_full = False

    async def settle(self) -> None:
        """Write due sums, make the log durable, then save the checkpoint."""
        self._add_sums(self.sums.due())
        with suppress(OSError):  # reported with the next batch that cannot be written
            self.flush()
        if self._log.leave_removed_file():
            _LOGGER.error("a file of the audit log was removed; see `retinue audit verify`")
        if self._log.written.count == self.record_counters.made.count:
            self.record_counters.note_complete(self._clock.now())
        if self._log.written.count != self._checkpoint.count:
            await self._save_checkpoint(is_open=True)

    async def remove(self, file: ExpiredFile, now: int) -> bool:
        """Remove an old file after recording that; return whether it was possible."""
        if self._log.has_unwritten:
            return False
        if file.content is not None:
            self.record_counters.count_own()
            self._log.write([encode_record(log_record(code="removed", time=now, removed=file.content))])
            await self._save_checkpoint(is_open=True, last_removed=file.last)
        file.path.unlink(missing_ok=True)
        return True

    async def finish(self, *, is_complete: bool) -> bool:
        """Close the log; return whether it holds all records that were made."""
        self._add_sums(self.sums.close_window())
        missing = self.record_counters.made.count - self.record_counters.received
        if is_complete:
            self.record_counters.receive_all()
            self._add_lost(missing)
        is_written = self._is_flushed()
        try:
            with closing(self._log):  # the next start records the losses of an open checkpoint
                await self._save_checkpoint(is_open=not (is_complete and is_written))
        except (OSError, StoreUnavailable) as error:
            _LOGGER.error("the audit log was not closed in order: %s", error)  # noqa: TRY400 - no fault of ours
            return False
        return is_complete and is_written and not missing

    def _write(self, records: Sequence[bytes]) -> None:
        self._request_counters.add(records)
        single = self.sums.screen(records)
        self._add_sums(self.sums.due())
        self.is_full = True
        self._log.write(single)
        self.monitor.require(self._log.bytes_written)
        self.is_full = False

    def _add_sums(self, summaries: Sequence[RefusalSummary]) -> None:
        for summary in summaries:
            self._log.add_summed(summary.record, summary.count)
        self.record_counters.note_summing(self.sums.pending)

    def _add_lost(self, lost: int) -> None:
        if lost > 0:
            since = self.record_counters.made.since
            _LOGGER.error("audit records are lost: %s", describe_loss(lost, since, self._clock.now()))
            self._log.add_lost(lost, since)

    def _is_flushed(self) -> bool:
        try:
            self._log.flush()
        except OSError as error:
            lost = self.record_counters.made.count - self._log.written.count
            _LOGGER.error("%d audit records are lost: they could not be written: %s", lost, error)  # noqa: TRY400 - no fault of ours
            return False
        return True

    async def _save_checkpoint(self, *, is_open: bool, last_removed: ChainHead | None = None) -> None:
        async with self._saving:
            last = self._log.written
            await asyncio.to_thread(self._sync)
            checkpoint = structs.replace(self._checkpoint, count=last.count, hash=last.hash, is_open=is_open)
            if last_removed is not None:
                checkpoint = without_oldest(checkpoint, last_removed)
            await self._store.save_audit_checkpoint(checkpoint)
            self._checkpoint = checkpoint

    def _sync(self) -> None:
        self._log.sync()
        self.record_counters.sync()
