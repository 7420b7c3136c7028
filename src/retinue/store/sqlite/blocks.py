"""A block: up to 120 entries of a list in one blob, so that a page costs one or two rows of a table. Pure.

`entries` holds two columns of unsigned 32-bit numbers, little-endian: the positions, ascending, then the accounts.
`displaced` holds pairs of numbers for those entries whose true second is not their position: position, true second.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from retinue.store.rules.values import LAST_SECOND, Entry

CAPACITY = 120  # four full blocks fit on a page of 4 KiB

_OWNER_SHIFT = 32
_NUMBER_BYTES = 4


def first_block(owner: int) -> int:
    """The lowest number a block of an owner can have."""
    return owner << _OWNER_SHIFT


def block_at(owner: int, second: int) -> int:
    """The number of the block that begins at a second; also the highest one that can hold that second."""
    return owner << _OWNER_SHIFT | min(second, LAST_SECOND)


def owner_of(block: int) -> int:
    """Whose block a number means."""
    return block >> _OWNER_SHIFT


def start_of(block: int) -> int:
    """The first second that a block may hold."""
    return block & LAST_SECOND


class Block:
    """The entries of one block, to be changed in place."""

    __slots__ = ("accounts", "displaced", "positions")

    def __init__(self, entries: bytes = b"", displaced: bytes | None = None) -> None:
        half = len(entries) // 2
        self.positions = array("I", entries[:half])
        self.accounts = array("I", entries[half:])
        self.displaced: dict[int, int] = {}
        if displaced:
            numbers = array("I", displaced)
            self.displaced.update(zip(numbers[::2], numbers[1::2], strict=True))

    def __len__(self) -> int:
        return len(self.positions)

    def encoded(self) -> tuple[bytes, bytes | None]:
        """Both blobs."""
        entries = self.positions.tobytes() + self.accounts.tobytes()
        if not self.displaced:
            return entries, None
        return entries, array("I", [number for pair in sorted(self.displaced.items()) for number in pair]).tobytes()

    def has(self, position: int) -> bool:
        """Whether an entry stands at a second."""
        index = bisect_left(self.positions, position)
        return index < len(self.positions) and self.positions[index] == position

    def position_of(self, account: int) -> int | None:
        """Where an account stands."""
        wanted = account.to_bytes(_NUMBER_BYTES, "little")
        numbers = self.accounts.tobytes()
        at = numbers.find(wanted)
        while at % _NUMBER_BYTES and at >= 0:  # found across two numbers
            at = numbers.find(wanted, at + 1)
        return self.positions[at // _NUMBER_BYTES] if at >= 0 else None

    def insert(self, entry: Entry) -> None:
        """Put an entry on a free second."""
        index = bisect_left(self.positions, entry.position)
        self.positions.insert(index, entry.position)
        self.accounts.insert(index, entry.account)
        if entry.second != entry.position:
            self.displaced[entry.position] = entry.second

    def remove(self, position: int) -> Entry:
        """Take an entry away."""
        index = bisect_left(self.positions, position)
        del self.positions[index]
        return Entry(position, self.accounts.pop(index), self.displaced.pop(position, position))

    def split(self, index: int) -> "Block":
        """Cut off the entries from an index on."""
        upper = Block()
        upper.positions, self.positions = self.positions[index:], self.positions[:index]
        upper.accounts, self.accounts = self.accounts[index:], self.accounts[:index]
        if self.displaced:
            start = upper.positions[0]
            upper.displaced = {at: second for at, second in self.displaced.items() if at >= start}
            self.displaced = {at: second for at, second in self.displaced.items() if at < start}
        return upper

    def extend(self, upper: "Block") -> None:
        """Append the entries of the next block."""
        self.positions += upper.positions
        self.accounts += upper.accounts
        self.displaced |= upper.displaced

    def newest_first(self, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """The entries at or before a second."""
        for index in range(bisect_left(self.positions, bound + 1) - 1, -1, -1):
            position = self.positions[index]
            yield Entry(position, self.accounts[index], self.displaced.get(position, position))
