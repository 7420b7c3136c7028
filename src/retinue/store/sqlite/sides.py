"""Which accounts are rows, and whose entries are still on their way to the side where they belong.

The entries of an account that is a row stand in the range of pages, others aside. When an account changes, its entries
follow in the background (`tidying.py`); until then they may stand on either side.
"""

import apsw

from retinue.model import Direction, Visibility
from retinue.store.sqlite.blocks import LAST_SECOND
from retinue.store.sqlite.files import executor

IS_ROW = f"folded IS NOT NULL AND visibility <= {Visibility.FOLLOWING_HIDDEN.value}"
REMEMBERED = 1_000_000
# Erased accounts that may still stand in others' lists.
LEAVING = "SELECT account FROM moving CROSS JOIN account ON id = account WHERE merge AND key IS NULL"

_LOAD = f"SELECT {IS_ROW} FROM account WHERE id = ?"
_MOVING = "SELECT account FROM moving"
_MOVE = "INSERT OR REPLACE INTO moving (account, merge, direction, position) VALUES (?, ?, ?, ?)"


class Sides:
    """What the writer remembers of it until another connection changes the file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self._rows: dict[int, bool] = {}
        self._moving: set[int] = set()

    def begin(self) -> None:
        """Call when another connection may have changed the file, and after a rollback."""
        self._rows.clear()
        self._moving = {account for (account,) in self._execute(_MOVING)}

    def is_row(self, account: int) -> bool:
        """Whether others' lists show an account."""
        known = self._rows.get(account)
        if known is None:
            known = bool(self._execute(_LOAD, (account,)).fetchall()[0][0])
            self.learn(account, is_row=known)
        return known

    def is_moving(self, account: int) -> bool:
        """Whether entries of an account may stand on the wrong side."""
        return account in self._moving

    def learn(self, account: int, *, is_row: bool) -> None:
        """Remember what was just read or stored."""
        if len(self._rows) >= REMEMBERED:
            self._rows.clear()
        self._rows[account] = is_row

    def turn(self, account: int, *, is_row: bool, is_erased: bool = False) -> None:
        """An account has become a row, or is none any more: have its entries moved, from the beginning."""
        self.learn(account, is_row=is_row)
        self._moving.add(account)
        self._execute(_MOVE, (account, is_row or is_erased, Direction.FOLLOWERS.value, LAST_SECOND))

    def moved(self, account: int) -> None:
        """All entries of an account stand where they belong."""
        self._moving.discard(account)
        self._execute("DELETE FROM moving WHERE account = ?", (account,))
