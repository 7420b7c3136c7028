"""Images: blocks that are asked for again and again, kept in memory together with the rows that they show.

Reading a page from an image is a search and a join, without SQLite and without looking up each row. An image holds for
one state of the file and one edition of the names; when either has changed its block is read again, and where the
entries are still the same only a changed name makes a new image necessary. What is not asked for twice gets none. The
rows themselves are not counted here: they have to be remembered elsewhere anyway.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

from retinue.model import Stretch
from retinue.store.base import Run
from retinue.store.sqlite.blocks import LAST_SECOND

_BYTES = 2_600  # what an image of a full block takes, about

Rows = Callable[[list[int]], Sequence[bytes] | None]
LastOf = Callable[[int], int]


class Image:
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


class Images:
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
        # By list: the starts of its images, ascending, and the images.
        self._young: dict[int, tuple[list[int], list[Image]]] = {}
        self._old: dict[int, tuple[list[int], list[Image]]] = {}
        self._count = 0  # of the young ones
        self._turned_away = 0
        # Blocks that were asked for, since no more were than images fit.
        self._asked: set[int] = set()

    def run(self, number: int, stretch: Stretch) -> Run | None:
        """The rows of a stretch of today's list; None where an image is missing or does not hold any more."""
        of_list = self._young.get(number) or self._old_of(number)
        if of_list is None:
            return None
        starts, images = of_list
        bound, wanted = min(stretch.bound, LAST_SECOND), stretch.limit
        rows: list[bytes] = []
        oldest = 0
        while True:
            index = bisect_right(starts, bound) - 1
            image = images[index]
            if index < 0 or bound > image.last or image.state != self.state or image.edition != self.edition:
                return None
            positions = image.positions
            end = bisect_right(positions, bound, 0, image.size)
            first = end - wanted
            if first > 0:  # there is one row more than asked
                if wanted:
                    rows += image.rows[first:end][::-1]
                    oldest = positions[first]
                return Run(b",".join(rows), stretch.limit, oldest, has_more=True)
            if end:
                rows += image.rows[end - 1 :: -1]
                oldest = positions[0]
                wanted -= end
            if image.start <= 1:
                return Run(b",".join(rows), len(rows), oldest, has_more=False)
            bound = image.start - 1

    def clear(self) -> None:
        """Forget all images."""
        if self._asked:
            self._young, self._old, self._asked = {}, {}, set()
            self._count = 0

    def offer(self, number: int, start: int, entries: bytes, last_of: LastOf) -> None:
        """Show a list's block that was just read, at the present state.

        `last_of` tells the last second that the block with a start may hold.
        """
        block = number << 32 | start
        if block not in self._asked:
            if len(self._asked) >= 2 * self._most:
                self._asked.clear()
            self._asked.add(block)
            return
        image = self._image_of(number, start)
        if image is None and self._count >= self._most:
            self._turn_away()
            return
        if image is None or image.edition != self.edition or image.entries != entries:
            numbers = memoryview(entries).cast("I")
            rows = self._rows_of(numbers[len(numbers) // 2 :].tolist())
            if rows is None:
                return
            image = Image(start, entries, rows)
            self._keep(number, image)
        image.last = last_of(start)
        image.state, image.edition = self.state, self.edition
        self._drop_within(number, image)

    def _old_of(self, number: int) -> tuple[list[int], list[Image]] | None:
        """The old images of a list, made young again where there is room."""
        of_list = self._old.get(number)
        if of_list is not None and self._count < self._most:
            self._young[number] = self._old.pop(number)
            self._count += len(of_list[1])
        return of_list

    def _turn_away(self) -> None:
        self._turned_away += 1
        if self._turned_away > self._most:
            self._old, self._young = self._young, {}
            self._count = self._turned_away = 0

    def _image_of(self, number: int, start: int) -> Image | None:
        of_list = self._young.get(number) or self._old_of(number)
        if of_list is None:
            return None
        starts, images = of_list
        index = bisect_right(starts, start) - 1
        return images[index] if index >= 0 and starts[index] == start else None

    def _keep(self, number: int, image: Image) -> None:
        starts, images = self._young.setdefault(number, ([], []))
        index = bisect_right(starts, image.start)
        if index and starts[index - 1] == image.start:
            images[index - 1] = image
        else:
            starts.insert(index, image.start)
            images.insert(index, image)
            self._count += 1

    def _drop_within(self, number: int, image: Image) -> None:
        """Blocks that began where this one now reaches are gone."""
        of_list = self._young.get(number)
        if of_list is None:
            return
        starts, images = of_list
        first, last = bisect_right(starts, image.start), bisect_right(starts, image.last)
        del starts[first:last], images[first:last]
