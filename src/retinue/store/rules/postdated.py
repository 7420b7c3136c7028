"""Events that claimed a time in the future when they came, so that they are known when they come again.

What counted was the time of their receipt; without this a second delivery would count once more, at another time.
"""

from hashlib import sha256

from msgspec import json

from retinue.model import AccountRecord
from retinue.store.rules.tables import PostdatedTable
from retinue.store.rules.values import Claimed


def name_of(record: AccountRecord) -> str:
    """A short name for what an event says of an account."""
    return sha256(json.encode(record)).hexdigest()


class Postdated:
    """All such events."""

    def __init__(self, table: PostdatedTable) -> None:
        self._table = table
        self._any = False

    def begin(self) -> None:
        """Call when another writer may have changed the store, and after a failure."""
        self._any = self._table.any()

    def has(self, claimed: Claimed) -> bool:
        """Whether the event came before."""
        return self._any and self._table.has(claimed)

    def keep(self, claimed: Claimed, at: int) -> None:
        """Keep an event that counted at a second."""
        self._table.add(claimed, at)
        self._any = True
