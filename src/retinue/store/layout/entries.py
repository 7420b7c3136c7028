"""The entries of all lists in one table of blocks.

For the writer. Decoded blocks are cached until another writer changes the store. A list of one block has it at slot 0.
With several, the first begins at slot 1, and each reaches up to the next.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Collection, Iterator

from retinue.store.layout.blocks import CAPACITY, Block, Entry
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import damaged
from retinue.store.layout.tables import LAST_SECOND, Table, first_of, pair_key, second_of

MAX_CACHED_BLOCKS = 200_000
# A block that is emptier than the first joins its older neighbour if both together are no fuller than the second.
_SPARSE = CAPACITY // 4
_MERGED = CAPACITY * 3 // 4


class EntryTable:
    """The lists of all owners in one table."""

    def __init__(self, rows: Rows, table: Table) -> None:
        self._rows = rows
        self._table = table
        self._blocks: dict[int, Block] = {}
        self._long: dict[int, set[int]] = {}  # by owner: the keys of cached blocks after slot 0
        self._changed: set[int] = set()
        self._newest: dict[int, int | None] = {}  # of owners without a block at slot 0: the last key, None without any
        # Blocks that only this writer knows, by owner, and those that only the stored table still has.
        self._added: dict[int, list[int]] = {}
        self._dropped: set[int] = set()

    def forget(self) -> None:
        for memory in (self._blocks, self._long, self._changed, self._newest, self._added, self._dropped):
            memory.clear()

    def flush(self) -> None:
        for key in self._dropped:
            self._rows.delete(self._table, key)
        for key in self._changed:
            self._rows.put(self._table, key, self._blocks[key].encode())
        for memory in (self._changed, self._added, self._dropped):
            memory.clear()

    def committed(self) -> None:
        if len(self._blocks) > MAX_CACHED_BLOCKS:
            self.forget()

    def drop(self, owners: Collection[int]) -> None:
        """Forget owners whose rows were written elsewhere."""
        for owner in owners:
            self._blocks.pop(pair_key(owner, 0), None)
            self._newest.pop(owner, None)
            for key in self._long.pop(owner, ()):
                self._blocks.pop(key, None)

    def prefetch(self, owners: Collection[int], long: Collection[int]) -> None:
        """Read short lists at once. Those of `long` owners have several blocks."""
        keys = [
            key for owner in owners if (key := pair_key(owner, 0)) not in self._blocks and owner not in self._newest
        ]
        for key, content in zip(keys, self._rows.get_many(self._table, keys), strict=True):
            if content is not None:
                self._blocks[key] = Block.decode(self._table, key, content)
            elif first_of(key) not in long:
                self._newest[first_of(key)] = None

    def has(self, owner: int, position: int) -> bool:
        key = self._find(owner, position)
        return key is not None and self._blocks[key].has(position)

    def is_long(self, owner: int) -> bool:
        key = self._find(owner, LAST_SECOND)
        return key is not None and second_of(key) > 0

    def blocks_down(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Block]:
        """Yield the blocks of an unchanging list, from a slot down."""
        key = self._find(owner, bound)
        while key is not None:
            yield self._blocks[key]
            key = self._find(owner, second_of(key) - 1) if second_of(key) > 1 else None

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """Yield the entries of an unchanging list from a position down."""
        for block in self.blocks_down(owner, bound):
            yield from block.newest_first(bound)

    def positions_of(self, owner: int, account: int) -> list[int]:
        """Return an account's positions. Reads the whole list."""
        return [position for block in self.blocks_down(owner) for position in block.positions_of(account)]

    def entry(self, owner: int, position: int) -> Entry:
        return self._blocks[self._existing(owner, position)].entry(position)

    def insert(self, owner: int, entry: Entry) -> None:
        """Add an entry at a free position."""
        key = self._find(owner, entry.position)
        if key is None:
            key = self._add_first(owner)
        self._blocks[key].insert(entry)
        self._changed.add(key)
        if len(self._blocks[key]) > CAPACITY:
            self._split(owner, key, entry.position)

    def remove(self, owner: int, position: int) -> Entry:
        """Remove the existing entry at a position; return it."""
        key = self._existing(owner, position)
        block = self._blocks[key]
        entry = block.remove(position)
        self._changed.add(key)
        if not block or (second_of(key) and len(block) < _SPARSE):
            self._merge(owner, key)
        return entry

    def _existing(self, owner: int, position: int) -> int:
        key = self._find(owner, position)
        if key is None or not self._blocks[key].has(position):
            raise damaged(self._table, pair_key(owner, position), "another list has its entry, and this one does not")
        return key

    def _find(self, owner: int, position: int) -> int | None:
        """Return the key of the block for a position; cache the block."""
        only = pair_key(owner, 0)
        if only in self._blocks:
            return only
        newest = self._newest[owner] if owner in self._newest else self._learn_newest(owner)
        if newest is None or second_of(newest) <= position:
            return newest
        key = self._at_or_before(owner, position)
        named = 0 if key is None else self._blocks[key].next_start
        if named <= position:
            raise damaged(self._table, pair_key(owner, named or 1), "a newer block of its list exists, and it does not")
        return key

    def _at_or_before(self, owner: int, position: int) -> int | None:
        stored = self._stored(owner, position)
        added = self._added.get(owner)
        if added and (index := bisect_right(added, pair_key(owner, position))):
            stored = added[index - 1] if stored is None else max(stored, added[index - 1])
        return stored

    def _learn_newest(self, owner: int) -> int | None:
        newest = self._at_or_before(owner, LAST_SECOND)
        if newest is not None and (named := self._blocks[newest].next_start):
            raise damaged(self._table, pair_key(owner, named), "an older block of its list exists, and it does not")
        if newest is None or second_of(newest) > 0:
            self._newest[owner] = newest
        return newest

    def _stored(self, owner: int, position: int) -> int | None:
        while True:
            found = self._rows.first(self._table, pair_key(owner, 0), pair_key(owner, position), reverse=True)
            if found is None:
                return None
            key, content = found
            if key not in self._dropped:
                if key not in self._blocks:
                    self._cache(owner, key, Block.decode(self._table, key, content))
                return key
            if second_of(key) <= 1:
                return None
            position = second_of(key) - 1

    def _add_first(self, owner: int) -> int:
        """Add a block to an empty list."""
        key = pair_key(owner, 0)
        self._add(owner, key, Block())
        self._newest.pop(owner, None)
        return key

    def _add(self, owner: int, key: int, block: Block) -> None:
        self._cache(owner, key, block)
        self._changed.add(key)
        self._dropped.discard(key)
        insort(self._added.setdefault(owner, []), key)

    def _cache(self, owner: int, key: int, block: Block) -> None:
        self._blocks[key] = block
        if second_of(key):
            self._long.setdefault(owner, set()).add(key)

    def _drop(self, owner: int, key: int) -> None:
        del self._blocks[key]
        self._long.get(owner, set()).discard(key)
        self._changed.discard(key)
        self._dropped.add(key)
        added = self._added.get(owner)
        if added and (index := bisect_left(added, key)) < len(added) and added[index] == key:
            del added[index]

    def _split(self, owner: int, full: int, position: int) -> None:
        """Split a block. A full block at a list's end stays full."""
        block = self._blocks[full]
        is_newest = second_of(full) == 0 or self._newest.get(owner) == full
        if is_newest and block.positions[-1] == position:
            upper = block.split(CAPACITY)
        elif second_of(full) <= 1 and block.positions[0] == position:
            upper = block.split(1)
        else:
            upper = block.split(CAPACITY // 2)
        if second_of(full) == 0:
            self._drop(owner, full)
            self._add(owner, pair_key(owner, 1), block)
        begin = pair_key(owner, upper.positions[0])
        self._add(owner, begin, upper)
        if is_newest:
            self._newest[owner] = begin

    def _merge(self, owner: int, sparse: int) -> None:
        """Join a sparse block to its older neighbor; remove an empty one. The oldest one begins where it did."""
        block = self._blocks[sparse]
        older = self._find(owner, second_of(sparse) - 1) if second_of(sparse) > 1 else None
        if older is None and not block and block.next_start:
            older, sparse = sparse, pair_key(owner, block.next_start)
            self._find(owner, block.next_start)  # have it in memory
            block = self._blocks[sparse]
        if older is not None and (not self._blocks[older] or not block or self._fits(older, sparse)):
            self._blocks[older].extend(block)
            self._changed.add(older)
        elif block:
            return
        self._drop(owner, sparse)
        self._newest.pop(owner, None)

    def _fits(self, one: int, other: int) -> bool:
        return len(self._blocks[one]) + len(self._blocks[other]) <= _MERGED
