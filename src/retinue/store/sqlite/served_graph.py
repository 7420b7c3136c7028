"""The graph as a server reads it.

Pages of current lists come from cached blocks or a single statement. The slow twin is `SqliteGraph`. It serves the
rest: hidden rows among visible entries, relocations, other times.
"""

from bisect import bisect_right
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from retinue import names
from retinue.errors import UnknownAccount
from retinue.model import Account, Direction, PageRequest, PageRows, Profile
from retinue.store.contract import EncodedRows
from retinue.store.layout.blocks import Chain, columns_of, next_start_of
from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.tables import LAST_SECOND, LISTS, Table, second_of
from retinue.store.reading.block_cache import BlockCache, Found
from retinue.store.reading.mapped_rows import MappedRows, ids_of
from retinue.store.reading.row_file import Ids
from retinue.store.sqlite import files
from retinue.store.sqlite.absence import require_absent
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.wal_index import WalIndex

_FOLLOWING = Direction.FOLLOWING  # on Python 3.11 each lookup in an enum takes long
_BLOCKS = 2  # hold most pages

_Result = TypeVar("_Result")


class _Lists(NamedTuple):
    """The lists of one direction: last bit of their numbers, and statements."""

    bit: int
    table: Table
    read: str


def _lists(direction: Direction, bit: int) -> _Lists:
    table = LISTS[direction].visible
    return _Lists(
        bit,
        table,
        f"SELECT key, value FROM {table.name} WHERE key BETWEEN ? AND ? ORDER BY key DESC LIMIT {_BLOCKS}",
    )


class _Read(NamedTuple):
    """A block: start, last slot that it may have, content, numbers, size."""

    start: int
    last: int
    content: bytes
    numbers: memoryview
    size: int


class SqliteServedGraph:
    """A `ServedGraph` that caches blocks, in front of a graph."""

    def __init__(self, graph: SqliteGraph[bytes], path: Path, rows: MappedRows, cache_bytes: int) -> None:
        self.graph = graph
        self._cache = graph.reader.cache
        self._execute = executor(graph.connection)
        self._rows = rows
        self._index = WalIndex(path)
        self._state: bytes | None = None
        self._refreshes = 0
        self._blocks = BlockCache(cache_bytes)
        self._following, self._followers = _lists(Direction.FOLLOWING, 0), _lists(Direction.FOLLOWERS, 1)

    def find_account_nowait(self, username: str) -> Account | None:
        try:
            self._refresh()
            account = _now(self._cache.account(names.fold(username)))
        except files.UNREADABLE:
            return None
        if account is None:
            raise UnknownAccount(username)
        return account

    def read_nowait(self, request: PageRequest) -> EncodedRows | None:
        found = self._find(request)
        if found is None:
            return None
        texts, oldest, has_more = found
        return EncodedRows(self._rows.joined(texts), len(texts), oldest, has_more)

    async def find_account(self, folded: str) -> Account | None:
        return await self.graph.find_account(folded)

    async def read(self, request: PageRequest) -> PageRows[bytes]:
        found = self._find(request)
        if found is None:
            return await self.graph.read(request)
        texts, oldest, has_more = found
        return PageRows(self._rows.whole(texts), oldest, has_more)

    async def profile(self, account_id: int) -> Profile | None:
        return await self.graph.profile(account_id)

    def statements_sent(self) -> int:
        return 0

    def close(self) -> None:
        self._index.forget()
        self.graph.close()

    def _find(self, request: PageRequest) -> Found | None:
        try:
            self._refresh()
            return self._read(request)
        except files.UNREADABLE:
            return None

    def _refresh(self) -> None:
        if not self._cache.is_fresh():
            _now(self._cache.refresh())
        if self._refreshes != self._cache.refreshes:  # maybe by the slow twin
            self._refreshes = self._cache.refreshes
            _now(self._rows.refresh())

    def _read(self, request: PageRequest) -> Found | None:
        # First the state, then the rows: a cached block is never older than its state.
        state = self._index.state()
        if request.as_of is not None or self._cache.must_merge or state is None:
            return None
        blocks = self._blocks
        if state != self._state:
            self._state = state
            blocks.state += 1
        blocks.edition = self._cache.revision
        lists = self._following if request.direction is _FOLLOWING else self._followers
        return blocks.read(request.account_id << 1 | lists.bit, request) or self._read_stored(request, lists)

    def _read_stored(self, request: PageRequest, lists: _Lists) -> Found | None:
        """Read from the file, and cache blocks that are requested again."""
        bound, wanted = min(request.bound, LAST_SECOND), request.limit + 1
        number = request.account_id << 1 | lists.bit
        parts: list[Ids] = []
        bottoms: list[int] = []  # the oldest position of each part, without the one row more than asked
        for block in self._blocks_of(request.account_id, bound, lists):
            if self._blocks.is_wanted(number, block.start):
                self._add_to_cache(number, block)
            end = bisect_right(block.numbers, bound, 1, block.size + 1)
            first = max(1, end - wanted)
            if first < end:
                parts.append(ids_of(block.numbers, block.size + first, block.size + end))
                wanted -= end - first
                kept = first if wanted else first + 1
                bottoms += [block.numbers[kept]] if kept < end else []
            if not wanted:
                break
        ids = _joined(parts)
        texts = self._rows.known_texts(ids) or _now(self._rows.texts(ids))
        if texts is None:
            return None
        return (texts if wanted else texts[:-1]), bottoms[-1] if bottoms else 0, not wanted

    def _blocks_of(self, owner: int, bound: int, lists: _Lists) -> Iterator[_Read]:
        """Yield the blocks from a slot down."""
        low, high = owner << 32, owner << 32 | bound
        chain = Chain(lists.table, bound)
        while True:
            found = self._execute(lists.read, (low, high)).fetchall()
            for key, value in found:
                if not low <= key <= high:
                    raise damaged(lists.table, key, "stands among the blocks of another list")
                content = unseal(lists.table, key, value)
                numbers, count = columns_of(lists.table, key, content)
                slots = numbers[1 : 1 + count].tolist()
                if slots != sorted(slots):
                    raise damaged(lists.table, key, "its positions are not in order")
                chain.take(key, content)
                yield _Read(second_of(key), (next_start_of(content) or LAST_SECOND + 1) - 1, content, numbers, count)
                high = key - 1
            if high == low | bound and not found:
                require_absent(self._execute, lists.table, low, high)
            if len(found) < _BLOCKS or second_of(high + 1) <= 1:
                chain.end(owner)
                return

    def _add_to_cache(self, number: int, block: _Read) -> None:
        def texts() -> list[bytes] | None:
            ids = ids_of(block.numbers, 1 + block.size, 1 + 2 * block.size)
            found = _now(self._rows.texts(ids))
            return None if found is None else list(found[::-1])

        self._blocks.add(number, block.start, block.content, texts, block.last)


def _joined(parts: list[Ids]) -> Ids:
    if len(parts) == 1:
        return parts[0]
    return np.concatenate(parts) if parts else np.empty(0, np.uint32)


def _now(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    """Return the result of a coroutine that does not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise RuntimeError("the embedded store answers without suspending")
