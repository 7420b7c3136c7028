"""The table of relocations: to hidden, to visible, or (erased) away."""

import apsw

from retinue.model import Direction
from retinue.store.rules.values import LAST_SECOND, Relocation
from retinue.store.sqlite.files import executor

# Erased accounts that may still be in others' lists.
ERASED_ACCOUNTS = "SELECT account FROM moving CROSS JOIN account ON id = account WHERE merge AND key IS NULL"
# CROSS keeps the order of the join: `moving` is the shorter table, and one row of it is wanted.
NEXT = "SELECT account, direction, position, key IS NULL FROM moving CROSS JOIN account ON id = account LIMIT 1"

_BEGIN = "INSERT OR REPLACE INTO moving (account, merge, direction, position) VALUES (?, ?, ?, ?)"
_GO_ON = "UPDATE moving SET direction = ?, position = ? WHERE account = ?"


class SqliteRelocations:
    """A `RelocationTable`. Its accounts are cached until another connection changes the file."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self._accounts: set[int] = set()

    def reload(self) -> None:
        """Reload the accounts."""
        self._accounts = {account for (account,) in self._execute("SELECT account FROM moving")}

    def any(self) -> bool:
        """Return whether there are any, also outside a transaction."""
        return bool(self._execute("SELECT 1 FROM moving LIMIT 1").fetchall())

    def has(self, account: int) -> bool:
        return account in self._accounts

    def next(self) -> Relocation | None:
        for account, direction, position, is_erased in self._execute(NEXT).fetchall():
            return Relocation(account, Direction(direction), position, bool(is_erased))
        return None

    def start(self, account: int, *, merge: bool) -> None:
        self._accounts.add(account)
        self._execute(_BEGIN, (account, merge, Direction.FOLLOWERS.value, LAST_SECOND))

    def save_position(self, account: int, direction: Direction, position: int) -> None:
        self._execute(_GO_ON, (direction.value, position, account))

    def finish(self, account: int) -> None:
        self._accounts.discard(account)
        self._execute("DELETE FROM moving WHERE account = ?", (account,))
