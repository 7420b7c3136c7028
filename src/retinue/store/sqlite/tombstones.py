"""The tables of what is remembered for good: HMACs of what was erased, and events that claimed a time in the future."""

import apsw

from retinue.store.rules.values import Claimed
from retinue.store.sqlite.files import executor

_HAS_CLAIMED = "SELECT 1 FROM postdated WHERE account = ? AND other = ? AND event = ? AND claimed_at = ?"
_ADD_CLAIMED = "INSERT OR IGNORE INTO postdated (account, other, event, claimed_at, at) VALUES (?, ?, ?, ?, ?)"


class SqliteTombstones:
    """A `TombstoneTable`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self.secret: bytes = self._execute("SELECT value FROM secret").fetchall()[0][0]

    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._execute("SELECT 1 FROM tombstone LIMIT 1").fetchall())

    def has(self, mac: bytes) -> bool:
        """Whether one is there."""
        return bool(self._execute("SELECT 1 FROM tombstone WHERE mac = ?", (mac,)).fetchall())

    def add(self, mac: bytes) -> None:
        """Keep one."""
        self._execute("INSERT OR IGNORE INTO tombstone (mac) VALUES (?)", (mac,))


class SqliteFutureEvents:
    """A `FutureEventTable`."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)

    def any(self) -> bool:
        """Whether there is one."""
        return bool(self._execute("SELECT 1 FROM postdated LIMIT 1").fetchall())

    def has(self, claimed: Claimed) -> bool:
        """Whether one is there."""
        return bool(self._execute(_HAS_CLAIMED, claimed).fetchall())

    def add(self, claimed: Claimed, at: int) -> None:
        """Keep one."""
        self._execute(_ADD_CLAIMED, (*claimed, at))

    def forget(self, account: int) -> None:
        """Remove all of an account."""
        self._execute("DELETE FROM postdated WHERE account = ?1 OR other = ?1", (account,))
