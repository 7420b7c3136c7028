"""The table of slot runs of one direction."""

import apsw

from retinue.model import Direction
from retinue.store.rules.values import SlotRun
from retinue.store.sqlite.files import executor


class SqliteSlotRuns:
    """A `SlotRunTable`."""

    def __init__(self, connection: apsw.Connection, direction: Direction) -> None:
        self._execute = executor(connection)
        table = f"{direction.value}_taken"
        self._all = f"SELECT first, last FROM {table} WHERE owner = ? ORDER BY first LIMIT ?"
        self._near = f"SELECT first, last FROM {table} WHERE owner = ? AND first <= ? ORDER BY first DESC LIMIT 2"
        self._add = f"INSERT INTO {table} (owner, first, last) VALUES (?, ?, ?)"
        self._remove = f"DELETE FROM {table} WHERE owner = ? AND first = ?"

    def all(self, owner: int, limit: int) -> list[SlotRun]:
        return self._execute(self._all, (owner, limit)).fetchall()

    def near(self, owner: int, second: int) -> list[SlotRun]:
        """Return the last two runs that begin by the next second."""
        return self._execute(self._near, (owner, second + 1)).fetchall()

    def add(self, owner: int, run: SlotRun) -> None:
        self._execute(self._add, (owner, *run))

    def remove(self, owner: int, run: SlotRun) -> None:
        self._execute(self._remove, (owner, run[0]))
