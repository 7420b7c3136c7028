"""Import of tables, in batches and in the order of the file.

Each batch is stored whole or not at all. Large tables of follows are loaded in bulk (`bulk.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from retinue.errors import InputError
from retinue.ingest import records
from retinue.ingest.bulk import BulkResult, as_large, load_in_bulk
from retinue.ingest.records import InputTable, RawRow
from retinue.ingest.rejects import FIRST_ROWS, FirstRejects, Reject, RejectsFile, not_stored
from retinue.ingest.snapshot import Snapshot
from retinue.ingest.staging import CannotLoadInBulk
from retinue.ingest.values import BadRecord, unfit
from retinue.model import AccountRecord, FollowRecord
from retinue.store.bulk import BulkWriter
from retinue.store.contract import GraphWriter, Verdict

BATCH = 50_000

_STORED = (Verdict.ACCEPTED, Verdict.UPDATED, Verdict.DUPLICATE)

# Verdicts that may come from a wrong column. All others depend on the store: the file is of the right kind.
_WRONG_KIND = (Verdict.SELF_FOLLOW, Verdict.NO_ACCOUNT)

_Record = TypeVar("_Record", AccountRecord, FollowRecord)
OnProgress = Callable[[int], None]


class ImportCounts(Struct):
    """The counts of a table's rows: new ones, updates of known ones, and duplicates.

    For a snapshot also ended follows, and `withheld` lists, of which a row was lost.
    """

    accepted: int = 0
    updated: int = 0
    duplicate: int = 0
    rejected: int = 0
    nuls_removed: int = 0
    surrogates_replaced: int = 0
    ended: int = 0
    withheld: int = 0

    @property
    def rows(self) -> int:
        """All rows read."""
        return self.accepted + self.updated + self.duplicate + self.rejected


class Import(Struct, frozen=True):
    """One run. `received_at` is the second of rows without a time; `counts` are by file name.

    With a snapshot the files of follows are complete lists of their owners. With `bulk` large files are loaded in bulk,
    or `on_notice` gets the reason.
    """

    writer: GraphWriter
    received_at: int
    rejects: RejectsFile
    counts: dict[str, ImportCounts]
    snapshot: Snapshot | None = None
    bulk: BulkWriter | None = None
    on_notice: Callable[[str], None] = lambda _: None


async def import_accounts(run: Import, name: str, table: InputTable, on_progress: OnProgress) -> None:
    """Import a table of accounts. `on_progress` gets the table's position after each batch."""
    counts = run.counts.setdefault(name, ImportCounts())

    def read(row: RawRow) -> AccountRecord:
        if row.account is not None:
            return row.account
        counts.nuls_removed += records.count_nuls(row.values)
        record = records.account_record(row.values)
        if run.snapshot is not None:
            run.snapshot.check_account(row)
        return record

    async def store(batch: Sequence[AccountRecord]) -> list[Verdict]:
        return await run.writer.add_accounts(batch, run.received_at)

    await _TableImport(run, name, read, store).load(table, lambda: on_progress(table.position))


async def import_follows(run: Import, name: str, table: InputTable, on_progress: OnProgress) -> None:
    """Import a table of follows, with the same progress."""
    if run.snapshot is not None:
        importing = _snapshot_import(run, run.snapshot, name)
        await importing.load(table, lambda: on_progress(table.position))
        return

    def read(row: RawRow) -> FollowRecord:
        return records.follow_record(row.values, run.received_at)

    importing = _TableImport(run, name, read, run.writer.add_follows)
    large = as_large(table)
    if run.bulk is not None and large is not None:
        try:
            result = await load_in_bulk(large, run.bulk, run.received_at, on_progress)
        except CannotLoadInBulk as reason:
            run.on_notice(f"{name}: is loaded row by row, which takes much longer: {reason}")
        else:
            importing.add_loaded(result)
            await importing.load(result.remaining, lambda: on_progress(table.size))
            return
    await importing.load(table, lambda: on_progress(table.position))


def _snapshot_import(run: Import, snapshot: Snapshot, name: str) -> "_TableImport[FollowRecord]":
    run.counts.setdefault(name, ImportCounts())
    file = list(run.counts).index(name)

    def read(row: RawRow) -> FollowRecord:
        record = records.follow_record(row.values, run.received_at)
        if record.ended_at is not None:
            raise unfit("ended_at", row.values["ended_at"], "is there, but a full dump holds what stands")
        snapshot.check_names(file, row)
        return record

    async def store(batch: Sequence[FollowRecord]) -> list[Verdict]:
        verdicts = await run.writer.add_follows(batch, snapshot.at)
        await snapshot.add(run.writer, file, batch, verdicts)
        return verdicts

    def miss(row: RawRow, bad: BadRecord) -> None:
        snapshot.miss(file, row, str(bad))

    return _TableImport(run, name, read, store, miss)


async def end_missing(run: Import, snapshot: Snapshot, on_progress: OnProgress) -> None:
    """End the follows that a snapshot does not have. `on_progress` gets the rows compared."""
    counts = list(run.counts.values())
    rows = 0
    async for ended in snapshot.end_missing(run.writer):
        counts[ended.file].ended += ended.count
        counts[ended.file].withheld += ended.is_withheld
        rows += ended.rows
        on_progress(rows)
        await asyncio.sleep(0)  # lets Ctrl-C interrupt the import


class _TableImport(Generic[_Record]):
    def __init__(
        self,
        run: Import,
        name: str,
        read: Callable[[RawRow], _Record],
        store: Callable[[Sequence[_Record]], Awaitable[list[Verdict]]],
        on_unreadable: Callable[[RawRow, BadRecord], None] = lambda _row, _bad: None,
    ) -> None:
        self._counts = run.counts.setdefault(name, ImportCounts())
        self._rejects = run.rejects
        self._first_rejects = FirstRejects(name)
        self._name = name
        self._read: Callable[[RawRow], _Record] = read
        self._store: Callable[[Sequence[_Record]], Awaitable[list[Verdict]]] = store
        self._on_unreadable = on_unreadable

    def add_loaded(self, loaded: BulkResult) -> None:
        self._counts.accepted, self._counts.updated = loaded.accepted, loaded.updated
        self._counts.duplicate = loaded.duplicate
        if self._counts.rows:
            self._first_rejects.stop()

    async def load(self, rows: Iterable[RawRow], on_batch: Callable[[], None]) -> None:
        for batch in _batches(rows):
            rows, readable = self._readable(batch)
            self._count(rows, readable, await self._store(readable))
            self._rejects.flush()
            on_batch()
            await asyncio.sleep(0)  # lets Ctrl-C interrupt the import between batches

    def _readable(self, batch: Sequence[RawRow]) -> tuple[list[RawRow], list[_Record]]:
        rows: list[RawRow] = []
        readable: list[_Record] = []
        for row in batch:
            try:
                if row.fault:
                    raise row.fault
                readable.append(self._read(row))
            except BadRecord as bad:
                self._on_unreadable(row, bad)
                self._reject(row, bad)
                self._first_rejects.add(bad)
            else:
                rows.append(row)
                self._counts.surrogates_replaced += row.replaced
        return rows, readable

    def _count(self, rows: Sequence[RawRow], stored: Sequence[_Record], verdicts: Sequence[Verdict]) -> None:
        accepted, updated, duplicate = map(verdicts.count, (Verdict.ACCEPTED, Verdict.UPDATED, Verdict.DUPLICATE))
        self._counts.accepted += accepted
        self._counts.updated += updated
        self._counts.duplicate += duplicate
        if accepted + updated + duplicate:
            self._first_rejects.stop()
        if accepted + updated + duplicate < len(verdicts):
            for row, record, verdict in zip(rows, stored, verdicts, strict=True):
                if verdict not in _STORED:
                    self._refuse(row, record, verdict)

    def _refuse(self, row: RawRow, record: _Record, verdict: Verdict) -> None:
        # Names of an erased account must not come back in the rejects file.
        row_without_names = replace(row, text="") if verdict is Verdict.ERASED else row
        bad = not_stored(verdict, record)
        self._reject(row_without_names, bad)
        if verdict in _WRONG_KIND:
            self._first_rejects.add(bad)
        else:
            self._first_rejects.stop()

    def _reject(self, row: RawRow, bad: BadRecord) -> None:
        self._counts.rejected += 1
        self._rejects.add(Reject(self._name, row.line, str(bad), row.text), bad.kind)


def _batches(rows: Iterable[RawRow]) -> Iterator[list[RawRow]]:
    """Yield rows in batches, up to a damaged part of the file."""
    iterator = iter(rows)
    size = FIRST_ROWS  # so that nothing is stored if they are all rejected for one reason
    is_more = True
    while is_more:
        batch: list[RawRow] = []
        try:
            batch.extend(islice(iterator, size))
        except InputError:
            yield batch  # the rows before it
            raise
        yield batch
        is_more, size = len(batch) == size, BATCH
