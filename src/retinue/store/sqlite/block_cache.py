"""The block cache: frequently requested blocks with references to their rows.

A page from cached blocks needs neither SQLite nor a lookup of each row. A cached block is valid for one state of the
file and one edition of the names. Only blocks requested twice are cached.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from retinue.model import PageRequest
from retinue.store.contract import EncodedRows
from retinue.store.rules.values import LAST_SECOND

_BYTES = 2_600  # of a full cached block, about

Rows = Callable[[list[int]], Sequence[bytes] | None]
Listed = tuple[list[int], list["CachedBlock"]]  # one list's starts, ascending, and its cached blocks


class CachedBlock:
    """A cached block: each second from `start` to `last`, and the `rows` of its `positions`."""

    __slots__ = ("edition", "entries", "last", "positions", "rows", "size", "start", "state")

    def __init__(self, start: int, entries: bytes, rows: Sequence[bytes]) -> None:
        self.start = start
        self.last = start
        self.entries = entries
        self.positions = memoryview(entries).cast("I")  # and behind them the accounts
        self.rows = rows
        self.size = len(rows)
        self.state = self.edition = -1


class BlockCache:
    """The cached blocks of all lists, in `max_bytes`. `state` and `edition` are current.

    A list has a number by owner and direction. There are two generations. If the young one is full, new blocks are
    turned away for a while before the old one is dropped: a few stable blocks help more than many that replace each
    other. `rows_of` returns None if some accounts are hidden.
    """

    def __init__(self, rows_of: Rows, max_bytes: int) -> None:
        self._rows_of = rows_of
        self._most = max_bytes // 2 // _BYTES
        self.state = 0
        self.edition = 0
        self._young: dict[int, Listed] = {}
        self._old: dict[int, Listed] = {}
        self._count = 0  # of young blocks
        self._turned_away = 0
        # Blocks requested once, at most twice as many as fit.
        self._asked: set[int] = set()

    def __len__(self) -> int:
        return sum(len(starts) for generation in (self._young, self._old) for starts, _ in generation.values())

    def read(self, number: int, request: PageRequest) -> EncodedRows | None:
        """Return a page of the current list. None if a block is missing or stale."""
        of_list = self._young.get(number) or self._old_of(number)
        if of_list is None:
            return None
        starts, blocks = of_list
        bound, wanted = min(request.bound, LAST_SECOND), request.limit
        rows: list[bytes] = []
        oldest = 0
        while True:
            index = bisect_right(starts, bound) - 1
            cached = blocks[index]
            if index < 0 or bound > cached.last or cached.state != self.state or cached.edition != self.edition:
                return None
            positions = cached.positions
            end = bisect_right(positions, bound, 0, cached.size)
            first = end - wanted
            if first > 0:  # there is one row more than requested
                if wanted:
                    rows += cached.rows[first:end][::-1]
                    oldest = positions[first]
                return EncodedRows(b",".join(rows), request.limit, oldest, has_more=True)
            if end:
                rows += cached.rows[end - 1 :: -1]
                oldest = positions[0]
                wanted -= end
            if cached.start <= 1:
                return EncodedRows(b",".join(rows), len(rows), oldest, has_more=False)
            bound = cached.start - 1

    def clear(self) -> None:
        if self._young or self._old:
            self._young, self._old, self._count = {}, {}, 0

    def offer(self, number: int, start: int, entries: bytes, last: Callable[[], int]) -> None:
        """Cache a block just read if it was offered before. `last` returns the last second that it may hold."""
        block = number << 32 | start
        if block not in self._asked:
            if len(self._asked) >= 2 * self._most:
                self._asked.clear()
            self._asked.add(block)
            return
        of_list = self._young.get(number) or self._old_of(number)
        cached = _at(of_list, start)
        if cached is None and self._count >= self._most:
            self._turn_away()
            return
        if cached is None or cached.edition != self.edition or cached.entries != entries:
            numbers = memoryview(entries).cast("I")
            rows = self._rows_of(numbers[len(numbers) // 2 :].tolist())
            if rows is None:
                return
            cached = CachedBlock(start, entries, rows)
        cached.last = last()  # may raise, before an empty list is added
        if of_list is None:
            of_list = self._young[number] = ([], [])
        cached.state, cached.edition = self.state, self.edition
        grown = _put(of_list, cached)
        if self._young.get(number) is of_list:
            self._count += grown

    def _old_of(self, number: int) -> Listed | None:
        of_list = self._old.get(number)
        if of_list is not None and self._count + len(of_list[0]) <= self._most:
            self._young[number] = self._old.pop(number)
            self._count += len(of_list[0])
        return of_list

    def _turn_away(self) -> None:
        self._turned_away += 1
        if self._turned_away > self._most:
            self._old, self._young = self._young, {}
            self._count = self._turned_away = 0


def _at(of_list: Listed | None, start: int) -> CachedBlock | None:
    if of_list is None:
        return None
    starts, blocks = of_list
    index = bisect_right(starts, start) - 1
    return blocks[index] if index >= 0 and starts[index] == start else None


def _put(of_list: Listed, cached: CachedBlock) -> int:
    """Insert a block, replacing all that begin in its range. Return the change of their number."""
    starts, blocks = of_list
    first, end = bisect_left(starts, cached.start), bisect_right(starts, cached.last)
    starts[first:end], blocks[first:end] = [cached.start], [cached]
    return 1 - (end - first)
