"""The engine of a cluster: rows in a keyspace, one writer at a time.

A commit writes the whole group into the redo log. A lightweight transaction on the row of the lease commits it. Then
its rows are written, with the group's number as timestamp. The next holder of the lease finishes an interrupted group.
Readers may see a half-written group. Its order: accounts, names and relocations, lists, removals elsewhere, the change
log.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from retinue.errors import StoreUnavailable
from retinue.store.cassandra import parts as parts_of_lists
from retinue.store.cassandra.lease import STATE, Lease
from retinue.store.cassandra.parts import Division, PartDirectory, divide
from retinue.store.cassandra.places import LAST_SLOT, NEWEST, PLACES, PLAIN, is_single, key_of, slot_of
from retinue.store.cassandra.redo_log import DROP, ERASE, PUT, SET, RedoLog, Write
from retinue.store.cassandra.retry import Backoff, RetryingSession
from retinue.store.cassandra.row_cache import RowCache
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.source import CassandraSource
from retinue.store.cassandra.statements import Statement
from retinue.store.layout.tables import (
    ACCOUNT,
    CHANGE,
    LAST_SECOND,
    LISTS,
    META,
    Changes,
    Key,
    NumberRows,
    Table,
    second_of,
)

COUNT_AFTER = 1_024  # rows written to one kind of a list, on the average

_NUMBERS_SHIFT = 16  # a division makes fewer parts

_SLOT = "SELECT slot FROM {} WHERE owner = ? AND part = ? AND kind = ? AND "
_BETWEEN = f"{_SLOT}slot >= ? AND slot <= ?"
_BELOW = f"{_SLOT}slot < ? LIMIT 1"
_ABOVE = f"{_SLOT}slot > ? ORDER BY kind DESC, slot ASC LIMIT 1"
_LOGS = "SELECT DISTINCT writer FROM redo"

# Phases of a group. Lists of several parts take more than one phase from `_IN_LISTS` on, the newest part first.
_FIRST, _NAMES, _IN_LISTS, _REMOVED, _LOGGED, _LAST = 0, 1, 2, 10_000, 10_001, 10_002
_PHASES = {ACCOUNT: _FIRST, CHANGE: _LOGGED, META: _LAST} | {
    table: _IN_LISTS for tables in LISTS.values() for table in tables
}
_SIBLINGS = {table: tables for tables in LISTS.values() for table in tables}


class CassandraEngine:
    """The `Engine` of one keyspace.

    `name` is unique to this writer. `chance` returns a random number from 0 to 1.
    """

    has_bulk = False
    group_size = 50_000  # the larger, the fewer writes of each list

    def __init__(self, session: Session, name: str, backoff: Backoff, chance: Callable[[], float]) -> None:
        self._lease = Lease(session, name, backoff)
        self._open = session
        self._chance = chance
        self._free = RetryingSession(session, backoff)  # for reads without the lease
        self._session = RetryingSession(session, backoff, self._lease.keep)
        self._parts = PartDirectory()
        self._source = CassandraSource(self._session, self._parts)
        self._redo = RedoLog(self._session, name)
        self._cache = RowCache()
        self._committed = -1  # the last group that this writer knows of
        self._is_held = False

    # --- reading ----------------------------------------------------------------------------------------------------

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        if len(keys) == 1 and keys[0] in (cached := self._cache.rows[table]):
            return [cached[keys[0]]]
        missing = self._cache.missing(table, keys)
        if missing:
            self._cache.learn(table, dict(zip(missing, self._source.get(table, missing), strict=True)))
        return self._cache.get(table, keys)

    def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        owner = slot_of(table, low)[0]
        if not PLACES[table].is_divisible or self._parts.is_divided(table, owner):
            return self._source.scan(table, low, high, reverse=reverse, limit=limit)
        self._load_lists(table, (owner,))
        return self._cache.scan(table, low, high, reverse=reverse, limit=limit)

    def rows_of(self, table: Table, owners: Sequence[int]) -> list[tuple[int, bytes]]:
        self._load_lists(table, owners)
        return self._cache.rows_of(table, owners)

    def has_rows(self, table: Table) -> bool:
        """Return False only if a table is empty.

        Outside of `exclusive`, an unfinished group counts as rows.
        """
        if not self._is_held:
            committed, *_, applied = self._free.rows(STATE)[0]
            return committed != applied or CassandraSource(self._free, self._parts).has_rows(table)
        return self._cache.has_rows(table, self._source.has_rows)

    def all_rows(self, table: Table) -> Iterator[tuple[Any, bytes]]:
        return self._source.all_rows(table)

    def _load_lists(self, table: Table, owners: Sequence[int]) -> None:
        """Cache all rows of owners. Rows of all kinds of a list are read at once."""
        missing = self._cache.missing_lists(table, owners)
        if missing:
            self._cache.learn_lists(self._source.lists_of(_SIBLINGS[table], missing))

    # --- writing ----------------------------------------------------------------------------------------------------

    @contextmanager
    def exclusive(self, *, is_durable: bool = False) -> Iterator[bool]:  # noqa: ARG002 - nodes decide on that
        """Hold the lease. Finish an interrupted group first."""
        commits = self._lease.take()
        applied = before = commits.applied
        try:
            if not commits.is_finished:
                self._redo.run(self._redo.load(commits), commits.committed)
                applied = before = commits.committed
                self._lease.applied(applied)
                self._redo.remove(applied, commits.writer, commits.attempt)
            is_changed = self._committed != commits.committed
            if is_changed:
                self._cache.clear()
                self._parts.load(self._session)
                self._committed = commits.committed
            self._is_held = True
            yield is_changed
            applied = self._committed
        except BaseException:
            self._committed = -1
            raise
        finally:
            self._is_held = False
            is_told = self._lease.give_back(applied)
        if is_told and applied != before:
            with suppress(StoreUnavailable):
                RedoLog(self._free, self._redo.writer).remove(applied, attempt=self._redo.attempt)

    def group_seconds(self) -> float:
        return 30.0  # of a machine that is so busy that smaller groups do not help

    def commit(self, changes: Iterable[Changes]) -> None:
        taken = [each._replace(deletes=self._existing(each)) for each in changes]
        self._commit([write for each in taken for write in self._writes(each)])
        for each in taken:
            self._cache.learn_changes(each)
        for table, owner, slot in self._grown(taken):
            self._divide(table, owner, slot)

    def write(self, changes: Changes) -> None:
        """Raise `NotImplementedError`: a redo log must be complete before any write."""
        raise NotImplementedError

    def compact(self) -> None:
        """Remove the logs of killed writers. Nodes remove bytes when they compact."""
        with self.exclusive():
            for (writer,) in self._session.rows(_LOGS):
                self._redo.remove(self._committed, writer, LAST_SLOT)
        self._committed = -1  # its user was not told whether another writer was here

    def settle(self) -> None:
        """Do nothing: commits are stored by a quorum."""

    def close(self) -> None:
        self._open.close()

    def _commit(self, writes: list[Write]) -> None:
        if not writes:
            return
        group = self._committed + 1
        self._lease.commit(group, *self._redo.save(writes, group))
        self._redo.run(writes, group)
        self._committed = group

    def _existing(self, changes: Changes) -> list[Key]:
        """Return the keys to remove that may exist: each removal leaves a tombstone."""
        return [key for key in changes.deletes if not self._cache.is_absent(changes.table, key)]

    def _writes(self, changes: Changes) -> Iterator[Write]:
        table, puts, deletes = changes
        phase = _PHASES.get(table, _NAMES)
        if table in PLAIN:
            yield from (Write(phase, table.name, SET, (key, value)) for key, value in puts)
            yield from (Write(_REMOVED, table.name, DROP, (key,)) for key in deletes)
            return
        place = PLACES[table]
        for key, value in puts:
            owner, slot = slot_of(table, key)
            part, rank = self._parts.rank_of(table, owner, slot)
            yield Write(phase + rank, place.name, PUT, (owner, part, place.kind, slot, value))
        for owner, part, low, high in self._gaps(changes):
            is_whole = phase == _IN_LISTS and not self._parts.is_divided(table, owner)
            yield Write(phase if is_whole else _REMOVED, place.name, ERASE, (owner, part, place.kind, low, high))

    def _gaps(self, changes: Changes) -> Iterator[tuple[int, int, int, int]]:
        """Yield the gaps between remaining slots that removals leave.

        Removing a whole gap leaves one tombstone between two rows, however many rows were there.
        """
        table, puts, deletes = changes
        gone: dict[tuple[int, int], list[int]] = {}
        for key in deletes:
            owner, slot = slot_of(table, key)
            if is_single(table):
                yield owner, NEWEST, slot - 1, slot + 1
            else:
                gone.setdefault((owner, self._parts.part_of(table, owner, slot)), []).append(slot)
        if not gone:
            return
        there: dict[tuple[int, int], set[int]] = {}
        for key, _ in puts:
            owner, slot = slot_of(table, key)
            there.setdefault((owner, self._parts.part_of(table, owner, slot)), set()).add(slot)
        for (owner, part), found in zip(gone, self._around(table, gone), strict=True):
            slots = gone[owner, part]
            remaining = [-1, *sorted((found | there.get((owner, part), set())).difference(slots)), LAST_SLOT]
            gaps = {bisect_left(remaining, slot) for slot in slots}
            yield from ((owner, part, remaining[index - 1], remaining[index]) for index in sorted(gaps))

    def _around(self, table: Table, gone: dict[tuple[int, int], list[int]]) -> list[set[int]]:
        name, kind, _ = PLACES[table]
        statements = []
        for (owner, part), slots in gone.items():
            place = (owner, part, kind)
            statements += [
                Statement(_BETWEEN.format(name), (*place, min(slots), max(slots))),
                Statement(_BELOW.format(name), (*place, min(slots))),
                Statement(_ABOVE.format(name), (*place, max(slots))),
            ]
        found = self._session.rows_of_all(statements)
        return [{slot for rows in found[index : index + 3] for (slot,) in rows} for index in range(0, len(found), 3)]

    def _grown(self, taken: Iterable[Changes]) -> list[tuple[Table, int, int]]:
        """Return a slot of each list to count: by chance, the more was written."""
        grown: dict[tuple[Table, int], int] = {}
        for table, puts, _ in taken:
            if table in PLACES and PLACES[table].is_divisible:
                for key, _ in puts:
                    owner, slot = slot_of(table, key)
                    if slot and self._chance() * COUNT_AFTER < 1:
                        grown[table, owner] = slot
        return [(table, owner, slot) for (table, owner), slot in grown.items()]

    def _divide(self, table: Table, owner: int, slot: int) -> None:
        """Divide the part with a slot if it has too many rows."""
        parts = self._parts.of(table, owner)
        part = self._parts.part_of(table, owner, slot)
        whole = next(each for each in self._parts.ranges(table, owner, 0, LAST_SLOT) if each.part == part)
        name, kind, _ = PLACES[table]
        if (
            len(self._session.rows(_BETWEEN.format(name), (owner, part, kind, whole.low, whole.high)))
            > parts_of_lists.MAX_ROWS
        ):
            low, high = key_of(table, owner, whole.low), key_of(table, owner, min(whole.high, LAST_SECOND))
            rows = [(second_of(key), value) for key, value in self._source.scan(table, low, high)]
            number = self._committed + 1 << _NUMBERS_SHIFT
            after, writes = divide(parts, Division(table, owner, part, number, rows))
            self._commit(writes)
            self._parts.learn(table, owner, after)
