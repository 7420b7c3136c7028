"""Images: blocks that are asked for again and again, kept in memory together with the rows that they show.

Reading a page from an image is a search and a join, without SQLite and without looking up each row. An image holds for
one state of the file and one edition of the names; when either has changed its block is read again, and where the
entries are still the same only a changed name makes a new image necessary. What is not asked for twice gets none. The
rows themselves are not counted here: they have to be remembered elsewhere anyway.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from retinue.model import PageRequest
from retinue.store.contract import EncodedRows
from retinue.store.rules.values import LAST_SECOND

_BYTES = 2_600  # what an image of a full block takes, about

Rows = Callable[[list[int]], Sequence[bytes] | None]
Listed = tuple[list[int], list["CachedBlock"]]  # of one list: the starts of its images, ascending, and the images


class CachedBlock:
    """What one block shows. It holds every second from `start` to `last`; `rows` are those of its `positions`."""

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
    """The images of all lists, in so many bytes. `state` and `edition` are what they have to be of.

    A list is a number of its own for each owner and direction. Images are kept in two generations. When the young one
    is full no more are made for a while, since a few that stay help more than many that replace each other. Then the
    old one goes and the young one gets old; what is still asked for moves back. `rows_of` gives the rows of accounts,
    None where some are not visible.
    """

    def __init__(self, rows_of: Rows, most_bytes: int) -> None:
        self._rows_of = rows_of
        self._most = most_bytes // 2 // _BYTES
        self.state = 0
        self.edition = 0
        self._young: dict[int, Listed] = {}
        self._old: dict[int, Listed] = {}
        self._count = 0  # of the young ones
        self._turned_away = 0
        # Blocks that were asked for, since no more were than images fit.
        self._asked: set[int] = set()

    def __len__(self) -> int:
        return sum(len(starts) for generation in (self._young, self._old) for starts, _ in generation.values())

    def read(self, number: int, request: PageRequest) -> EncodedRows | None:
        """The rows of a page request for today's list; None where an image is missing or does not hold any more."""
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
            if first > 0:  # there is one row more than asked
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
        """Forget all images."""
        if self._young or self._old:
            self._young, self._old, self._count = {}, {}, 0

    def offer(self, number: int, start: int, entries: bytes, last: Callable[[], int]) -> None:
        """Show a list's block that was just read, at the present state; `last` tells the last second it may hold."""
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
        cached.last = last()  # it may raise: a list without images must not stay behind
        if of_list is None:
            of_list = self._young[number] = ([], [])
        cached.state, cached.edition = self.state, self.edition
        grown = _put(of_list, cached)
        if self._young.get(number) is of_list:
            self._count += grown

    def _old_of(self, number: int) -> Listed | None:
        """The old images of a list, made young again where there is room."""
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
    """The image that begins at a second."""
    if of_list is None:
        return None
    starts, blocks = of_list
    index = bisect_right(starts, start) - 1
    return blocks[index] if index >= 0 and starts[index] == start else None


def _put(of_list: Listed, cached: CachedBlock) -> int:
    """Put an image in place of all that begin where it reaches: their blocks are gone. How many more there are now."""
    starts, blocks = of_list
    first, end = bisect_left(starts, cached.start), bisect_right(starts, cached.last)
    starts[first:end], blocks[first:end] = [cached.start], [cached]
    return 1 - (end - first)
