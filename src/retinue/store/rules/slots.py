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

from retinue.store.rules.tables import SlotRunTable
from retinue.store.rules.values import NOTHING, Around, SlotRun

MAX_CACHED = 200_000
MAX_CACHED_RUNS = 32
BEYOND = 1 << 33  # later than any second


class FreeSlot(NamedTuple):
    """A free second, the stretch it will make with its neighbours, and the stored stretches that this replaces."""

    second: int
    first: int
    last: int
    joined: tuple[SlotRun, ...]


class SlotAllocator:
    """Gives out and takes back the seconds of all lists of one direction. `look` looks into a list."""

    def __init__(self, table: SlotRunTable, look: Callable[[int, int], Around]) -> None:
        self._table = table
        self._look = look
        self._few: dict[int, list[SlotRun] | None] = {}  # all stretches of a list; None: more than a few

    def forget(self) -> None:
        """Call when another writer may have changed the store, and after a failure."""
        self._few.clear()

    def find(self, owner: int, wanted: int, latest: int) -> FreeSlot | None:
        """The wanted second where it is free, else the nearest free earlier one.

        Where no earlier one is left (seconds begin at 1), the nearest free later one up to `latest`, or up to the
        wanted one if that is later still; None if full.
        """
        runs = self._runs(owner, wanted)
        around = self._look(owner, wanted)
        if not runs and around is NOTHING:
            return FreeSlot(wanted, wanted, wanted, ())
        held = _holding(wanted, runs, visible=around.here)
        if held is None:
            return _free_slot(wanted, runs, around)
        first, last = held
        second = first - 1 if first > 1 else last + 1
        if second > max(wanted, latest):
            return None
        return _free_slot(second, self._runs(owner, second), self._look(owner, second))

    def take(self, owner: int, slot: FreeSlot, *, visible: bool = True) -> None:
        """Take a place that was just found. `seen`: what stands there can be seen in the list itself."""
        for run in slot.joined:
            self._remove(owner, run)
        if slot.first < slot.last or not visible:
            self._add(owner, (slot.first, slot.last))

    def release(self, owner: int, second: int) -> None:
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

    def _runs(self, owner: int, second: int) -> list[SlotRun]:
        """The stored stretches that hold a second or one of its neighbours, later one first; maybe others."""
        few = self._few[owner] if owner in self._few else self._load(owner)
        if few is None:
            return self._table.near(owner, second)
        if not few:
            return few
        end = bisect_right(few, (second + 1, BEYOND))
        return few[max(0, end - 2) : end][::-1]

    def _load(self, owner: int) -> list[SlotRun] | None:
        if len(self._few) >= MAX_CACHED:
            self._few.clear()
        runs = self._table.all(owner, MAX_CACHED_RUNS + 1)
        few = self._few[owner] = runs if len(runs) <= MAX_CACHED_RUNS else None
        return few

    def _add(self, owner: int, run: SlotRun) -> None:
        self._table.add(owner, run)
        few = self._few.get(owner)
        if few is not None:
            insort(few, run)
            if len(few) > MAX_CACHED_RUNS:
                self._few[owner] = None

    def _remove(self, owner: int, run: SlotRun) -> None:
        self._table.remove(owner, run)
        few = self._few.get(owner)
        if few is not None:
            few.remove(run)

    def _stored(self, owner: int, second: int) -> SlotRun | None:
        return _holding(second, self._runs(owner, second), visible=False)


def _holding(second: int, runs: list[SlotRun], *, visible: bool) -> SlotRun | None:
    """The stretch around a second, maybe just itself; None if it is free."""
    for first, last in runs:
        if first <= second <= last:
            return first, last
    return (second, second) if visible else None


def _free_slot(second: int, runs: list[SlotRun], around: Around) -> FreeSlot:
    before = _holding(second - 1, runs, visible=around.before)
    after = _holding(second + 1, runs, visible=around.after)
    joined = tuple(run for run in (before, after) if run is not None and run in runs)
    return FreeSlot(second, before[0] if before else second, after[1] if after else second, joined)
