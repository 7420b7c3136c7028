"""Import: tables into the store, a batch at a time, with a tally. Order of the file is order of storing.

Large tables of follows are loaded at once (`bulk.py`) as far as their rows are ordinary; of the rest the same is true.

Safe to kill at any instant and to run again: every batch is stored whole or not at all, and what is there already
is a duplicate.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Generic, TypeVar

from msgspec import Struct

from retinue.errors import InputError
from retinue.ingest import bulk, records
from retinue.ingest.alike import Alike, fault_of
from retinue.ingest.reasons import reason_of
from retinue.ingest.rejects import Reject, RejectsFile
from retinue.ingest.rows import RawRow, Table
from retinue.ingest.snapshot import Snapshot
from retinue.ingest.values import BadRecord, unfit
from retinue.model import AccountRecord, FollowRecord
from retinue.store.bulk import BulkWriter
from retinue.store.contract import GraphWriter, Verdict

BATCH = 2_000

# Verdicts that may come of a wrong column. Others come of what the store holds: the file is of the right kind.
_WRONG_KIND = (Verdict.SELF_FOLLOW, Verdict.NO_ACCOUNT)

_Record = TypeVar("_Record", AccountRecord, FollowRecord)
OnProgress = Callable[[int], None]


class Tally(Struct):
    """The counts of a table's rows: new, known with something new (updated), and known.

    Of a dump also how many follows were ended, and from how many lists that was withheld.
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
        """How many rows were read."""
        return self.accepted + self.updated + self.duplicate + self.rejected


class Import(Struct, frozen=True):
    """One run: the writer, the second at which everything in it was received, where rejects go, what came of it.

    With a snapshot the files of follows are a full dump of their owners' lists. With a bulk writer large ones go the
    quick way; `on_notice` gets told which of them cannot, and why.
    """

    writer: GraphWriter
    received_at: int
    rejects: RejectsFile
    tallies: dict[str, Tally]
    snapshot: Snapshot | None = None
    bulk: BulkWriter | None = None
    on_notice: Callable[[str], None] = lambda _: None


async def import_accounts(run: Import, name: str, table: Table, on_progress: OnProgress) -> None:
    """Load a table of accounts. `on_progress` gets the table's position after each batch."""
    tally = run.tallies.setdefault(name, Tally())

    def read(row: RawRow) -> AccountRecord:
        tally.nuls_removed += records.nuls_in(row.values)
        record = records.account_record(row.values)
        if run.snapshot is not None:
            run.snapshot.check_account(row)
        return record

    async def store(batch: Sequence[AccountRecord]) -> list[Verdict]:
        return await run.writer.add_accounts(batch, run.received_at)

    await _load(_Load(run.rejects, name, table, tally, read, store, Alike(name)), on_progress)


async def import_follows(run: Import, name: str, table: Table, on_progress: OnProgress) -> None:
    """Load a table of follows. `on_progress` gets the table's position after each batch."""
    tally = run.tallies.setdefault(name, Tally())
    big = bulk.large(table) if run.bulk is not None and run.snapshot is None else None
    if run.bulk is not None and big is not None:
        outcome = await bulk.load(big, run.bulk, run.received_at, on_progress)
        if isinstance(outcome, str):
            run.on_notice(f"{name}: is loaded row by row, which takes much longer: {outcome}")
        else:
            tally.accepted, tally.duplicate = outcome.accepted, outcome.duplicate
            table = outcome.rest
    file = list(run.tallies).index(name)

    def read(row: RawRow) -> FollowRecord:
        record = records.follow_record(row.values, run.received_at)
        if run.snapshot is None:
            return record
        if record.ended_at is not None:
            raise unfit("ended_at", row.values["ended_at"], "is there, but a full dump holds what stands")
        run.snapshot.check_names(file, row)
        return record

    async def store(batch: Sequence[FollowRecord]) -> list[Verdict]:
        if run.snapshot is None:
            return await run.writer.add_follows(batch)
        verdicts = await run.writer.add_follows(batch, run.snapshot.at)
        await run.snapshot.keep(run.writer, file, batch, verdicts)
        return verdicts

    load = _Load(run.rejects, name, table, tally, read, store, Alike(name))
    if tally.rows:
        load.alike.stop()
    if run.snapshot is not None:
        snapshot = run.snapshot
        load.on_unread = lambda row, bad: snapshot.miss(file, row, str(bad))
    await _load(load, on_progress)


async def end_missing(run: Import, snapshot: Snapshot, on_progress: OnProgress) -> None:
    """End the follows that a dump does not hold. `on_progress` gets the number of rows compared."""
    tallies = list(run.tallies.values())
    rows = 0
    async for ended in snapshot.end_missing(run.writer):
        tallies[ended.file].ended += ended.count
        tallies[ended.file].withheld += ended.is_withheld
        rows += ended.rows
        on_progress(rows)
        await asyncio.sleep(0)  # here, too, an import may be interrupted


class _Load(Struct, Generic[_Record]):
    rejects: RejectsFile
    name: str
    table: Table
    tally: Tally
    read: Callable[[RawRow], _Record]
    store: Callable[[Sequence[_Record]], Awaitable[list[Verdict]]]
    alike: Alike
    on_unread: Callable[[RawRow, BadRecord], None] = lambda _row, _bad: None

    def reject(self, row: RawRow, bad: BadRecord) -> None:
        """Count and keep a row that is not loaded."""
        self.tally.rejected += 1
        self.rejects.add(Reject(self.name, row.line, str(bad), row.text), bad.kind)

    def reject_unread(self, row: RawRow, bad: BadRecord) -> None:
        """Count and keep a row that is no record."""
        self.on_unread(row, bad)
        self.reject(row, bad)
        self.alike.reject(bad)


async def _load(load: _Load[_Record], on_progress: OnProgress) -> None:
    for batch in _batches(load.table):
        readable = list(_readable(load, batch))
        verdicts = await load.store([record for _, record in readable])
        for (row, record), verdict in zip(readable, verdicts, strict=True):
            _count(load, row, record, verdict)
        load.rejects.flush()
        on_progress(load.table.position)
        await asyncio.sleep(0)  # between batches an import may be interrupted


def _batches(table: Table) -> Iterator[list[RawRow]]:
    """Rows in batches; where the file turns out to be damaged, what came before is still handed on."""
    batch: list[RawRow] = []
    try:
        for row in table:
            batch.append(row)
            if len(batch) == BATCH:
                yield batch
                batch = []
    except InputError:
        yield batch
        raise
    yield batch


def _readable(load: _Load[_Record], batch: Sequence[RawRow]) -> Iterator[tuple[RawRow, _Record]]:
    for row in batch:
        if row.fault:
            load.reject_unread(row, fault_of(row))
            continue
        try:
            record = load.read(row)
        except BadRecord as bad:
            load.reject_unread(row, bad)
        else:
            load.tally.surrogates_replaced += row.replaced
            yield row, record


def _count(load: _Load[_Record], row: RawRow, record: _Record, verdict: Verdict) -> None:
    tally = load.tally
    if verdict is Verdict.ACCEPTED:
        tally.accepted += 1
    elif verdict is Verdict.UPDATED:
        tally.updated += 1
    elif verdict is Verdict.DUPLICATE:
        tally.duplicate += 1
    else:
        # The text of an erased account's row must not come back in the rejects file either.
        kept = row._replace(text="") if verdict is Verdict.ERASED else row
        bad = reason_of(verdict, record)
        load.reject(kept, bad)
        if verdict in _WRONG_KIND:
            load.alike.reject(bad)
            return
    load.alike.stop()
