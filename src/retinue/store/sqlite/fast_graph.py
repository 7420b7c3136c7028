"""Answers for the fast path, without awaiting.

Blocks that are not cached are read with a single statement. Unusual cases are left to `SqliteGraph` on the same
connection.
"""

from bisect import bisect_right
from functools import partial
from pathlib import Path
from typing import NamedTuple

from retinue import names
from retinue.errors import UnknownAccount
from retinue.model import Account, Direction, PageRequest
from retinue.store.contract import EncodedRows
from retinue.store.rules.values import LAST_SECOND
from retinue.store.sqlite import files
from retinue.store.sqlite.block_cache import BlockCache
from retinue.store.sqlite.blocks import block_at, columns_of, first_block, require_descending, require_within, start_of
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.wal_index import WalIndex

_FOLLOWING_BIT, _FOLLOWERS_BIT = 0, 1
_FOLLOWING = Direction.FOLLOWING  # on Python 3.11, access to an enum's member is slow


class _Lists(NamedTuple):
    """The lists of one direction: the last bit of their numbers, and their statements."""

    bit: int
    table: str
    read: str
    next_block: str


def _lists(direction: Direction, bit: int) -> _Lists:
    table = f"{direction.value} WHERE block"
    return _Lists(
        bit,
        direction.value,
        # Two blocks hold a page of any size unless they are nearly empty.
        f"SELECT block, entries FROM {table} BETWEEN ? AND ? ORDER BY block DESC LIMIT 2",
        f"SELECT block FROM {table} > ? AND block <= ? ORDER BY block LIMIT 1",
    )


class SqliteFastGraph:
    """A `FastGraph` with a block cache of `cache_bytes`. Close it before its graph."""

    def __init__(self, graph: SqliteGraph[bytes], path: Path, cache_bytes: int) -> None:
        self._graph = graph
        self._cache = graph.cache
        self._execute = files.unchecked_executor(graph.connection)  # blocks are checked here
        self._index = WalIndex(path)
        self._state: bytes | None = None
        self._epoch = graph.cache.epoch
        self._block_cache = BlockCache(graph.cache.loaded, cache_bytes)
        self._following = _lists(Direction.FOLLOWING, _FOLLOWING_BIT)
        self._followers = _lists(Direction.FOLLOWERS, _FOLLOWERS_BIT)

    def find_account_nowait(self, username: str) -> Account | None:
        try:
            self._cache.refresh()
            account = self._cache.account(names.fold(username))
        except files.UNREADABLE:
            return None
        if account is None:
            raise UnknownAccount(username)
        return account

    def read_nowait(self, request: PageRequest) -> EncodedRows | None:
        try:
            self._cache.refresh()
            return self._run(request)
        except files.UNREADABLE:
            return None

    def close(self) -> None:
        self._index.forget()

    def _run(self, request: PageRequest) -> EncodedRows | None:
        cache = self._cache
        # Later reads see this state or a newer one, so a cached block is never taken for newer than it is.
        state = self._index.state()
        if request.as_of is not None or cache.must_merge or state is None:
            return None
        blocks = self._block_cache
        if not cache.is_complete or cache.epoch != self._epoch:
            self._epoch = cache.epoch
            blocks.clear()  # they would keep rows that left the row cache
        if state != self._state:
            self._state = state
            blocks.state += 1
        blocks.edition = cache.edition
        lists = self._following if request.direction is _FOLLOWING else self._followers
        number = request.account_id << 1 | lists.bit
        return blocks.read(number, request) or self._read(number, request, lists)

    def _read(self, number: int, request: PageRequest, lists: _Lists) -> EncodedRows:
        owner, bound, wanted = request.account_id, min(request.bound, LAST_SECOND), request.limit + 1
        accounts: list[int] = []
        positions: list[int] = []
        lowest, highest = first_block(owner), block_at(owner, bound)
        blocks = self._execute(lists.read, (lowest, highest)).fetchall()
        last = partial(self._last_of, bound, owner, lists)
        for block, entries in blocks:
            if len(accounts) == wanted:
                break
            require_within(lists.table, block, lowest, highest)
            highest = block - 1
            _take(columns_of(lists.table, block, entries), bound, wanted, accounts, positions)
            if self._cache.is_complete:
                self._block_cache.offer(number, start_of(block), entries, last)
                last = partial(int, start_of(block) - 1)
        is_whole = len(accounts) == wanted or len(blocks) < 2 or start_of(blocks[-1][0]) <= 1  # noqa: PLR2004 - the limit
        rows = (self._cache.rows_of(accounts) or self._cache.loaded(accounts)) if is_whole else None
        if rows is None:
            return self._read_slowly(request)
        require_descending(lists.table, owner, positions, bound)
        has_more = len(rows) == wanted
        if has_more:  # only now, since a hidden row does not count
            rows.pop()
            positions.pop()
        return EncodedRows(b",".join(rows), len(rows), positions[-1] if positions else 0, has_more)

    def _read_slowly(self, request: PageRequest) -> EncodedRows:
        found = self._graph.read_blocks(request)
        return EncodedRows(b",".join(found.rows), len(found.rows), found.oldest, found.has_more)

    def _last_of(self, bound: int, owner: int, lists: _Lists) -> int:
        """Return the last second that the block at a bound may hold."""
        within = block_at(owner, bound), block_at(owner, LAST_SECOND)
        for (following,) in self._execute(lists.next_block, within).fetchall():
            return start_of(following) - 1
        return LAST_SECOND


def _take(numbers: memoryview, bound: int, wanted: int, accounts: list[int], positions: list[int]) -> None:
    """Add a block's newest entries at or before a bound. There are at most `wanted` in all."""
    count = len(numbers) // 2
    end = bisect_right(numbers, bound, 0, count)
    start = max(0, end - wanted + len(accounts))
    accounts += numbers[count + start : count + end].tolist()[::-1]
    positions += numbers[start:end].tolist()[::-1]
