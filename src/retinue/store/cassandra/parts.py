"""The parts of long lists, so that no partition grows without bounds.

A list is in one partition until it has thousands of rows of one kind. Then older rows are moved to other parts, and
part 0 keeps the newest.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from msgspec import msgpack

from retinue.store.cassandra.places import LAST_SLOT, NEWEST, PLACES, key_of
from retinue.store.cassandra.redo_log import DIVIDE, ERASE, POINT, PUT, Write
from retinue.store.cassandra.retry import Reads
from retinue.store.cassandra.statements import chunks
from retinue.store.layout.sealing import seal, unseal
from retinue.store.layout.tables import TABLES, KeyKind, Table

# Part 0 has a pointer to each other part at its lowest slot, so the row of part 0 at or before a slot is the wanted
# one, or names its part. Rows of a part at or above the next part's lowest slot were moved, and are never read.
MAX_ROWS = 4_096  # of one kind in one part
KEPT_ROWS = 256  # of the newest part, when its older rows are moved

_POINTER_BYTES = 8
_PART = Table(40, "part", KeyKind.TEXT)  # its checksums are over the names of a list's table and owner
_POINTERS = "SELECT slot, value, child FROM {} WHERE owner = ? AND part = ? AND kind = ? AND slot < ?"
_LOAD = "SELECT name, owner, parts FROM part"
_TABLES = {table.name: table for table in TABLES}


class ListPart(NamedTuple):
    """A part: its lowest slot, and its number."""

    low: int
    number: int


class Range(NamedTuple):
    """Slots of one part, both ends included."""

    part: int
    low: int
    high: int


Parts = tuple[ListPart, ...]  # by ascending slots; the last one is the newest

_UNDIVIDED: Parts = (ListPart(0, NEWEST),)
_decode = msgpack.Decoder(tuple[ListPart, ...]).decode


class PartDirectory:
    """The parts of all lists, in memory."""

    def __init__(self) -> None:
        self._parts: dict[Table, dict[int, Parts]] = {}

    def load(self, session: Reads) -> None:
        self._parts = {}
        for name, owner, parts in session.rows(_LOAD):
            self.learn(_TABLES[name], owner, _decode(unseal(_PART, f"{name} {owner}", parts)))

    def learn(self, table: Table, owner: int, parts: Parts) -> None:
        self._parts.setdefault(table, {})[owner] = parts

    def of(self, table: Table, owner: int) -> Parts:
        return self._parts.get(table, {}).get(owner, _UNDIVIDED)

    def owners(self, table: Table) -> list[int]:
        return sorted(self._parts.get(table, ()))

    def is_divided(self, table: Table, owner: int) -> bool:
        return owner in self._parts.get(table, ())

    def part_of(self, table: Table, owner: int, slot: int) -> int:
        return self.rank_of(table, owner, slot)[0]

    def rank_of(self, table: Table, owner: int, slot: int) -> tuple[int, int]:
        """Return the part with a slot, and the number of newer ones."""
        parts = self.of(table, owner)
        index = bisect_right(parts, slot, key=lambda part: part.low) - 1
        return parts[index].number, len(parts) - 1 - index

    def ranges(self, table: Table, owner: int, low: int, high: int) -> list[Range]:
        """Return the ranges of slots in each part, ascending."""
        parts = self.of(table, owner)
        ends = [*(part.low - 1 for part in parts[1:]), LAST_SLOT]
        return [
            Range(part.number, max(low, part.low), min(high, end))
            for part, end in zip(parts, ends, strict=True)
            if part.low <= high and low <= end
        ]


class Division(NamedTuple):
    """A part with too many rows, and a new part's number."""

    table: Table
    owner: int
    part: int
    number: int
    rows: list[tuple[int, bytes]]


def divide(parts: Parts, division: Division) -> tuple[Parts, list[Write]]:
    """Return the parts of a list after a division, and its statements."""
    table, owner, part, number, rows = division
    index = next(index for index, each in enumerate(parts) if each.number == part)
    if part == NEWEST:  # its older rows are moved
        pieces = [*chunks(rows[:-KEPT_ROWS], MAX_ROWS)]
        lows = [parts[index].low, *(piece[0][0] for piece in pieces[1:])]
    else:  # its newer rows are moved
        pieces = [*chunks(rows, MAX_ROWS // 2)][1:]
        lows = [piece[0][0] for piece in pieces]
    made = [ListPart(low, number + place) for place, low in enumerate(lows)]
    if part == NEWEST:
        cut = rows[-KEPT_ROWS][0]
        after = (*parts[:index], *made, ListPart(cut, NEWEST))
        erased = [*pairwise([*lows, cut])]
    else:
        after = (*parts[: index + 1], *made, *parts[index + 1 :])
        erased = []  # later: readers may have read the pointers already
    sealed = seal(_PART, f"{table.name} {owner}", msgpack.encode(after))
    return after, [
        *_moved(division, zip(made, pieces, strict=True)),
        *(_erasure(division, NEWEST, *gap) for gap in erased),
        *(_erasure(division, each.number, above.low - 1, LAST_SLOT) for each, above in pairwise(parts)),
        Write(1, _PART.name, DIVIDE, (table.name, owner, sealed)),
    ]


def _moved(division: Division, pieces: Iterable[tuple[ListPart, Sequence[tuple[int, bytes]]]]) -> Iterator[Write]:
    name, kind, _ = PLACES[division.table]
    for made, rows in pieces:
        yield from (Write(0, name, PUT, (division.owner, made.number, kind, slot, value)) for slot, value in rows)
        sealed = sealed_pointer(division.table, division.owner, made)
        yield Write(1, name, POINT, (division.owner, NEWEST, kind, made.low, sealed, made.number))


def sealed_pointer(table: Table, owner: int, part: ListPart) -> bytes:
    """Return the value of the row that points to a part."""
    return seal(table, key_of(table, owner, part.low), part.number.to_bytes(_POINTER_BYTES, "little"))


def wrong_pointers(directory: PartDirectory, session: Reads) -> Iterator[str]:
    """Yield the divided lists whose pointers do not lead to their parts."""
    for table in TABLES:
        for owner in directory.owners(table):
            parts = directory.of(table, owner)
            expected = {part.low: (sealed_pointer(table, owner, part), part.number) for part in parts[:-1]}
            place = PLACES[table]
            rows = session.rows(_POINTERS.format(place.name), (owner, NEWEST, place.kind, parts[-1].low))
            if {slot: (value, child) for slot, value, child in rows if child is not None} != expected:
                yield f"{table.name} of account {owner}: a pointer to its older parts is wrong"


def _erasure(division: Division, part: int, low: int, high: int) -> Write:
    name, kind, _ = PLACES[division.table]
    return Write(1, name, ERASE, (division.owner, part, kind, low, high))
