"""The lists of a graph as columns, for checking.

Each part fits into memory.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np

from retinue.model import Direction
from retinue.store.layout.columns import Entries, Numbers, decode_blocks, unlinked
from retinue.store.layout.sealing import unseal
from retinue.store.layout.tables import LAST_SECOND, LISTS, Source, Table, first_of

_BLOCKS_AT_ONCE = 20_000


class BlockColumns(NamedTuple):
    """Blocks of one table by ascending keys, with their entries.

    `blocks` has the index of each entry's block. `unlinked` has the keys of blocks that are not linked to their
    neighbors.
    """

    keys: Numbers
    entries: Entries
    blocks: Numbers
    unlinked: Numbers

    @property
    def starts(self) -> Numbers:
        """The first slot of each block."""
        return self.keys & LAST_SECOND


class Part(NamedTuple):
    """Whole lists of some owners, ascending."""

    owners: Numbers
    visible: BlockColumns
    hidden: BlockColumns

    @property
    def entries(self) -> Entries:
        """The entries of both tables, in order."""
        return self.visible.entries.merged(self.hidden.entries)


def parts_of(source: Source, direction: Direction) -> Iterator[Part]:
    """Yield all lists of a direction. Raises `StoreUnavailable` for a damaged block."""
    tables = LISTS[direction]
    for rows in _rows_of_owners(source, tables.visible):
        owners = sorted({first_of(key) for key, _ in rows})
        hidden = source.rows_of(tables.hidden, owners)
        yield Part(np.array(owners, np.int64), _columns(tables.visible, rows), _columns(tables.hidden, hidden))
    for rows in _rows_of_owners(source, tables.hidden):
        owners = sorted({first_of(key) for key, _ in rows})
        seen = {first_of(key) for key, _ in source.rows_of(tables.visible, owners)}
        rest = [row for row in rows if first_of(row[0]) not in seen]
        if rest:
            owners = [owner for owner in owners if owner not in seen]
            yield Part(np.array(owners, np.int64), _columns(tables.visible, []), _columns(tables.hidden, rest))


def _rows_of_owners(source: Source, table: Table) -> Iterator[list[tuple[int, bytes]]]:
    """Yield rows, many at once, with all rows of an owner together."""
    rows = source.all_rows(table)
    kept: list[tuple[int, bytes]] = []
    while part := list(islice(rows, _BLOCKS_AT_ONCE)):
        kept += part
        last = first_of(kept[-1][0])
        end = next((index for index in range(len(kept) - 1, -1, -1) if first_of(kept[index][0]) != last), -1) + 1
        if end:
            yield kept[:end]
            kept = kept[end:]
    if kept:
        yield kept


def _columns(table: Table, rows: Sequence[tuple[int, bytes]]) -> BlockColumns:
    rows = sorted(rows)
    keys = [key for key, _ in rows]
    contents = [unseal(table, key, value) for key, value in rows]
    entries = decode_blocks(table, keys, contents)
    counts = np.fromiter((content[0] for content in contents), np.int64, len(contents))
    blocks = np.repeat(np.arange(len(keys)), counts)
    return BlockColumns(np.array(keys, np.int64), entries, blocks, np.array(list(unlinked(keys, contents)), np.int64))
