"""One table of blocks, for the writer. Entries change in memory and are written once a transaction.

Splits, merges and removals are written at once, so the table always shows which blocks exist.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence

import apsw

from retinue.store.rules.values import LAST_SECOND, NOTHING, Around, Entry
from retinue.store.sqlite.blocks import CAPACITY, Block, block_at, first_block, read_block, require_within, start_of
from retinue.store.sqlite.files import executor

MAX_CACHED = 200_000
# A block with fewer entries than _SPARSE joins its older neighbour if both together have at most _MERGED.
_SPARSE = CAPACITY // 4
_MERGED = CAPACITY * 3 // 4


def _around(positions: Sequence[int], second: int) -> Around:
    """Return which entries exist around a second in a one-block list."""
    index = bisect_left(positions, second - 1)
    if index == len(positions) or positions[index] > second + 1:
        return NOTHING
    near = positions[index : index + 3]
    return Around(second - 1 in near, second in near, second + 1 in near)


class BlockTable:
    """An `EntryTable`: the lists of all owners in one table."""

    def __init__(self, connection: apsw.Connection, table: str) -> None:
        self._table = table
        self._execute = executor(connection)
        self._blocks: dict[int, Block] = {}
        self._changed: set[int] = set()
        self._newest: dict[int, int] = {}  # by owner: the number of the last of several blocks
        self._counts: dict[int, int] = {}
        self._changed_counts: set[int] = set()
        self._at_or_before = (
            f"SELECT block, entries, displaced FROM {table} WHERE block BETWEEN ? AND ? ORDER BY block DESC LIMIT 1"
        )
        self._save = f"INSERT OR REPLACE INTO {table} (block, entries, displaced) VALUES (?, ?, ?)"
        self._delete = f"DELETE FROM {table} WHERE block = ?"
        self._load_count = f"SELECT entries FROM {table}_count WHERE owner = ?"
        self._save_count = f"INSERT OR REPLACE INTO {table}_count (owner, entries) VALUES (?, ?)"
        self._delete_count = f"DELETE FROM {table}_count WHERE owner = ?"

    def forget(self) -> None:
        """Clear caches."""
        for remembered in (self._blocks, self._changed, self._newest, self._counts, self._changed_counts):
            remembered.clear()

    def flush(self) -> None:
        """Write changed blocks; call before a commit."""
        for block in self._changed:
            entries = self._blocks[block]
            if entries:
                self._execute(self._save, (block, *entries.encoded()))
            else:
                self._execute(self._delete, (block,))
        self._changed.clear()
        for owner in self._changed_counts:
            self._execute(self._save_count, (owner, self._counts[owner]))
        self._changed_counts.clear()
        if len(self._blocks) > MAX_CACHED:
            self.forget()

    def has(self, owner: int, position: int) -> bool:
        found = self._find(owner, position)
        return found is not None and self._blocks[found].has(position)

    def look(self, owner: int, second: int) -> Around:
        only = self._blocks.get(first_block(owner))
        if only is not None:
            return _around(only.positions, second)
        found = self._find(owner, second)
        if found is None:
            return Around(before=False, here=False, after=self.has(owner, second + 1))
        positions = self._blocks[found].positions
        index = bisect_left(positions, second)
        size = len(positions)
        here = index < size and positions[index] == second
        next_one = index + here
        is_last = next_one == size and found != self._newest.get(owner, found)
        return Around(
            positions[index - 1] == second - 1 if index else start_of(found) == second and self.has(owner, second - 1),
            here,
            positions[next_one] == second + 1 if next_one < size else is_last and self.has(owner, second + 1),
        )

    def is_short(self, owner: int) -> bool:
        if first_block(owner) in self._blocks:
            return True
        found = self._find(owner, LAST_SECOND)
        return found is None or start_of(found) == 0

    def count(self, owner: int) -> int:
        found = self._find(owner, LAST_SECOND)
        if found is None:
            return 0
        return len(self._blocks[found]) if start_of(found) == 0 else self._long_count(owner)

    def position_of(self, owner: int, account: int) -> int | None:
        """Return the position of an account by a scan of the list."""
        only = self._blocks.get(first_block(owner))
        if only is not None:
            return only.position_of(account)
        found = self._find(owner, LAST_SECOND)
        while found is not None:
            position = self._blocks[found].position_of(account)
            if position is not None or start_of(found) <= 1:
                return position
            found = self._find(owner, start_of(found) - 1)
        return None

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        found = self._find(owner, bound)
        while found is not None:
            yield from self._blocks[found].newest_first(bound)
            found = self._find(owner, start_of(found) - 1) if start_of(found) > 1 else None

    def insert(self, owner: int, entry: Entry) -> None:
        found = self._find(owner, entry.position)
        if found is None:
            found = self._add_lowest(owner)
        self._blocks[found].insert(entry)
        self._changed.add(found)
        if start_of(found):
            self._add_to_count(owner, 1)
        if len(self._blocks[found]) > CAPACITY:
            self._split(owner, found, entry.position)

    def remove(self, owner: int, position: int) -> Entry:
        found = self._find(owner, position)
        assert found is not None, (owner, position)
        block = self._blocks[found]
        entry = block.remove(position)
        self._changed.add(found)
        if start_of(found):
            self._add_to_count(owner, -1)
            if len(block) < _SPARSE:
                self._merge(owner, found)
        return entry

    def _find(self, owner: int, position: int) -> int | None:
        only = first_block(owner)
        block = self._blocks.get(only)
        if block is not None:
            return only if block.positions else None
        newest = self._newest.get(owner)
        if newest is not None and start_of(newest) <= position:
            return newest
        last = block_at(owner, position)
        for found, entries, displaced in self._execute(self._at_or_before, (only, last)).fetchall():
            require_within(self._table, found, only, last)
            if found not in self._blocks:
                self._blocks[found] = read_block(self._table, found, entries, displaced)
            if found != only and newest is None:
                self._learn_newest(owner)
            return int(found)
        if position == LAST_SECOND:
            self._blocks[only] = Block()  # cache empty lists too
        return None

    def _add_lowest(self, owner: int) -> int:
        if self._find(owner, LAST_SECOND) is None:
            lowest = first_block(owner)
        else:
            lowest = first_block(owner) + 1
            self._execute(self._save, (lowest, b"", None))
        self._blocks[lowest] = Block()
        return lowest

    def _learn_newest(self, owner: int) -> None:
        ends = (first_block(owner), block_at(owner, LAST_SECOND))
        newest, entries, displaced = self._execute(self._at_or_before, ends).fetchall()[0]
        if newest not in self._blocks:
            self._blocks[newest] = read_block(self._table, newest, entries, displaced)
        self._newest[owner] = newest

    def _split(self, owner: int, full: int, position: int) -> None:
        """Split a full block. At the ends of a list, where it grows, the old block stays full."""
        block = self._blocks[full]
        is_newest = start_of(full) == 0 or self._newest.get(owner) == full
        if is_newest and block.positions[-1] == position:
            upper = block.split(CAPACITY)
        elif start_of(full) <= 1 and block.positions[0] == position:
            upper = block.split(1)
        else:
            upper = block.split(CAPACITY // 2)
        if start_of(full) == 0:
            self._counts[owner] = len(block) + len(upper)
            self._changed_counts.add(owner)
            self._drop(full)
            full = first_block(owner) + 1
            self._blocks[full] = block
        begins = block_at(owner, upper.positions[0])
        self._blocks[begins] = upper
        if is_newest:
            self._newest[owner] = begins
        for each in (full, begins):
            self._execute(self._save, (each, *self._blocks[each].encoded()))
            self._changed.discard(each)

    def _merge(self, owner: int, sparse: int) -> None:
        """Merge a sparse block into its older neighbour; drop an empty one."""
        block = self._blocks[sparse]
        older = self._find(owner, start_of(sparse) - 1) if start_of(sparse) > 1 else None
        if older is not None and len(self._blocks[older]) + len(block) <= _MERGED:
            self._blocks[older].extend(block)
            self._changed.add(older)
        elif block:
            return
        self._drop(sparse)
        self._newest.pop(owner, None)
        if self._long_count(owner) == 0:
            self._execute(self._delete_count, (owner,))
            self._changed_counts.discard(owner)
            del self._counts[owner]

    def _drop(self, block: int) -> None:
        self._execute(self._delete, (block,))
        del self._blocks[block]
        self._changed.discard(block)

    def _add_to_count(self, owner: int, change: int) -> None:
        self._counts[owner] = self._long_count(owner) + change
        self._changed_counts.add(owner)

    def _long_count(self, owner: int) -> int:
        if owner not in self._counts:
            self._counts[owner] = self._execute(self._load_count, (owner,)).fetchall()[0][0]
        return self._counts[owner]
