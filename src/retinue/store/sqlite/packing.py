"""Packing sorted entries of many lists into blocks (`blocks.py`), pure."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from retinue.store.sqlite.blocks import CAPACITY

Numbers = NDArray[np.int64]
Packed = tuple[int, bytes, bytes | None]


class EntryColumns:
    """Entries of lists of one table, by owner and position, both ascending."""

    __slots__ = ("accounts", "owners", "positions", "seconds")

    def __init__(self, owners: Numbers, positions: Numbers, accounts: Numbers, seconds: Numbers) -> None:
        self.owners = owners
        self.positions = positions
        self.accounts = accounts
        self.seconds = seconds

    def __len__(self) -> int:
        return len(self.owners)

    def where(self, chosen: NDArray[np.bool_]) -> "EntryColumns":
        """Some of them."""
        return EntryColumns(self.owners[chosen], self.positions[chosen], self.accounts[chosen], self.seconds[chosen])

    def merged(self, other: "EntryColumns") -> "EntryColumns":
        """Both, in order."""
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
        order = np.argsort((columns[0] << 32) + columns[1], kind="stable")  # merges what is in order already
        return EntryColumns(*(column[order] for column in columns))


def begins_of(owners: Numbers) -> tuple[Numbers, Numbers]:
    """Where each list begins, and how long it is."""
    begins = np.flatnonzero(np.append(True, np.diff(owners) != 0)) if len(owners) else np.empty(0, np.int64)
    return begins, np.diff(np.append(begins, len(owners)))


def owners_of(owners: Numbers) -> tuple[Numbers, Numbers]:
    """Each owner once, given an ascending array; and for each place in it which of them that is, counted from 0."""
    begins, sizes = begins_of(owners)
    return owners[begins], np.repeat(np.arange(len(begins)), sizes)


def blocks(entries: EntryColumns) -> Iterator[Packed]:
    """The rows of a table of blocks, in their order: number, entries, displaced."""
    begins, sizes = begins_of(entries.owners)
    counts = -(-sizes // CAPACITY)
    # The place within its list of each block, and with it the entries that it has.
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
    """Owners of lists of several blocks, and how many entries those have."""
    begins, sizes = begins_of(entries.owners)
    long = sizes > CAPACITY
    yield from zip(entries.owners[begins[long]].tolist(), sizes[long].tolist(), strict=True)
