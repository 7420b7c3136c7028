"""A coordinator that writes the audit log of a store."""

import asyncio
import os
from pathlib import Path

import msgspec

from retinue.access.clients import digest_of
from retinue.access.contract import Checkpoint
from retinue.audit.channel import Batch
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import RecordCounters, WorkerCounter, open_counters
from retinue.audit.retention import Retention, time_without_jumps
from retinue.audit.space import SpaceMonitor
from retinue.audit.trusted_time import TimeFiles, TrustedTime
from retinue.audit.usage import RequestCounters
from retinue.audit.verify import VerifyReport, verify
from retinue.audit.writer import AuditWriter
from retinue.model import TOKEN_SECONDS, RegisteredClient
from retinue.store.open import open_store
from support.frozen_clock import FrozenClock

DAY = 86_400
KEEP = 30 * DAY
LOG_ID = "20231114221320" + "0" * 20


class AuditedStore:
    """A coordinator's audit log and retention, on a real store, without its listener."""

    def __init__(self, store: Path, clock: FrozenClock, max_bytes: int = 0) -> None:
        self.store, self.clock = str(store), clock
        open_store(self.store).create()
        self.access = open_store(self.store).access()
        self.folder = open_store(self.store).paths.audit_folder()
        self.folder.mkdir(exist_ok=True)
        descriptor = open_counters(self.folder)
        self.counters = RecordCounters(descriptor)
        os.close(descriptor)
        self.counters.begin_run(clock.now())
        self.worker: WorkerCounter = self.counters.of_worker(0)
        self.time_files = TimeFiles(self.folder, asyncio.run(self.access.audit_checkpoint()).secret)
        asyncio.run(self._begin(max_bytes))

    async def _begin(self, max_bytes: int) -> None:
        checkpoint = await self.access.audit_checkpoint()
        self.audit_log = AuditLog(self.folder, checkpoint, RotationPolicy(2**30, 1000), self.clock.now)
        room = SpaceMonitor(self.folder, max_bytes)
        self.audit = AuditWriter(
            self.audit_log, checkpoint, self.access, RequestCounters(), self.counters, room, self.clock
        )
        await self.audit.begin()
        trusted = TrustedTime(self.time_files, self.clock, lambda: time_without_jumps(self.folder))
        self.retention = Retention(self.folder, KEEP, trusted, self.audit, self.access, self.clock)
        await self.retention.apply()

    def take(self, status: int, count: int = 1, *, client: str = "", peer: str = "10.0.0.1") -> None:
        """Have a worker make and send records."""
        first = self.worker.made
        code = "ok" if status == 200 else "access_token_invalid"
        record = AuditRecord(
            time=self.clock.now(),
            log_id=LOG_ID,
            endpoint="following",
            status=status,
            code=code,
            microseconds=1,
            peer=peer,
            client=client,
        )
        for _ in range(count):
            self.worker.add()
        self.audit.write(Batch(0, first, [msgspec.json.encode(record)] * count))

    def apply(self) -> None:
        """One round of retention."""
        asyncio.run(self.retention.apply())

    def settle(self) -> None:
        """Do the work of one second."""
        asyncio.run(self.audit.settle())

    def finish(self) -> bool:
        """Stop in order."""
        self.retention.finish()
        is_complete = asyncio.run(self.audit.finish(is_complete=True))
        self.access.close()
        return is_complete

    @property
    def checkpoint(self) -> Checkpoint:
        """Return the store's checkpoint of the log."""
        return asyncio.run(self.access.audit_checkpoint())

    def verified(self) -> VerifyReport:
        """Return the findings of verification."""
        return verify(self.folder, self.checkpoint)

    def has_token(self, token: str) -> bool:
        """Whether the store has a token."""
        return asyncio.run(self.access.find_grant(digest_of(token))) is not None

    def add_token(self, token: str) -> None:
        """Store a token of a new client."""

        async def main() -> None:
            client = RegisteredClient(f"key-{token}", "", frozenset({"research.data.basic"}), self.clock.now())
            added = await self.access.add_client(client, bytes(32))
            await self.access.add_token(digest_of(token), added.id, self.clock.now() + TOKEN_SECONDS)

        asyncio.run(main())
