"""The tables of tombstones and future events.

The latter is called `postdated` in the file.
"""

import apsw

from retinue.store.rules.values import Claimed
from retinue.store.sqlite.files import executor

_FUTURE_EVENTS = "postdated"  # the name of their table in the file
_HAS_CLAIMED = f"SELECT 1 FROM {_FUTURE_EVENTS} WHERE account = ? AND other = ? AND event = ? AND claimed_at = ?"
_ADD_CLAIMED = f"INSERT OR IGNORE INTO {_FUTURE_EVENTS} (account, other, event, claimed_at, at) VALUES (?, ?, ?, ?, ?)"


class SqliteTombstones:
    """A `TombstoneTable`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self.secret: bytes = self._execute("SELECT value FROM secret").fetchall()[0][0]

    def any(self) -> bool:
        return bool(self._execute("SELECT 1 FROM tombstone LIMIT 1").fetchall())

    def has(self, mac: bytes) -> bool:
        return bool(self._execute("SELECT 1 FROM tombstone WHERE mac = ?", (mac,)).fetchall())

    def add(self, mac: bytes) -> None:
        self._execute("INSERT OR IGNORE INTO tombstone (mac) VALUES (?)", (mac,))


class SqliteFutureEvents:
    """A `FutureEventTable`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)

    def any(self) -> bool:
        return bool(self._execute(f"SELECT 1 FROM {_FUTURE_EVENTS} LIMIT 1").fetchall())

    def has(self, claimed: Claimed) -> bool:
        return bool(self._execute(_HAS_CLAIMED, claimed).fetchall())

    def add(self, claimed: Claimed, at: int) -> None:
        self._execute(_ADD_CLAIMED, (*claimed, at))

    def forget(self, account: int) -> None:
        self._execute(f"DELETE FROM {_FUTURE_EVENTS} WHERE account = ?1 OR other = ?1", (account,))
