"""The coordinator's side of the audit on a failing disk: every call fails in turn, also while it stops."""

import asyncio
import errno
import os
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path

import pytest

from retinue.audit.channel import Batch
from retinue.audit.log import AuditLog, RotationPolicy, lock_folder
from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import RecordCounters, open_counters
from retinue.audit.space import SpaceMonitor
from retinue.audit.usage import RequestCounters
from retinue.audit.verify import VerifyReport, verify
from retinue.audit.writer import AuditWriter
from retinue.errors import StoreError, StoreUnavailable
from retinue.store.open import open_store
from support.audit_logs import closing_descriptor, record
from support.frozen_clock import FrozenClock
from support.io_faults import Fault, failing

SMALL = RotationPolicy(1000, 2**30)  # several files
BATCHES = 4
PER_BATCH = 3
ERRORS = (OSError, StoreError, StoreUnavailable)


class Run:
    """One run of a server's audit: a worker that makes records, and what takes them."""

    def __init__(self, store: Path, clock: FrozenClock) -> None:
        self.store = store
        self.clock = clock
        self.made = 0

    async def live(self) -> bool | None:
        """Run a coordinator to its end; return whether the log is complete, or None after an error."""
        folder = open_store(str(self.store)).paths.audit_folder()
        try:
            os.close(lock_folder(folder))
            with closing_descriptor(open_counters(folder)) as descriptor:
                counters = RecordCounters(descriptor)
                counters.begin_run(self.clock.now())
                return await self._take_all(counters, folder)
        except ERRORS:
            return None

    async def _take_all(self, counters: RecordCounters, folder: Path) -> bool:
        worker = counters.of_worker(0)
        before = worker.made
        for _ in range(BATCHES * PER_BATCH):
            worker.add()
            self.made += 1
        with closing(open_store(str(self.store)).access()) as access:
            checkpoint = await access.audit_checkpoint()
            audit_log = AuditLog(folder, checkpoint, SMALL, self.clock.now)
            try:
                audit = AuditWriter(
                    audit_log, checkpoint, access, RequestCounters(), counters, SpaceMonitor(folder, 0), self.clock
                )
                await audit.begin()
                for number in range(BATCHES):
                    with suppress(OSError):
                        audit.write(Batch(0, before + number * PER_BATCH, [record(number)] * PER_BATCH))
                    with suppress(*ERRORS):
                        await audit.settle()
                self.made += 1
                audit.add(
                    AuditRecord(
                        time=self.clock.now(),
                        log_id="",
                        endpoint="management",
                        status=200,
                        code="ok",
                        microseconds=0,
                        peer="",
                    )
                )
                return await audit.finish(is_complete=True)
            finally:
                with suppress(OSError):
                    audit_log.close()


def findings_of(store: Path) -> VerifyReport:
    """Return the findings of verification."""
    with closing(open_store(str(store)).access()) as access:
        return verify(open_store(str(store)).paths.audit_folder(), asyncio.run(access.audit_checkpoint()))


@pytest.mark.parametrize("fault", [Fault(), Fault(0, errno.ENOSPC, lasts=True)], ids=["error", "full"])
def test_every_lost_record_is_reported(
    tmp_path: Path, clock: FrozenClock, fault: Fault, record_property: Callable[[str, object], None]
) -> None:
    """Whichever call fails: all records are in the log, or the end is no orderly one and all that lack are counted."""
    calls = tried_at(tmp_path / "0", clock, fault)
    record_property("faults", calls)
    for nth in range(1, calls + 1):
        tried_at(tmp_path / str(nth), clock, Fault(nth, fault.number, fault.lasts))


def tried_at(folder: Path, clock: FrozenClock, fault: Fault) -> int:
    """Try one fault; how many calls there were."""
    folder.mkdir()
    store = folder / "graph.db"
    open_store(str(store)).create()
    with failing(folder, fault) as disk:
        run = Run(store, clock)
        is_complete = asyncio.run(run.live())
    point = f"{fault.nth}: {disk.seen[fault.nth - 1] if fault.nth else ''}"
    found = findings_of(store)
    assert [] == found.problems, point
    assert run.made == found.records + found.lost, (point, found)
    assert found.lost == 0 or not is_complete, point
    assert_next_start_tells(store, clock, point, found)
    return len(disk.seen)


def assert_next_start_tells(store: Path, clock: FrozenClock, point: str, before: VerifyReport) -> None:
    """With room on the disk again everything is written or told, in the chain."""
    assert asyncio.run(Run(store, clock).live()), point
    found = findings_of(store)
    assert [] == found.problems, point
    assert 0 == found.missing, point
    assert before.lost == found.lost, point
