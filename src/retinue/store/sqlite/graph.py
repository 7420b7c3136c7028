"""Reads of the follow graph from its SQLite file."""

from bisect import bisect_right
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Generic

from retinue.clock import Clock
from retinue.model import Account, Direction, PageRequest, PageRows, Profile, Shown_co
from retinue.store.rules.values import LAST_SECOND
from retinue.store.sqlite import files
from retinue.store.sqlite.blocks import block_at, columns_of, first_block, require_descending, require_within
from retinue.store.sqlite.merged_lists import entries_of
from retinue.store.sqlite.profiles import read_profile
from retinue.store.sqlite.row_cache import RowCache

BLOCKS = {
    direction: f"SELECT block, entries FROM {direction.value} WHERE block BETWEEN ? AND ? ORDER BY block DESC"
    for direction in Direction  # their values are names of tables
}


class SqliteGraph(Generic[Shown_co]):
    """A `GraphReader` on one connection. `encode_row` makes a row of display name and username."""

    def __init__(self, path: Path, clock: Clock, encode_row: Callable[[str, str], Shown_co]) -> None:
        with ExitStack() as opened:
            self.connection = files.open_for_reading(path, files.GRAPH)
            opened.callback(self.connection.close)
            self._execute = self.connection.execute  # each call gets a cursor, since several are read at once
            with files.translated():
                self.cache = RowCache(self.connection, clock, encode_row)
            opened.pop_all()

    async def find_account(self, folded: str) -> Account | None:
        with files.translated():
            self.cache.refresh()
            return self.cache.account(folded)

    async def read(self, request: PageRequest) -> PageRows[Shown_co]:
        with files.translated():
            self.cache.refresh()
            if request.as_of is None and not self.cache.must_merge:
                return self.read_blocks(request)
            with files.one_state(self.connection):
                return self._read_merged(request)

    async def profile(self, account_id: int) -> Profile | None:
        with files.translated(), files.one_state(self.connection):
            return read_profile(self._execute, account_id)

    def statements_sent(self) -> int:
        return 0

    def close(self) -> None:
        self.connection.close()

    def read_blocks(self, request: PageRequest) -> PageRows[Shown_co]:
        """Read blocks until one row more than requested, for `has_more`.

        Only for the current list, while nothing has to be merged.
        """
        bound = min(request.bound, LAST_SECOND)
        wanted = request.limit + 1
        rows: list[Shown_co] = []
        positions: list[int] = []
        owner, table = request.account_id, request.direction.value
        first, last = first_block(owner), block_at(owner, bound)
        blocks = self.connection.cursor()
        blocks.row_trace = None  # rows are checked below
        blocks.execute(BLOCKS[request.direction], (first, last))
        try:
            for block, entries in blocks:
                require_within(table, block, first, last)
                last = block - 1
                numbers = columns_of(table, block, entries)
                count = len(numbers) // 2
                end = bisect_right(numbers, bound, 0, count)
                while end and len(rows) < wanted:
                    start = max(0, end - (wanted - len(rows)))
                    found, seconds = self.cache.visible_rows(
                        numbers[count + start : count + end].tolist(), numbers[start:end].tolist()
                    )
                    rows += found
                    positions += seconds
                    end = start
                if len(rows) == wanted:
                    break
        finally:
            blocks.close()  # ends the read transaction, since the range is seldom read to its end
        require_descending(table, owner, positions, bound)
        if len(rows) == wanted:
            return PageRows(rows[:-1], positions[-2], has_more=True)
        return PageRows(rows, positions[-1] if positions else 0, has_more=False)

    def _read_merged(self, request: PageRequest) -> PageRows[Shown_co]:
        rows: list[Shown_co] = []
        oldest = 0
        last = LAST_SECOND + 1
        for position, account in entries_of(self._execute, request, with_hidden=self.cache.must_merge):
            require_descending(request.direction.value, request.account_id, [position], last - 1)
            last = position
            found, _ = self.cache.visible_rows([account], [position])
            if found and len(rows) == request.limit:
                return PageRows(rows, oldest, has_more=True)
            if found:
                rows += found
                oldest = position
        return PageRows(rows, oldest, has_more=False)
