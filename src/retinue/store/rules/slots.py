"""The slots of lists.

A slot is a second, taken by at most one interval of a list, open or ended. Adjacent taken slots form a run. Runs of two
or more are stored, each as long as possible, so a free slot is found in O(log n). A single slot is stored only if its
entry is not visible.
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
    """A free slot.

    `first` and `last` are the run that it makes with its neighbours, `joined` the stored runs that this replaces.
    """

    second: int
    first: int
    last: int
    joined: tuple[SlotRun, ...]


class SlotAllocator:
    """Takes and releases the slots of all lists of one direction. `look` looks up visible entries."""

    def __init__(self, table: SlotRunTable, look: Callable[[int, int], Around]) -> None:
        self._table = table
        self._look = look
        self._cached: dict[int, list[SlotRun] | None] = {}  # all runs of a list; None: too many

    def forget(self) -> None:
        """Clear caches."""
        self._cached.clear()

    def find(self, owner: int, wanted: int, latest: int) -> FreeSlot | None:
        """Return the wanted slot or the nearest free earlier one.

        If none is left (slots begin at 1), the nearest later one up to `latest` and the wanted one; None if the list is
        full.
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
        """Take a free slot."""
        for run in slot.joined:
            self._remove(owner, run)
        if slot.first < slot.last or not visible:
            self._add(owner, (slot.first, slot.last))

    def release(self, owner: int, second: int) -> None:
        """Release a taken slot."""
        held = self._stored(owner, second)
        if held is None:
            return
        self._remove(owner, held)
        for low, high in ((held[0], second - 1), (second + 1, held[1])):
            if low < high or (low == high and not self._look(owner, low).here):
                self._add(owner, (low, high))

    def hide(self, owner: int, second: int) -> None:
        """Note that the slot's entry is no longer visible."""
        if self._stored(owner, second) is None:
            self._add(owner, (second, second))

    def show(self, owner: int, second: int) -> None:
        """Note that the slot's entry is visible again."""
        if self._stored(owner, second) == (second, second):
            self._remove(owner, (second, second))

    def _runs(self, owner: int, second: int) -> list[SlotRun]:
        """Return the stored runs around a second, later first; maybe others too."""
        cached = self._cached[owner] if owner in self._cached else self._load(owner)
        if cached is None:
            return self._table.near(owner, second)
        if not cached:
            return cached
        end = bisect_right(cached, (second + 1, BEYOND))
        return cached[max(0, end - 2) : end][::-1]

    def _load(self, owner: int) -> list[SlotRun] | None:
        if len(self._cached) >= MAX_CACHED:
            self._cached.clear()
        runs = self._table.all(owner, MAX_CACHED_RUNS + 1)
        cached = self._cached[owner] = runs if len(runs) <= MAX_CACHED_RUNS else None
        return cached

    def _add(self, owner: int, run: SlotRun) -> None:
        self._table.add(owner, run)
        cached = self._cached.get(owner)
        if cached is not None:
            insort(cached, run)
            if len(cached) > MAX_CACHED_RUNS:
                self._cached[owner] = None

    def _remove(self, owner: int, run: SlotRun) -> None:
        self._table.remove(owner, run)
        cached = self._cached.get(owner)
        if cached is not None:
            cached.remove(run)

    def _stored(self, owner: int, second: int) -> SlotRun | None:
        return _holding(second, self._runs(owner, second), visible=False)


def _holding(second: int, runs: list[SlotRun], *, visible: bool) -> SlotRun | None:
    for first, last in runs:
        if first <= second <= last:
            return first, last
    return (second, second) if visible else None


def _free_slot(second: int, runs: list[SlotRun], around: Around) -> FreeSlot:
    before = _holding(second - 1, runs, visible=around.before)
    after = _holding(second + 1, runs, visible=around.after)
    joined = tuple(run for run in (before, after) if run is not None and run in runs)
    return FreeSlot(second, before[0] if before else second, after[1] if after else second, joined)
