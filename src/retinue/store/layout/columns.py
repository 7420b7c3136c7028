"""Entries of many lists as arrays, and their blocks. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retinue.store.layout.blocks import CAPACITY, head_of, next_start_of
from retinue.store.layout.sealing import damaged
from retinue.store.layout.tables import LAST_SECOND, Table

Numbers = NDArray[np.int64]
Chosen = NDArray[np.bool_]

_NUMBER_BYTES = 4
_PAIR_BYTES = 2 * _NUMBER_BYTES
_COUNT = 0xFF
NOTHING = np.empty(0, np.int64)


class Entries(NamedTuple):
    """Entries by ascending owner and position. An end of 0: open."""

    owners: Numbers
    positions: Numbers
    accounts: Numbers
    starts: Numbers
    ends: Numbers

    @property
    def size(self) -> int:
        return len(self.owners)

    def where(self, chosen: Chosen) -> "Entries":
        return Entries(*(column[chosen] for column in self))

    def merged(self, other: "Entries") -> "Entries":
        """Return the entries of both, in order."""
        if not other.size or not self.size:
            return self if self.size else other
        columns = [np.concatenate(pair) for pair in zip(self, other, strict=True)]
        order = np.argsort((columns[0] << 32) + columns[1], kind="stable")  # merges what is in order already
        return Entries(*(column[order] for column in columns))


NO_ENTRIES = Entries(NOTHING, NOTHING, NOTHING, NOTHING, NOTHING)


def decode_blocks(table: Table, keys: Sequence[int], contents: Sequence[bytes]) -> Entries:
    """Return the entries of ascending blocks. Raises `StoreUnavailable` for a damaged one."""
    if not keys:
        return NO_ENTRIES
    sizes, rest = np.divmod(np.fromiter(map(len, contents), np.int64, len(contents)), _NUMBER_BYTES)
    _require_whole(table, keys, (rest != 0) | (sizes == 0))
    numbers = np.frombuffer(b"".join(contents), "<u4").astype(np.int64)
    begins = np.cumsum(sizes) - sizes
    heads = numbers[begins]
    counts, displaced, ended, has_next = heads & _COUNT, heads >> 8 & _COUNT, heads >> 16 & _COUNT, heads >> 24
    is_wrong = (sizes != 1 + 2 * (counts + displaced + ended) + has_next) | (counts > CAPACITY) | (has_next > 1)
    _require_whole(table, keys, is_wrong)
    owners = np.repeat(np.array(keys, np.int64) >> 32, counts)
    at = _ranges(begins + 1, counts)
    positions, accounts = numbers[at], numbers[at + np.repeat(counts, counts)]
    starts, ends = positions.copy(), np.zeros(len(positions), np.int64)
    ids = (owners << 32) + positions
    for column, first, sizes_of in (
        (starts, begins + 1 + 2 * counts, displaced),
        (ends, begins + 1 + 2 * (counts + displaced), ended),
    ):
        if sizes_of.any():
            pairs = _ranges(first, 2 * sizes_of)
            where, what = numbers[pairs[::2]], numbers[pairs[1::2]]
            of_owner = np.repeat(np.array(keys, np.int64) >> 32, sizes_of)
            column[np.searchsorted(ids, (of_owner << 32) + where)] = what
    return Entries(owners, positions, accounts, starts, ends)


def require_linked(table: Table, keys: Sequence[int], contents: Sequence[bytes]) -> None:
    """Raise `StoreUnavailable` if ascending whole lists lack a block."""
    for key in unlinked(keys, contents):
        raise damaged(table, key, "a block of its list before or after it is missing")


def unlinked(keys: Sequence[int], contents: Sequence[bytes]) -> Iterator[int]:
    """Yield the keys of blocks that are not linked to their neighbors."""
    linked = 0  # the next key, if its list goes on
    for key, content in zip(keys, contents, strict=True):
        if linked != key if linked else key & LAST_SECOND > 1:
            yield key
        named = next_start_of(content)
        linked = (key >> 32 << 32) + named if named else 0
    if linked:
        yield keys[-1]


def _require_whole(table: Table, keys: Sequence[int], is_wrong: Chosen) -> None:
    if is_wrong.any():
        raise damaged(table, keys[int(np.flatnonzero(is_wrong)[0])], "its block is not whole")


def _ranges(begins: Numbers, sizes: Numbers) -> Numbers:
    """Return the numbers of ranges with these beginnings and sizes."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(begins - before, sizes) + np.arange(int(sizes.sum()))


def begins_of(owners: Numbers) -> tuple[Numbers, Numbers]:
    """Return the beginning and length of each list in ascending owners."""
    begins = np.flatnonzero(np.append(True, np.diff(owners) != 0)) if len(owners) else NOTHING
    return begins, np.diff(np.append(begins, len(owners)))


def owners_of(owners: Numbers) -> tuple[Numbers, Numbers]:
    """Return each owner once, and for each place the owner's index."""
    begins, sizes = begins_of(owners)
    return owners[begins], np.repeat(np.arange(len(begins)), sizes)


def is_among(numbers: Numbers, ascending: Numbers) -> Chosen:
    """Return which numbers are in an ascending array."""
    if not len(ascending):
        return np.zeros(len(numbers), np.bool_)
    place = np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)
    found: Chosen = ascending[place] == numbers
    return found


def encode_blocks(entries: Entries) -> Iterator[tuple[int, bytes]]:
    """Yield the keyed blocks of whole lists."""
    begins, sizes = begins_of(entries.owners)
    counts = -(-sizes // CAPACITY)
    # The place within its list of each block, and with it the entries that it has.
    places = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    starts = np.repeat(begins, counts) + places * CAPACITY
    ends = np.minimum(starts + CAPACITY, np.repeat(begins + sizes, counts))
    firsts = np.where(places == 0, np.repeat(counts > 1, counts), entries.positions[starts])
    keys = (entries.owners[starts] << 32) + firsts
    positions, accounts = (column.astype("<u4").tobytes() for column in (entries.positions, entries.accounts))
    displaced, of_displaced = _pairs(entries.positions, entries.starts, entries.positions != entries.starts)
    ended, of_ended = _pairs(entries.positions, entries.ends, entries.ends != 0)
    low_displaced, high_displaced = of_displaced[starts], of_displaced[ends]
    low_ended, high_ended = of_ended[starts], of_ended[ends]
    nexts, has_next = _next_starts(keys)
    counts_of = (ends - starts, high_displaced - low_displaced, high_ended - low_ended, has_next)
    heads = head_of(*counts_of).astype("<u4").tobytes()  # type: ignore[arg-type, attr-defined]
    if not displaced and not ended:
        for index, (key, low, high, following) in enumerate(
            zip(keys.tolist(), (4 * starts).tolist(), (4 * ends).tolist(), nexts, strict=True)
        ):
            yield key, b"".join((heads[4 * index : 4 * index + 4], positions[low:high], accounts[low:high], following))
        return
    bounds = (keys, starts, ends, low_displaced, high_displaced, low_ended, high_ended)
    for index, (following, key, low, high, *pairs) in enumerate(
        zip(nexts, *(bound.tolist() for bound in bounds), strict=True)
    ):
        yield (
            key,
            b"".join(
                (
                    heads[_NUMBER_BYTES * index : _NUMBER_BYTES * (index + 1)],
                    positions[_NUMBER_BYTES * low : _NUMBER_BYTES * high],
                    accounts[_NUMBER_BYTES * low : _NUMBER_BYTES * high],
                    displaced[_PAIR_BYTES * pairs[0] : _PAIR_BYTES * pairs[1]],
                    ended[_PAIR_BYTES * pairs[2] : _PAIR_BYTES * pairs[3]],
                    following,
                )
            ),
        )


def _next_starts(keys: Numbers) -> tuple[list[bytes], Numbers]:
    """Return the links of blocks as bytes, and which have one."""
    has_next = np.zeros(len(keys), np.int64)
    has_next[:-1] = keys[1:] >> 32 == keys[:-1] >> 32
    starts = np.append(keys[1:], 0).astype("<u4").tobytes()
    return [
        starts[_NUMBER_BYTES * index : _NUMBER_BYTES * (index + follows)]
        for index, follows in enumerate(has_next.tolist())
    ], has_next


def _pairs(positions: Numbers, values: Numbers, chosen: Chosen) -> tuple[bytes, Numbers]:
    """Return chosen pairs as bytes, and the number before each entry."""
    before = np.append(0, np.cumsum(chosen))
    return np.stack([positions[chosen], values[chosen]], axis=1).astype("<u4").tobytes(), before
