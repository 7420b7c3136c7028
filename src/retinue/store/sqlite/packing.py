"""Packing of sorted entries into blocks (`blocks.py`). Pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retinue.store.sqlite.blocks import CAPACITY

Numbers = NDArray[np.int64]
Packed = tuple[int, bytes, bytes | None]


class EntryColumns:
    """Entries of lists, sorted by owner and position."""

    __slots__ = ("accounts", "owners", "positions", "seconds")

    def __init__(self, owners: Numbers, positions: Numbers, accounts: Numbers, seconds: Numbers) -> None:
        self.owners = owners
        self.positions = positions
        self.accounts = accounts
        self.seconds = seconds

    def __len__(self) -> int:
        return len(self.owners)

    def where(self, chosen: NDArray[np.bool_]) -> "EntryColumns":
        return EntryColumns(self.owners[chosen], self.positions[chosen], self.accounts[chosen], self.seconds[chosen])

    def merged(self, other: "EntryColumns") -> "EntryColumns":
        if not len(other):
            return self
        columns = [
            np.concatenate(pair)
            for pair in (
                (self.owners, other.owners),
                (self.positions, other.positions),
                (self.accounts, other.accounts),
                (self.seconds, other.seconds),
            )
        ]
        order = np.argsort((columns[0] << 32) + columns[1], kind="stable")  # fast for sorted parts
        return EntryColumns(*(column[order] for column in columns))


def begins_of(owners: Numbers) -> tuple[Numbers, Numbers]:
    """Return the first index and the length of each list."""
    begins = np.flatnonzero(np.append(True, np.diff(owners) != 0)) if len(owners) else np.empty(0, np.int64)
    return begins, np.diff(np.append(begins, len(owners)))


def owners_of(owners: Numbers) -> tuple[Numbers, Numbers]:
    """Return the owners, ascending, and the owner's index for each place."""
    begins, sizes = begins_of(owners)
    return owners[begins], np.repeat(np.arange(len(begins)), sizes)


def blocks(entries: EntryColumns) -> Iterator[Packed]:
    """Yield the rows of a table of blocks: number, entries, displaced."""
    begins, sizes = begins_of(entries.owners)
    counts = -(-sizes // CAPACITY)
    # Each block's index in its list, and with it the range of its entries.
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(begins, counts) + places * CAPACITY
    ends = np.minimum(starts + CAPACITY, np.repeat(begins + sizes, counts))
    firsts = np.where(places == 0, np.repeat(counts > 1, counts), entries.positions[starts])
    numbers = (entries.owners[starts] << 32) + firsts
    is_displaced = entries.positions != entries.seconds
    before = np.append(0, np.cumsum(is_displaced))
    pairs = np.stack([entries.positions[is_displaced], entries.seconds[is_displaced]], axis=1).astype("<u4").tobytes()
    positions, accounts = entries.positions.astype("<u4").tobytes(), entries.accounts.astype("<u4").tobytes()
    bounds = (numbers.tolist(), starts.tolist(), ends.tolist(), before[starts].tolist(), before[ends].tolist())
    for number, start, end, low, high in zip(*bounds, strict=True):
        packed = positions[4 * start : 4 * end] + accounts[4 * start : 4 * end]
        yield number, packed, pairs[8 * low : 8 * high] if low < high else None


def counts(entries: EntryColumns) -> Iterator[tuple[int, int]]:
    """Yield the owners and sizes of lists of several blocks."""
    begins, sizes = begins_of(entries.owners)
    long = sizes > CAPACITY
    yield from zip(entries.owners[begins[long]].tolist(), sizes[long].tolist(), strict=True)
