"""A block: up to 120 entries of a list in one blob. A page costs one or two rows. Pure.

`entries` holds two columns of unsigned 32-bit numbers, little-endian: the positions, ascending, then the accounts.
`displaced` holds pairs of position and true second, where they differ.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator

from retinue.errors import StoreUnavailable
from retinue.store.rules.values import LAST_SECOND, Entry

CAPACITY = 120  # four full blocks fit on a page of 4 KiB

_OWNER_SHIFT = 32
_NUMBER_BYTES = 4
_ENTRY_BYTES = 2 * _NUMBER_BYTES
_MAX_BYTES = CAPACITY * _ENTRY_BYTES


def first_block(owner: int) -> int:
    """Return the lowest block number of an owner."""
    return owner << _OWNER_SHIFT


def block_at(owner: int, second: int) -> int:
    """Return the highest number of a block that can hold a second."""
    return owner << _OWNER_SHIFT | min(second, LAST_SECOND)


def owner_of(block: int) -> int:
    """Return the owner of a block."""
    return block >> _OWNER_SHIFT


def start_of(block: int) -> int:
    """Return the first second that a block may hold."""
    return block & LAST_SECOND


def columns_of(table: str, block: int, entries: bytes) -> memoryview:
    """Return both columns of stored entries, positions first. Raises `StoreUnavailable` for malformed entries."""
    if type(entries) is not bytes or len(entries) % _ENTRY_BYTES or len(entries) > _MAX_BYTES:
        raise _damaged(table, block, "its entries are incomplete")
    return memoryview(entries).cast("I")


def require_within(table: str, block: int, first: int, last: int) -> None:
    """Require that a block was asked for. A damaged table may return others."""
    if not first <= block <= last:
        raise _damaged(table, block, "is among the blocks of another account or second")


def require_descending(table: str, owner: int, positions: list[int], bound: int) -> None:
    """Require positions in descending order from the bound, so that paging ends."""
    if positions and (positions[0] > bound or positions != sorted(positions, reverse=True)):
        raise StoreUnavailable(f"table {table}, account {owner}: its positions are not in order; it is damaged")


def read_block(table: str, number: int, entries: bytes, displaced: bytes | None) -> "Block":
    """Return a stored block. Raises `StoreUnavailable` if it is malformed."""
    columns_of(table, number, entries)
    if displaced is not None and (type(displaced) is not bytes or len(displaced) % _ENTRY_BYTES):
        raise _damaged(table, number, "its true seconds are incomplete")
    return Block(entries, displaced)


def _damaged(table: str, block: int, how: str) -> StoreUnavailable:
    where = f"account {owner_of(block)}, block {start_of(block)}"
    return StoreUnavailable(f"table {table}, {where}: {how}; it is damaged")


class Block:
    """The entries of one block, mutable."""

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
        """Return `entries` and `displaced`."""
        entries = self.positions.tobytes() + self.accounts.tobytes()
        if not self.displaced:
            return entries, None
        return entries, array("I", [number for pair in sorted(self.displaced.items()) for number in pair]).tobytes()

    def has(self, position: int) -> bool:
        index = bisect_left(self.positions, position)
        return index < len(self.positions) and self.positions[index] == position

    def position_of(self, account: int) -> int | None:
        wanted = account.to_bytes(_NUMBER_BYTES, "little")
        numbers = self.accounts.tobytes()
        at = numbers.find(wanted)
        while at % _NUMBER_BYTES and at >= 0:  # found across two numbers
            at = numbers.find(wanted, at + 1)
        return self.positions[at // _NUMBER_BYTES] if at >= 0 else None

    def insert(self, entry: Entry) -> None:
        index = bisect_left(self.positions, entry.position)
        self.positions.insert(index, entry.position)
        self.accounts.insert(index, entry.account)
        if entry.second != entry.position:
            self.displaced[entry.position] = entry.second

    def remove(self, position: int) -> Entry:
        index = bisect_left(self.positions, position)
        del self.positions[index]
        return Entry(position, self.accounts.pop(index), self.displaced.pop(position, position))

    def split(self, index: int) -> "Block":
        """Cut off and return the entries from an index on."""
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
        for index in range(bisect_left(self.positions, bound + 1) - 1, -1, -1):
            position = self.positions[index]
            yield Entry(position, self.accounts[index], self.displaced.get(position, position))
