"""Seconds of a list: each interval, open or ended, has one of its own, found in O(log n) however long the burst.

Adjacent occupied seconds form a *stretch*. Stretches of two or more are kept in a table, each as long as it can be,
so the nearest free earlier second is one before the stretch that holds the wanted one. A single occupied second needs
no entry while it can be seen in the list itself; where it cannot, because what stands there was moved aside or has
ended, it is a stretch of one. Knows only seconds; what stands on them is stored by the caller.

Most lists have few stretches or none: those are kept in memory, until another writer changes the store.
"""

from bisect import bisect_right, insort
from collections.abc import Callable
from typing import NamedTuple

from retinue.store.rules.tables import TakenTable
from retinue.store.rules.values import NOTHING, Around
from retinue.store.rules.values import Seconds as Stretch

REMEMBERED = 200_000
FEW = 32
BEYOND = 1 << 33  # later than any second


class Place(NamedTuple):
    """A free second, the stretch it will make with its neighbours, and the stored stretches that this replaces."""

    second: int
    first: int
    last: int
    joined: tuple[Stretch, ...]


class Seconds:
    """Gives out and takes back the seconds of all lists of one direction. `look` looks into a list."""

    def __init__(self, table: TakenTable, look: Callable[[int, int], Around]) -> None:
        self._table = table
        self._look = look
        self._few: dict[int, list[Stretch] | None] = {}  # all stretches of a list; None: more than a few

    def forget(self) -> None:
        """Call when another writer may have changed the store, and after a failure."""
        self._few.clear()

    def seek(self, owner: int, wanted: int, latest: int) -> Place | None:
        """The wanted second where it is free, else the nearest free earlier one.

        Where no earlier one is left (seconds begin at 1), the nearest free later one up to `latest`, or up to the
        wanted one if that is later still; None if full.
        """
        stretches = self._stretches(owner, wanted)
        around = self._look(owner, wanted)
        if not stretches and around is NOTHING:
            return Place(wanted, wanted, wanted, ())
        held = _holding(wanted, stretches, seen=around.here)
        if held is None:
            return _place(wanted, stretches, around)
        first, last = held
        second = first - 1 if first > 1 else last + 1
        if second > max(wanted, latest):
            return None
        return _place(second, self._stretches(owner, second), self._look(owner, second))

    def occupy(self, owner: int, place: Place, *, seen: bool = True) -> None:
        """Take a place that was just found. `seen`: what stands there can be seen in the list itself."""
        for stretch in place.joined:
            self._remove(owner, stretch)
        if place.first < place.last or not seen:
            self._add(owner, (place.first, place.last))

    def give_back(self, owner: int, second: int) -> None:
        """Free an occupied second, on which nothing stands any more; a stretch that held it is cut in two."""
        held = self._stored(owner, second)
        if held is None:
            return
        self._remove(owner, held)
        for low, high in ((held[0], second - 1), (second + 1, held[1])):
            if low < high or (low == high and not self._look(owner, low).here):
                self._add(owner, (low, high))

    def hide(self, owner: int, second: int) -> None:
        """What stands on an occupied second can no longer be seen in the list itself."""
        if self._stored(owner, second) is None:
            self._add(owner, (second, second))

    def show(self, owner: int, second: int) -> None:
        """What stands on an occupied second can be seen in the list itself again."""
        if self._stored(owner, second) == (second, second):
            self._remove(owner, (second, second))

    def _stretches(self, owner: int, second: int) -> list[Stretch]:
        """The stored stretches that hold a second or one of its neighbours, later one first; maybe others."""
        few = self._few[owner] if owner in self._few else self._load(owner)
        if few is None:
            return self._table.near(owner, second)
        if not few:
            return few
        end = bisect_right(few, (second + 1, BEYOND))
        return few[max(0, end - 2) : end][::-1]

    def _load(self, owner: int) -> list[Stretch] | None:
        if len(self._few) >= REMEMBERED:
            self._few.clear()
        stretches = self._table.all(owner, FEW + 1)
        few = self._few[owner] = stretches if len(stretches) <= FEW else None
        return few

    def _add(self, owner: int, stretch: Stretch) -> None:
        self._table.add(owner, stretch)
        few = self._few.get(owner)
        if few is not None:
            insort(few, stretch)
            if len(few) > FEW:
                self._few[owner] = None

    def _remove(self, owner: int, stretch: Stretch) -> None:
        self._table.remove(owner, stretch)
        few = self._few.get(owner)
        if few is not None:
            few.remove(stretch)

    def _stored(self, owner: int, second: int) -> Stretch | None:
        return _holding(second, self._stretches(owner, second), seen=False)


def _holding(second: int, stretches: list[Stretch], *, seen: bool) -> Stretch | None:
    """The stretch around a second, maybe just itself; None if it is free."""
    for first, last in stretches:
        if first <= second <= last:
            return first, last
    return (second, second) if seen else None


def _place(second: int, stretches: list[Stretch], around: Around) -> Place:
    before = _holding(second - 1, stretches, seen=around.before)
    after = _holding(second + 1, stretches, seen=around.after)
    joined = tuple(stretch for stretch in (before, after) if stretch is not None and stretch in stretches)
    return Place(second, before[0] if before else second, after[1] if after else second, joined)
