"""Slot runs, for the writer.

One row holds all runs that end in the same block of seconds, so a list that grows second by second rewrites one row
instead of leaving a deleted row for each follow.
"""

from collections.abc import Iterable, Iterator
from heapq import nsmallest

from retinue.model import Direction
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.session import Statement
from retinue.store.cassandra.table_definitions import TAKEN, Key, Row
from retinue.store.rules.slots import MAX_CACHED_RUNS
from retinue.store.rules.values import SlotRun

BLOCK_SECONDS = 8_192  # a year has 3,850 blocks; a row has at most 4,096 runs, some 114 kB
_FIRST_OF = f"{TAKEN.select_prefix} LIMIT {MAX_CACHED_RUNS + 1}"


class CassandraSlotRuns:
    """A `SlotRunTable`. In the keyspace it is called `taken`, and runs `stretches`."""

    def __init__(self, buffer: RowBuffer, direction: Direction) -> None:
        self._buffer = buffer
        self._direction = direction.value
        self._read: dict[int, list[Row]] = {}  # the first rows of lists, before the group

    def forget(self) -> None:
        """Clear the cache."""
        self._read.clear()

    def learn_empty(self, owners: Iterable[int]) -> None:
        self._read.update((owner, []) for owner in owners)

    def fetch(self, owners: Iterable[int]) -> None:
        missing = list(dict.fromkeys(owner for owner in owners if owner not in self._read))
        found = self._buffer.session.rows_of_all(Statement(_FIRST_OF, (owner, self._direction)) for owner in missing)
        self._read.update(zip(missing, found, strict=True))

    def all(self, owner: int, limit: int) -> list[SlotRun]:
        self.fetch([owner])
        stored = self._read[owner]
        if len(stored) > MAX_CACHED_RUNS:  # changes since then do not matter: there are many
            return sorted(runs_in(stored))[:limit]
        changed = self._changed(owner)
        rows = [row for row in stored if (row[0],) not in changed]
        rows += [(*key, *row) for key, row in changed.items() if row is not None]
        return sorted(runs_in(rows))[:limit]

    def near(self, owner: int, second: int) -> list[SlotRun]:
        # No row is empty, so the first two rows that reach so far hold the first two such runs.
        block, changed = block_of(second - 1), self._changed(owner)
        later = {key[0]: row for key, row in changed.items() if key[0] >= block}
        gone = sum(row is None for row in later.values())
        found = {number: row for number, row in later.items() if row is not None}
        key = (owner, self._direction)
        for number, *row in self._buffer.session.rows(
            f"{TAKEN.select_prefix} AND block >= ? LIMIT {2 + gone}", (*key, block)
        ):
            if number not in later:
                found[number] = tuple(row)
                self._buffer.learn(TAKEN, (*key, number), tuple(row))
        first_two = ((number, *found[number]) for number in nsmallest(2, found))
        return sorted(
            (run for run in runs_in(first_two) if run[0] <= second + 1 and run[1] >= second - 1),
            reverse=True,
        )

    def add(self, owner: int, run: SlotRun) -> None:
        block = block_of(run[1])
        self._put(owner, block, sorted([*self._stored(owner, block), run]))

    def remove(self, owner: int, run: SlotRun) -> None:
        block = block_of(run[1])
        self._put(owner, block, [other for other in self._stored(owner, block) if other != run])

    def _stored(self, owner: int, block: int) -> list[SlotRun]:
        key = (owner, self._direction, block)
        read = self._read.get(owner)
        if read is not None and len(read) <= MAX_CACHED_RUNS and not self._buffer.knows(TAKEN, key):
            self._buffer.learn(TAKEN, key, next((row[1:] for row in read if row[0] == block), None))
        row = self._buffer.get(TAKEN, key)
        return [] if row is None else list(runs_in([(block, *row)]))

    def _put(self, owner: int, block: int, runs: list[SlotRun]) -> None:
        self._buffer.put(TAKEN, (owner, self._direction, block), (runs,) if runs else None)

    def _changed(self, owner: int) -> dict[Key, Row | None]:
        return self._buffer.changed_by_prefix(TAKEN, (owner, self._direction))


def block_of(second: int) -> int:
    """Return the block of a run that ends at a second."""
    return second // BLOCK_SECONDS


def runs_in(rows: Iterable[Row]) -> Iterator[SlotRun]:
    """Yield the runs in rows that begin with their block."""
    return ((first, last) for _, runs in rows for first, last in runs)
