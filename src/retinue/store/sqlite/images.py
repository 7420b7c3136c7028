"""Images: blocks that are asked for again and again, with their rows as they stand on the wire, next to each other.

Reading a page from an image is two searches and a slice, however many rows it has. An image holds for one state of the
file and one edition of the names; when either has changed its block is read again, and where the entries are still
the same only a changed name makes a new image necessary. What is not asked for twice gets none.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from retinue.model import Stretch
from retinue.store.base import Run
from retinue.store.sqlite.blocks import LAST_SECOND, owner_of, start_of

MOST_BYTES = 32 * 1024 * 1024  # of a generation: the young one is kept, and what is still asked for of the one before
MOST_ONCE = 65_536
_OVERHEAD = 400  # bytes of an image besides its text, positions and entries

Visible = Callable[[list[int], list[int]], tuple[list[bytes], list[int]]]


class Image:
    """What one block shows. It holds every second from `start` to `last`.

    `positions` are those of the visible rows, ascending. In `text` the newest row is first, at `begins[0]`, and so on.
    """

    __slots__ = ("begins", "edition", "entries", "last", "positions", "start", "state", "text")

    def __init__(self, block: int, entries: bytes, visible: Visible) -> None:
        numbers = memoryview(entries).cast("I").tolist()
        count = len(numbers) // 2
        rows, positions = visible(numbers[count:], numbers[:count])
        self.start = start_of(block)
        self.last = self.start
        self.entries = entries
        self.text = b",".join(rows)
        self.positions = array("I", reversed(positions))
        self.begins = array("I", accumulate((len(row) + 1 for row in rows), initial=0))
        self.state = self.edition = -1

    def size(self) -> int:
        """Bytes in memory, about."""
        return len(self.text) + 2 * len(self.entries) + _OVERHEAD


class Images:
    """The images of one direction. `state` and `edition` are what they have to be of."""

    def __init__(self, visible: Visible) -> None:
        self._visible = visible
        self.state = 0
        self.edition = 0
        # By owner: the starts of its images, ascending, and the images.
        self._young: dict[int, tuple[list[int], list[Image]]] = {}
        self._old: dict[int, tuple[list[int], list[Image]]] = {}
        self._size = 0
        self._once: set[int] = set()

    def run(self, stretch: Stretch) -> Run | None:
        """The rows of a stretch of today's list; None where an image is missing or does not hold any more."""
        of_owner = self._young.get(stretch.account_id)
        if of_owner is None:
            of_owner = self._old_of(stretch.account_id)
            if of_owner is None:
                return None
        starts, images = of_owner
        bound, wanted = min(stretch.bound, LAST_SECOND), stretch.limit
        texts: list[bytes] = []
        oldest = 0
        while True:
            index = bisect_right(starts, bound) - 1
            image = images[index]
            if index < 0 or bound > image.last or image.state != self.state or image.edition != self.edition:
                return None
            positions = image.positions
            size = len(positions)
            end = bisect_right(positions, bound)
            taken = min(end, wanted)
            if taken:
                first, begins = size - end, image.begins
                texts.append(image.text[begins[first] : begins[first + taken] - 1])
                oldest = positions[end - taken]
                wanted -= taken
            if taken < end:  # there is one row more than asked
                return Run(_joined(texts), stretch.limit, oldest, has_more=True)
            if image.start <= 1:
                return Run(_joined(texts), stretch.limit - wanted, oldest, has_more=False)
            bound = image.start - 1

    def offer(self, block: int, entries: bytes, last_of: Callable[[int], int]) -> None:
        """Show a block that was just read, at the present state; `last_of` tells the last second that it may hold."""
        image = self._image_of(block)
        if image is None or image.edition != self.edition or image.entries != entries:
            if image is None and block not in self._once:
                self._note(block)
                return
            image = Image(block, entries, self._visible)
            self._keep(owner_of(block), image)
        image.last = last_of(block)
        image.state, image.edition = self.state, self.edition
        self._drop_within(owner_of(block), image)

    def _note(self, block: int) -> None:
        if len(self._once) >= MOST_ONCE:
            self._once.clear()
        self._once.add(block)

    def _old_of(self, owner: int) -> tuple[list[int], list[Image]] | None:
        of_owner = self._old.pop(owner, None)
        if of_owner is not None:
            self._young[owner] = of_owner
            self._grow(sum(image.size() for image in of_owner[1]))
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
        self._grow(image.size())

    def _drop_within(self, owner: int, image: Image) -> None:
        """Blocks that began where this one now reaches are gone."""
        of_owner = self._young.get(owner)
        if of_owner is None:
            return
        starts, images = of_owner
        first, last = bisect_right(starts, image.start), bisect_right(starts, image.last)
        del starts[first:last], images[first:last]

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > MOST_BYTES:
            self._old, self._young = self._young, {}
            self._size = 0


def _joined(texts: Sequence[bytes]) -> bytes:
    return texts[0] if len(texts) == 1 else b",".join(texts)
