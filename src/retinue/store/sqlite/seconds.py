"""Positions of a list: each follow has a second of its own, found in O(log n) however long the burst.

Adjacent occupied seconds form a *run*. Runs of two or more are kept in a table, each as long as it can be, so the
nearest free earlier second is one before the run that holds the wanted one. A single occupied second needs no
entry. Knows only seconds; the caller stores and removes the follow itself, inside the same transaction.
"""

import apsw

from retinue.store.sqlite.files import executor

_NEIGHBOURS = "SELECT position FROM following WHERE follower = ?1 AND position BETWEEN ?2 - 1 AND ?2 + 1"
_RUN_AT_OR_BEFORE = (
    "SELECT first, last FROM following_run WHERE follower = ? AND first <= ? ORDER BY first DESC LIMIT 1"
)
_ADD_RUN = "INSERT INTO following_run (follower, first, last) VALUES (?, ?, ?)"
_REMOVE_RUN = "DELETE FROM following_run WHERE follower = ? AND first = ?"


class Seconds:
    """Gives out and takes back the seconds of all lists in one file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)

    def take(self, follower: int, wanted: int, latest: int) -> int | None:
        """The wanted second where it is free, else the nearest free earlier one.

        Where no earlier one is left (seconds begin at 1), the nearest free later one up to `latest`; None if full.
        """
        around = self._around(follower, wanted)
        if wanted not in around:
            self._join(follower, wanted, around)
            return wanted
        first, last = self._run_holding(follower, wanted)
        position = first - 1 if first > 1 else last + 1
        if position > latest:
            return None
        self._join(follower, position, self._around(follower, position))
        return position

    def give_back(self, follower: int, position: int) -> None:
        """Free an occupied second; a run that held it is cut in two."""
        first, last = self._run_holding(follower, position)
        if first == last:
            return
        self._execute(_REMOVE_RUN, (follower, first))
        for low, high in ((first, position - 1), (position + 1, last)):
            if low < high:
                self._execute(_ADD_RUN, (follower, low, high))

    def _around(self, follower: int, second: int) -> set[int]:
        """Which of a second and its two neighbours are occupied."""
        return {position for (position,) in self._execute(_NEIGHBOURS, (follower, second))}

    def _run_holding(self, follower: int, occupied: int) -> tuple[int, int]:
        """First and last second of the run around an occupied second, maybe just itself."""
        for first, last in self._execute(_RUN_AT_OR_BEFORE, (follower, occupied)).fetchall():
            if last >= occupied:
                return first, last
        return occupied, occupied

    def _join(self, follower: int, position: int, around: set[int]) -> None:
        """Enter a newly occupied second into the runs: alone, at the end of one, or between two."""
        first = last = position
        if position - 1 in around:
            first, _ = self._run_holding(follower, position - 1)
        if position + 1 in around:
            _, last = self._run_holding(follower, position + 1)
        if first == last:
            return
        self._execute("DELETE FROM following_run WHERE follower = ? AND first BETWEEN ? AND ?", (follower, first, last))
        self._execute(_ADD_RUN, (follower, first, last))
