"""The relocation queue.

It has the accounts whose entries in others' lists are being shown, hidden or (erased) removed.
"""

from typing import NamedTuple

from retinue.model import Direction
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import damaged
from retinue.store.layout.stored_accounts import StoredAccount
from retinue.store.layout.tables import LAST_SECOND, RELOCATION, pair_key, second_of

# The first number of a key: readers must merge hidden entries into pages while one of the first kind is queued.
MERGED, UNMERGED = 0, 1

_DIRECTIONS = tuple(Direction)


class Relocation(NamedTuple):
    """The progress of an account's relocation: one of its lists, and a position there."""

    account_id: int
    is_erased: bool
    is_merged: bool
    direction: Direction = Direction.FOLLOWERS
    position: int = LAST_SECOND

    def encode(self) -> bytes:
        return bytes((self.is_erased, _DIRECTIONS.index(self.direction))) + self.position.to_bytes(4, "little")


def decode_relocation(key: int, content: bytes) -> Relocation:
    """Return a stored relocation. Raises `StoreUnavailable` if it is damaged."""
    if len(content) != 6 or content[0] > 1 or content[1] >= len(_DIRECTIONS):  # noqa: PLR2004 - as encoded above
        raise damaged(RELOCATION, key, "its relocation is not whole")
    position = int.from_bytes(content[2:], "little")
    return Relocation(second_of(key), bool(content[0]), key >> 32 == MERGED, _DIRECTIONS[content[1]], position)


class RelocationQueue:
    """The queue, for the writer."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def next(self) -> Relocation | None:
        found = self._rows.first(RELOCATION, 0, pair_key(UNMERGED, LAST_SECOND))
        if found is None:
            return None
        key, content = found
        return decode_relocation(key, content)

    def add(self, account: StoredAccount, *, is_erased: bool = False) -> None:
        """Queue an account, or restart its relocation.

        Until it is done, the account's entries may be visible or hidden.
        """
        self.remove(account.id)
        self.save(Relocation(account.id, is_erased, is_merged=is_erased or account.is_visible))

    def save(self, relocation: Relocation) -> None:
        kind = MERGED if relocation.is_merged else UNMERGED
        self._rows.put(RELOCATION, pair_key(kind, relocation.account_id), relocation.encode())

    def remove(self, account_id: int) -> None:
        for kind in (MERGED, UNMERGED):
            self._rows.delete(RELOCATION, pair_key(kind, account_id))
