"""Decoded blocks with the texts of their rows, for lists in demand.

A page from here is a search and a join. A block is cached when it is requested twice. It is valid for one state of the
store and one edition of the names; after a commit, its texts are reused if its content is the same.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence

from retinue.model import PageRequest
from retinue.store.layout.tables import LAST_SECOND

BYTES_PER_BLOCK = 12_000  # with texts, about

Found = tuple[Sequence[bytes], int, bool]  # texts of rows, the last one's position, and whether more follow


class CachedBlock:
    """A block for the slots from `start` to `last`. Texts are oldest first."""

    __slots__ = ("content", "edition", "last", "positions", "start", "state", "texts")

    def __init__(self, start: int, content: bytes, texts: Sequence[bytes]) -> None:
        self.start = start
        self.last = start
        self.content = content
        self.positions = memoryview(content).cast("I")[1 : 1 + len(texts)]
        self.texts = texts
        self.state = self.edition = -1


CachedList = tuple[list[int], list[CachedBlock]]  # the starts of its blocks, ascending, and the blocks


class BlockCache:
    """The cached blocks of all lists, valid for `state` and `edition`.

    There are two generations. When the young one is full, new blocks are turned away for a while: a few that stay help
    more than many that replace each other. Then the young generation replaces the old one, and requested blocks move
    back.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max = max_bytes // 2 // BYTES_PER_BLOCK
        self.state = 0
        self.edition = 0
        self._young: dict[int, CachedList] = {}
        self._old: dict[int, CachedList] = {}
        self._count = 0  # of the young ones
        self._turned_away = 0
        self._asked: set[int] = set()  # blocks that were asked for once

    def __len__(self) -> int:
        return sum(len(starts) for generation in (self._young, self._old) for starts, _ in generation.values())

    def read(self, number: int, request: PageRequest) -> Found | None:
        """Return the rows of a page request. None: a block is missing or stale."""
        of_list = self._young.get(number) or self._old_of(number)
        if of_list is None:
            return None
        starts, blocks = of_list
        bound, wanted = min(request.bound, LAST_SECOND), request.limit
        texts: list[bytes] = []
        oldest = 0
        while True:
            index = bisect_right(starts, bound) - 1
            block = blocks[index]
            if index < 0 or bound > block.last or block.state != self.state or block.edition != self.edition:
                return None
            end = bisect_right(block.positions, bound)
            first = end - wanted
            if first > 0:  # there is one row more than asked
                if wanted:
                    texts += block.texts[first:end][::-1]
                    oldest = block.positions[first]
                return texts, oldest, True
            if end:
                texts += block.texts[end - 1 :: -1]
                oldest = block.positions[0]
                wanted -= end
            if block.start <= 1:
                return texts, oldest, False
            bound = block.start - 1

    def is_wanted(self, number: int, start: int) -> bool:
        """Return whether a block was requested before."""
        block = number << 32 | start
        if block in self._asked:
            return True
        if len(self._asked) >= 2 * self._max:
            self._asked.clear()
        self._asked.add(block)
        return False

    def add(
        self, number: int, start: int, content: bytes, texts_of: Callable[[], Sequence[bytes] | None], last: int
    ) -> None:
        """Cache a block of the present state. `last` is the last slot it may have."""
        of_list = self._young.get(number) or self._old_of(number)
        block = _at(of_list, start)
        if block is None and self._count >= self._max:
            self._turn_away()
            return
        if block is None or block.edition != self.edition or block.content != content:
            texts = texts_of()
            if texts is None:
                return
            block = CachedBlock(start, content, texts)
        block.last = last
        if of_list is None:
            of_list = self._young[number] = ([], [])
        block.state, block.edition = self.state, self.edition
        grown = _put(of_list, block)
        if self._young.get(number) is of_list:
            self._count += grown

    def _old_of(self, number: int) -> CachedList | None:
        """Return an old list, made young if there is room."""
        of_list = self._old.get(number)
        if of_list is not None and self._count + len(of_list[0]) <= self._max:
            self._young[number] = self._old.pop(number)
            self._count += len(of_list[0])
        return of_list

    def _turn_away(self) -> None:
        self._turned_away += 1
        if self._turned_away > self._max:
            self._old, self._young = self._young, {}
            self._count = self._turned_away = 0


def _at(of_list: CachedList | None, start: int) -> CachedBlock | None:
    if of_list is None:
        return None
    starts, blocks = of_list
    index = bisect_right(starts, start) - 1
    return blocks[index] if index >= 0 and starts[index] == start else None


def _put(of_list: CachedList, block: CachedBlock) -> int:
    """Replace all blocks that begin within a block. Return the change in number."""
    starts, blocks = of_list
    first, end = bisect_left(starts, block.start), bisect_right(starts, block.last)
    starts[first:end], blocks[first:end] = [block.start], [block]
    return 1 - (end - first)
