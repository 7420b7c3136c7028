"""Events that claimed a time in the future when they came, so that they are known when they come again.

What counted was the time of their receipt; without this a second delivery would count once more, at another time. Runs
inside the writer's transactions.
"""

from hashlib import sha256
from typing import NamedTuple

import apsw
from msgspec import json

from retinue.model import AccountRecord
from retinue.store.sqlite.files import executor

_ANY = "SELECT 1 FROM postdated LIMIT 1"
_HAS = "SELECT 1 FROM postdated WHERE account = ? AND other = ? AND event = ? AND claimed_at = ?"
_KEEP = "INSERT OR IGNORE INTO postdated (account, other, event, claimed_at, at) VALUES (?, ?, ?, ?, ?)"


class Claimed(NamedTuple):
    """Which event, between which accounts (`other` is 0 for those of one account), and the time it claimed."""

    account: int
    other: int
    event: str
    claimed_at: int


def name_of(record: AccountRecord) -> str:
    """A short name for what an event says of an account."""
    return sha256(json.encode(record)).hexdigest()


class Postdated:
    """All such events."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self._any = False

    def begin(self) -> None:
        """Call when another connection may have changed the file, and after a rollback."""
        self._any = bool(self._execute(_ANY).fetchall())

    def has(self, claimed: Claimed) -> bool:
        """Whether the event came before."""
        return self._any and bool(self._execute(_HAS, claimed).fetchall())

    def keep(self, claimed: Claimed, at: int) -> None:
        """Keep an event that counted at a second."""
        self._execute(_KEEP, (*claimed, at))
        self._any = True
