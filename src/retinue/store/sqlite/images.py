"""Images: blocks that are asked for again and again, kept in memory together with the rows that they show.

Reading a page from an image is a search and a join, without SQLite and without looking up each row. An image holds for
one state of the file and one edition of the names; when either has changed its block is read again, and where the
entries are still the same only a changed name makes a new image necessary. What is not asked for twice gets none.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence

from retinue.model import Stretch
from retinue.store.base import Run
from retinue.store.sqlite.blocks import LAST_SECOND, owner_of, start_of

_BYTES = 2_600  # what an image of a full block takes, about

Rows = Callable[[list[int]], Sequence[bytes] | None]
LastOf = Callable[[int], int]


class Image:
    """What one block shows. It holds every second from `start` to `last`; `rows` are those of its `positions`."""

    __slots__ = ("edition", "entries", "last", "positions", "rows", "size", "start", "state")

    def __init__(self, block: int, entries: bytes, rows: Sequence[bytes]) -> None:
        self.start = start_of(block)
        self.last = self.start
        self.entries = entries
        self.positions = memoryview(entries).cast("I")  # and behind them the accounts
        self.rows = rows
        self.size = len(rows)
        self.state = self.edition = -1


class Images:
    """The images of one direction, in so many bytes. `state` and `edition` are what they have to be of.

    They are kept in two generations: when the young one is full the old one goes, and what is still asked for moves
    from old to young. `rows_of` gives the rows of accounts, None where some are not visible.
    """

    def __init__(self, rows_of: Rows, most_bytes: int) -> None:
        self._rows_of = rows_of
        self._most = most_bytes // 2 // _BYTES
        self.state = 0
        self.edition = 0
        # By owner: the starts of its images, ascending, and the images.
        self._young: dict[int, tuple[list[int], list[Image]]] = {}
        self._old: dict[int, tuple[list[int], list[Image]]] = {}
        self._count = 0
        # Blocks that were asked for once, since no more were than images fit.
        self._once: set[int] = set()

    def run(self, stretch: Stretch) -> Run | None:
        """The rows of a stretch of today's list; None where an image is missing or does not hold any more."""
        of_owner = self._young.get(stretch.account_id) or self._old_of(stretch.account_id)
        if of_owner is None:
            return None
        starts, images = of_owner
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

    def offer(self, block: int, entries: bytes, last_of: LastOf) -> None:
        """Show a block that was just read, at the present state; `last_of` tells the last second that it may hold."""
        image = self._image_of(block)
        if image is None or image.edition != self.edition or image.entries != entries:
            if image is None and block not in self._once:
                self._note(block)
                return
            numbers = memoryview(entries).cast("I")
            rows = self._rows_of(numbers[len(numbers) // 2 :].tolist())
            if rows is None:
                return
            image = Image(block, entries, rows)
            self._keep(owner_of(block), image)
        image.last = last_of(block)
        image.state, image.edition = self.state, self.edition
        self._drop_within(owner_of(block), image)

    def _note(self, block: int) -> None:
        if len(self._once) >= 2 * self._most:
            self._once.clear()
        self._once.add(block)

    def _old_of(self, owner: int) -> tuple[list[int], list[Image]] | None:
        of_owner = self._old.pop(owner, None)
        if of_owner is not None:
            self._young[owner] = of_owner
            self._grow(len(of_owner[1]))
        return of_owner

    def _image_of(self, block: int) -> Image | None:
        of_owner = self._young.get(owner_of(block)) or self._old_of(owner_of(block))
        if of_owner is None:
            return None
        starts, images = of_owner
        index = bisect_right(starts, start_of(block)) - 1
        return images[index] if index >= 0 and starts[index] == start_of(block) else None

    def _keep(self, owner: int, image: Image) -> None:
        starts, images = self._young.setdefault(owner, ([], []))
        index = bisect_right(starts, image.start)
        if index and starts[index - 1] == image.start:
            images[index - 1] = image
        else:
            starts.insert(index, image.start)
            images.insert(index, image)
            self._grow(1)

    def _drop_within(self, owner: int, image: Image) -> None:
        """Blocks that began where this one now reaches are gone."""
        of_owner = self._young.get(owner)
        if of_owner is None:
            return
        starts, images = of_owner
        first, last = bisect_right(starts, image.start), bisect_right(starts, image.last)
        del starts[first:last], images[first:last]

    def _grow(self, count: int) -> None:
        self._count += count
        if self._count > self._most:
            self._old, self._young = self._young, {}
            self._count = 0
