"""A block: up to 120 entries of a list in one value. Pure."""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from typing import NamedTuple

from retinue.store.layout.sealing import damaged
from retinue.store.layout.tables import LAST_SECOND, Table, pair_key, second_of

CAPACITY = 120  # four full blocks fit on a page of 4 KiB

# A block consists of little-endian unsigned 32-bit numbers: a head with the numbers of all, displaced and ended
# entries, and whether a newer block follows (a byte each); positions, ascending; accounts; position and start of each
# displaced entry; position and end of each ended one; the first slot of the newer block. An entry is displaced if its
# position is not its start.
_NUMBER_BYTES = 4
_COUNT_BITS = 8
_COUNT = (1 << _COUNT_BITS) - 1


class Entry(NamedTuple):
    """An interval in a list: position, other account, start and end (0: open)."""

    position: int
    account: int
    start: int
    end: int = 0


def columns_of(table: Table, key: int, content: bytes) -> tuple[memoryview, int]:
    """Return the numbers of a block, and its number of entries.

    Positions start at index 1, accounts follow. Raises `StoreUnavailable` if the block is damaged.
    """
    if len(content) % _NUMBER_BYTES or not content:
        raise damaged(table, key, "its block is not whole")
    numbers = memoryview(content).cast("I")
    count, displaced, ended, has_next = _counts(numbers[0])
    if count > CAPACITY or has_next > 1 or len(numbers) != 1 + 2 * (count + displaced + ended) + has_next:
        raise damaged(table, key, "its block is not whole")
    return numbers, count


def _counts(head: int) -> tuple[int, int, int, int]:
    return head & _COUNT, head >> _COUNT_BITS & _COUNT, head >> 2 * _COUNT_BITS & _COUNT, head >> 3 * _COUNT_BITS


def head_of(count: int, displaced: int, ended: int, has_next: int) -> int:
    """Return the first number of a block."""
    return count | displaced << _COUNT_BITS | ended << 2 * _COUNT_BITS | has_next << 3 * _COUNT_BITS


def next_start_of(content: bytes) -> int:
    """Return the first slot of the next newer block, or 0."""
    return int.from_bytes(content[-_NUMBER_BYTES:], "little") if content[_NUMBER_BYTES - 1] else 0


class Chain:
    """The blocks of a list in the order of reading.

    Each block names the one before it, so a missing block is noticed.
    """

    __slots__ = ("_bound", "_next", "_table")

    def __init__(self, table: Table, bound: int) -> None:
        self._table = table
        self._bound = bound
        self._next = -1  # the first slot of the last block that was read, -1 before the first one

    def take(self, key: int, content: bytes) -> None:
        """Take the next older block. Raises `StoreUnavailable` if one is missing."""
        named = next_start_of(content)
        if named != self._next if self._next >= 0 else 0 < named <= self._bound:
            raise damaged(self._table, key, f"the block at slot {named} is missing")
        self._next = second_of(key)

    def end(self, owner: int) -> None:
        """Call after the oldest block. Raises `StoreUnavailable` if one is missing."""
        if self._next > 1:
            raise damaged(self._table, pair_key(owner, 1), "it is missing")


class Block:
    """The entries of one block, to be changed in place."""

    __slots__ = ("accounts", "ends", "next_start", "positions", "starts")

    def __init__(self) -> None:
        self.positions = array("I")
        self.accounts = array("I")
        self.starts: dict[int, int] = {}  # by position, where they differ
        self.ends: dict[int, int] = {}  # by position, of ended entries
        self.next_start = 0  # the first slot of the newer block, 0 for the newest one

    @classmethod
    def decode(cls, table: Table, key: int, content: bytes) -> "Block":
        numbers, count = columns_of(table, key, content)
        _, displaced, ended, _ = _counts(numbers[0])
        block = cls()
        block.positions = array("I", numbers[1 : 1 + count].tobytes())
        block.accounts = array("I", numbers[1 + count : 1 + 2 * count].tobytes())
        rest = numbers[1 + 2 * count :].tolist()
        block.starts = dict(zip(rest[: 2 * displaced : 2], rest[1 : 2 * displaced : 2], strict=True))
        ends = rest[2 * displaced : 2 * (displaced + ended)]
        block.ends = dict(zip(ends[::2], ends[1::2], strict=True))
        block.next_start = next_start_of(content)
        return block

    def __len__(self) -> int:
        return len(self.positions)

    def encode(self) -> bytes:
        head = array("I", (head_of(len(self), len(self.starts), len(self.ends), self.next_start > 0),))
        rest = [number for column in (self.starts, self.ends) for pair in sorted(column.items()) for number in pair]
        rest += [self.next_start] if self.next_start else []
        return b"".join((head, self.positions, self.accounts, array("I", rest)))

    def has(self, position: int) -> bool:
        index = bisect_left(self.positions, position)
        return index < len(self.positions) and self.positions[index] == position

    def positions_of(self, account: int) -> list[int]:
        wanted = account.to_bytes(_NUMBER_BYTES, "little")
        numbers = self.accounts.tobytes()
        found = []
        at = numbers.find(wanted)
        while at >= 0:
            if at % _NUMBER_BYTES == 0:  # else it lies across two numbers
                found.append(self.positions[at // _NUMBER_BYTES])
            at = numbers.find(wanted, at + 1)
        return found

    def entry(self, position: int) -> Entry:
        return self._entry(bisect_left(self.positions, position))

    def insert(self, entry: Entry) -> None:
        """Add an entry at a free position."""
        index = bisect_left(self.positions, entry.position)
        self.positions.insert(index, entry.position)
        self.accounts.insert(index, entry.account)
        if entry.start != entry.position:
            self.starts[entry.position] = entry.start
        if entry.end:
            self.ends[entry.position] = entry.end

    def remove(self, position: int) -> Entry:
        index = bisect_left(self.positions, position)
        entry = self._entry(index)
        del self.positions[index], self.accounts[index]
        self.starts.pop(position, None)
        self.ends.pop(position, None)
        return entry

    def split(self, index: int) -> "Block":
        """Remove the entries from an index on; return the next block."""
        upper = Block()
        upper.positions, self.positions = self.positions[index:], self.positions[:index]
        upper.accounts, self.accounts = self.accounts[index:], self.accounts[:index]
        begin = upper.positions[0]
        upper.next_start, self.next_start = self.next_start, begin
        for ours, theirs in ((self.starts, upper.starts), (self.ends, upper.ends)):
            for position in [position for position in ours if position >= begin]:
                theirs[position] = ours.pop(position)
        return upper

    def extend(self, upper: "Block") -> None:
        self.positions += upper.positions
        self.accounts += upper.accounts
        self.starts |= upper.starts
        self.ends |= upper.ends
        self.next_start = upper.next_start

    def newest_first(self, bound: int = LAST_SECOND) -> Iterator[Entry]:
        for index in range(bisect_left(self.positions, bound + 1) - 1, -1, -1):
            yield self._entry(index)

    @property
    def open_count(self) -> int:
        return len(self.positions) - len(self.ends)

    def _entry(self, index: int) -> Entry:
        position = self.positions[index]
        return Entry(position, self.accounts[index], self.starts.get(position, position), self.ends.get(position, 0))
