"""Seconds of a list: each interval, open or ended, has one of its own, found in O(log n) however long the burst.

Adjacent occupied seconds form a *stretch*. Stretches of two or more are kept in a table, each as long as it can be,
so the nearest free earlier second is one before the stretch that holds the wanted one. A single occupied second needs
no entry while it can be seen in the list itself; where it cannot, because what stands there was moved aside or has
ended, it is a stretch of one. Knows only seconds; what stands on them is stored by the caller.
"""

from collections.abc import Callable
from typing import NamedTuple

import apsw

from retinue.store.sqlite.files import executor

Stretch = tuple[int, int]


class Place(NamedTuple):
    """A free second, the stretch it will make with its neighbours, and the stored stretches that this replaces."""

    second: int
    first: int
    last: int
    joined: tuple[Stretch, ...]


class Around(NamedTuple):
    """Whether entries can be seen in the list itself at a second and at its two neighbours."""

    before: bool
    here: bool
    after: bool


class Seconds:
    """Gives out and takes back the seconds of all lists of one direction. `look` looks into a list."""

    def __init__(self, connection: apsw.Connection, table: str, look: Callable[[int, int], Around]) -> None:
        self._execute = executor(connection)
        self._look = look
        self._near = f"SELECT first, last FROM {table} WHERE owner = ? AND first <= ? ORDER BY first DESC LIMIT 2"
        self._add = f"INSERT INTO {table} (owner, first, last) VALUES (?, ?, ?)"
        self._remove = f"DELETE FROM {table} WHERE owner = ? AND first = ?"

    def seek(self, owner: int, wanted: int, latest: int) -> Place | None:
        """The wanted second where it is free, else the nearest free earlier one.

        Where no earlier one is left (seconds begin at 1), the nearest free later one up to `latest`, or up to the
        wanted one if that is later still; None if full.
        """
        stretches = self._stretches(owner, wanted + 1)
        around = self._look(owner, wanted)
        held = _holding(wanted, stretches, seen=around.here)
        if held is None:
            return _place(wanted, stretches, around)
        first, last = held
        second = first - 1 if first > 1 else last + 1
        if second > max(wanted, latest):
            return None
        return _place(second, self._stretches(owner, second + 1), self._look(owner, second))

    def occupy(self, owner: int, place: Place, *, seen: bool = True) -> None:
        """Take a place that was just found. `seen`: what stands there can be seen in the list itself."""
        for first, _ in place.joined:
            self._execute(self._remove, (owner, first))
        if place.first < place.last or not seen:
            self._execute(self._add, (owner, place.first, place.last))

    def give_back(self, owner: int, second: int) -> None:
        """Free an occupied second, on which nothing stands any more; a stretch that held it is cut in two."""
        held = self._stored(owner, second)
        if held is None:
            return
        self._execute(self._remove, (owner, held[0]))
        for low, high in ((held[0], second - 1), (second + 1, held[1])):
            if low < high or (low == high and not self._look(owner, low).here):
                self._execute(self._add, (owner, low, high))

    def hide(self, owner: int, second: int) -> None:
        """What stands on an occupied second can no longer be seen in the list itself."""
        if self._stored(owner, second) is None:
            self._execute(self._add, (owner, second, second))

    def show(self, owner: int, second: int) -> None:
        """What stands on an occupied second can be seen in the list itself again."""
        if self._stored(owner, second) == (second, second):
            self._execute(self._remove, (owner, second))

    def _stretches(self, owner: int, second: int) -> list[Stretch]:
        """The last two stored stretches that begin at or before a second, later one first."""
        return self._execute(self._near, (owner, second)).fetchall()

    def _stored(self, owner: int, second: int) -> Stretch | None:
        return _holding(second, self._stretches(owner, second), seen=False)


def _holding(second: int, stretches: list[Stretch], *, seen: bool) -> Stretch | None:
    """The stretch around a second, maybe just itself; None if it is free."""
    for first, last in stretches:
        if first <= second <= last:
            return first, last
    return (second, second) if seen else None


def _place(second: int, stretches: list[Stretch], around: Around) -> Place:
    if not stretches and not around.before and not around.after:
        return Place(second, second, second, ())
    before = _holding(second - 1, stretches, seen=around.before)
    after = _holding(second + 1, stretches, seen=around.after)
    joined = tuple(stretch for stretch in (before, after) if stretch is not None and stretch in stretches)
    return Place(second, before[0] if before else second, after[1] if after else second, joined)
