"""The table of stretches of occupied seconds, of the lists of one direction."""

import apsw

from retinue.model import Direction
from retinue.store.rules.values import SlotRun
from retinue.store.sqlite.files import executor


class SqliteSlotRuns:
    """A `TakenTable`."""

    def __init__(self, connection: apsw.Connection, direction: Direction) -> None:
        self._execute = executor(connection)
        table = f"{direction.value}_taken"
        self._all = f"SELECT first, last FROM {table} WHERE owner = ? ORDER BY first LIMIT ?"
        self._near = f"SELECT first, last FROM {table} WHERE owner = ? AND first <= ? ORDER BY first DESC LIMIT 2"
        self._add = f"INSERT INTO {table} (owner, first, last) VALUES (?, ?, ?)"
        self._remove = f"DELETE FROM {table} WHERE owner = ? AND first = ?"

    def all(self, owner: int, limit: int) -> list[SlotRun]:
        """The first stretches of a list, at most so many."""
        return self._execute(self._all, (owner, limit)).fetchall()

    def near(self, owner: int, second: int) -> list[SlotRun]:
        """The last two that begin at most one second later: among them are those that hold it or its neighbours."""
        return self._execute(self._near, (owner, second + 1)).fetchall()

    def add(self, owner: int, run: SlotRun) -> None:
        """Store a stretch that touches no other."""
        self._execute(self._add, (owner, *run))

    def remove(self, owner: int, run: SlotRun) -> None:
        """Remove a stretch that is there."""
        self._execute(self._remove, (owner, run[0]))
