"""The entries of lists, for the writer: visible, hidden, ended and unbegun.

Rows are cached once read: single positions of a long list, all of a short one.
"""

import heapq
from collections.abc import Iterable, Iterator

from retinue.store.cassandra.partitioning import Bucket, Partitioning, partitioning_of, row_of
from retinue.store.cassandra.row_buffer import MAX_CACHED, RowBuffer
from retinue.store.cassandra.session import Statement
from retinue.store.cassandra.table_definitions import ENTRY, LIST, Row
from retinue.store.rules.values import LAST_SECOND, NOTHING, Around, Entry

_LAST = 1 << 62  # later than any second, and larger than any account's id
_RANGE = " AND position >= ? AND position <= ?"
_PIECE = 500
_SHORT = 200  # entries, read about as fast as three of them
_NEWEST_FIRST = f"{ENTRY.select_prefix}{_RANGE} LIMIT {_PIECE}"


class CassandraEntries:
    """An `EntryTable` of one kind of list."""

    def __init__(self, buffer: RowBuffer, kind: str) -> None:
        self.kind = kind
        self._buffer = buffer
        self._known: dict[tuple[int, int], Entry | None] = {}  # by owner and position; None: no entry
        self._whole: set[int] = set()  # owners of lists cached completely

    def forget(self) -> None:
        """Clear the cache."""
        self._known.clear()
        self._whole.clear()

    def settle(self) -> None:
        """Bound the cache; call when all changes were written."""
        if len(self._known) > MAX_CACHED:
            self.forget()

    def partitioning(self, owner: int) -> Partitioning:
        return partitioning_of(self._buffer.get(LIST, (owner, self.kind)))

    def has(self, owner: int, position: int) -> bool:
        self.fetch([(owner, position, position)])
        return self._known.get((owner, position)) is not None

    def look(self, owner: int, second: int) -> Around:
        if not self.partitioning(owner).rows:
            return NOTHING
        self.fetch([(owner, second - 1, second + 1)])
        here = [self._known.get((owner, position)) is not None for position in (second - 1, second, second + 1)]
        return Around(*here)

    def count(self, owner: int) -> int:
        return self.partitioning(owner).rows

    def newest_first(self, owner: int, bound: int = _LAST) -> Iterator[Entry]:
        for bucket, highest in _ranges(self.partitioning(owner), bound):
            yield from self._newest_first(owner, bucket, highest)

    def insert(self, owner: int, entry: Entry, ended_at: int | None = None) -> None:
        partitioning = self.partitioning(owner)
        started_at = None if entry.second == entry.position else entry.second
        self._buffer.put(ENTRY, self._key(owner, partitioning, entry), (started_at, ended_at))
        self._count(owner, partitioning.counted(entry.position, rows=1, removed=0))
        self._known[owner, entry.position] = entry

    def remove(self, owner: int, position: int) -> Entry:
        self.fetch([(owner, position, position)])
        entry = self._known[owner, position]
        assert entry is not None, (owner, self.kind, position)
        self.drop(owner, entry)
        return entry

    def drop(self, owner: int, entry: Entry) -> None:
        partitioning = self.partitioning(owner)
        key = self._key(owner, partitioning, entry)
        if not self._buffer.knows(ENTRY, key):
            # A new row may replace it within the same group, and must not inherit a column.
            self._buffer.learn(ENTRY, key, (entry.second, entry.second))
        self._buffer.put(ENTRY, key, None)
        self._count(owner, partitioning.counted(entry.position, rows=-1, removed=1))
        self._known[owner, entry.position] = None

    def fetch(self, ranges: Iterable[tuple[int, int, int]]) -> None:
        """Read ranges (owner, first and last position) that are not cached, concurrently."""
        missing = [one for one in dict.fromkeys(ranges) if not self._knows(*one)]
        short = {owner for owner, *_ in missing if self.partitioning(owner).rows <= _SHORT}
        wanted = [one for one in missing if one[0] not in short] + [(owner, 0, LAST_SECOND) for owner in sorted(short)]
        places = [
            (owner, bucket, low, high)
            for owner, low, high in wanted
            for bucket, high in _ranges(self.partitioning(owner), high, low)
        ]
        found = self._buffer.session.rows_of_all(
            Statement(ENTRY.select_prefix + _RANGE, (owner, self.kind, bucket.number, max(low, bucket.lowest), high))
            for owner, bucket, low, high in places
        )
        self._whole.update(short)
        for owner, low, high in missing:
            for position in range(low, high + 1):
                self._known.setdefault((owner, position), None)
        for (owner, bucket, _, _), rows in zip(places, found, strict=True):
            changed = self._buffer.changed_by_prefix(ENTRY, (owner, self.kind, bucket.number))
            for row in rows:
                if row[:2] not in changed:
                    self._known[owner, row[0]] = entry_of(row)

    def _knows(self, owner: int, low: int, high: int) -> bool:
        if owner in self._whole:
            return True
        if not self.partitioning(owner).rows:
            self._whole.add(owner)
            return True
        return all((owner, position) in self._known for position in range(low, high + 1))

    def _newest_first(self, owner: int, bucket: Bucket, highest: int) -> Iterator[Entry]:
        changed = self._buffer.changed_by_prefix(ENTRY, (owner, self.kind, bucket.number))
        added = sorted(
            (entry_of((*key, *row)) for key, row in changed.items() if row is not None and key[0] <= highest),
            reverse=True,
        )
        stored = self._stored(owner, bucket, highest)
        yield from heapq.merge(added, (entry_of(row) for row in stored if row[:2] not in changed), reverse=True)

    def _stored(self, owner: int, bucket: Bucket, highest: int) -> Iterator[Row]:
        while highest >= bucket.lowest:
            rows = self._buffer.session.rows(_NEWEST_FIRST, (owner, self.kind, bucket.number, bucket.lowest, highest))
            yield from rows
            if len(rows) < _PIECE:
                return
            highest = rows[-1][0] - 1

    def _key(self, owner: int, partitioning: Partitioning, entry: Entry) -> tuple[int, str, int, int, int]:
        return owner, self.kind, partitioning.holding(entry.position).number, entry.position, entry.account

    def _count(self, owner: int, partitioning: Partitioning) -> None:
        self._buffer.put(LIST, (owner, self.kind), row_of(partitioning))


def entry_of(row: Row) -> Entry:
    """Return the entry in a row of position, account and true start."""
    return Entry(row[0], row[1], row[0] if row[2] is None else row[2])


def _ranges(partitioning: Partitioning, high: int, low: int = 0) -> Iterator[tuple[Bucket, int]]:
    """Yield the buckets with positions in a range, newest first.

    Each comes with the highest position wanted of it.
    """
    for bucket in partitioning.reaching(high):
        yield bucket, high
        if bucket.lowest <= low:
            return
        high = bucket.lowest - 1
