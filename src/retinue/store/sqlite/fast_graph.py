"""Pages of current lists in one step: a block or two by one statement, their rows from the row file.

The slow twin is `SqliteGraph` on the same connection; what is not ordinary (a row that is not in the file, or that lists
do not show; entries that are being relocated; nearly empty blocks) is left to it.
"""

from bisect import bisect_right
from typing import NamedTuple
from zlib import crc32

import apsw
import numpy as np

from retinue.model import Direction, Stretch
from retinue.store.contract import Run
from retinue.store.layout.blocks import columns_of
from retinue.store.layout.mapped_rows import MappedRows
from retinue.store.layout.sealing import SEAL_BYTES, damaged, unseal
from retinue.store.layout.tables import LAST_SECOND, LISTS, Table, second_of
from retinue.store.sqlite.files import unchecked_executor

_FOLLOWING = Direction.FOLLOWING  # on Python 3.11 each lookup in an enum takes long


class _Lists(NamedTuple):
    table: Table
    read: str  # two blocks hold a page of any size, unless they are nearly empty


def _lists(direction: Direction) -> _Lists:
    table = LISTS[direction].visible
    return _Lists(table, f"SELECT key, value FROM {table.name} WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT 2")


class FastReader:
    """Reads pages with a connection."""

    def __init__(self, connection: apsw.Connection, rows: MappedRows) -> None:
        self._execute = unchecked_executor(connection)  # values are checked by their seals
        self._rows = rows
        self._following = _lists(Direction.FOLLOWING)
        self._followers = _lists(Direction.FOLLOWERS)

    def read(self, request: Stretch) -> Run | None:
        """Return the encoded rows of a page request for the current list; None: ask the slow twin."""
        lists = self._following if request.direction is _FOLLOWING else self._followers
        table, owner, bound, wanted = lists.table, request.account_id, min(request.bound, LAST_SECOND), request.limit + 1
        low, high = owner << 32, owner << 32 | bound
        blocks = self._execute(lists.read, (low, high)).fetchall()
        parts = []
        oldest = 0
        has_more = False
        for key, value in blocks:
            if not low <= key <= high:
                raise damaged(table, key, "stands among the blocks of another list")
            high = key - 1
            numbers, count = columns_of(table, key, unseal(table, key, value))
            end = bisect_right(numbers, bound, 1, count + 1)
            first = max(1, end - wanted)
            if end > 1:
                parts.append(np.frombuffer(numbers, "<u4", end - first, 4 * (count + first))[::-1])
                wanted -= end - first
                if wanted == 0:
                    has_more = True
                    first += 1
                    oldest = numbers[first] if first < end else oldest
                    break
                oldest = numbers[first]
        else:
            if len(blocks) == 2 and second_of(key) > 1:
                return None
        ids = parts[0] if len(parts) == 1 else np.concatenate(parts) if parts else None
        if ids is None:
            return Run(b"", 0, 0, has_more=False)
        if has_more:
            ids = ids[:-1]
        text = self._rows.joined(ids)
        return None if text is None else Run(text, len(ids), oldest, has_more)
