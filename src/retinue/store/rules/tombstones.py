"""Erased accounts and future events: facts that outlive everything else about them."""

import hmac
from hashlib import sha256

from msgspec import json

from retinue import names
from retinue.model import AccountRecord
from retinue.store.rules.tables import FutureEventTable, TombstoneTable
from retinue.store.rules.values import Claimed


class Tombstones:
    """HMACs of the keys and usernames of erased accounts."""

    def __init__(self, table: TombstoneTable) -> None:
        self._table = table
        self._any = False

    def begin(self) -> None:
        """Look whether any exist."""
        self._any = self._table.any()

    def has_key(self, key: str) -> bool:
        """Return whether the account with a key was erased."""
        return self._any and self._table.has(self._mac("key", key))

    def has_name(self, name: str) -> bool:
        """Return whether an imported name means an erased account."""
        return self._any and (
            self.has_key(name)
            or self._table.has(self._mac("name", names.fold(name)))
            or any(self.has_key(key) for key in names.keys_of_name(name))
        )

    def add(self, key: str, folded_names: list[str]) -> None:
        """Add an account with all usernames that it ever claimed."""
        self._table.add(self._mac("key", key))
        for folded in folded_names:
            self._table.add(self._mac("name", folded))
        self._any = True

    def _mac(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._table.secret, f"{kind}:{text}".encode(), "sha256")


class FutureEvents:
    """Events that claimed a time after their receipt.

    They count at the time of receipt. A second delivery must be recognised as a duplicate.
    """

    def __init__(self, table: FutureEventTable) -> None:
        self._table = table
        self._any = False

    def begin(self) -> None:
        """Look whether any exist."""
        self._any = self._table.any()

    def has(self, claimed: Claimed) -> bool:
        """Return whether an event was delivered before."""
        return self._any and self._table.has(claimed)

    def add(self, claimed: Claimed, at: int) -> None:
        """Add an event that counted at a second."""
        self._table.add(claimed, at)
        self._any = True


def digest_of_record(record: AccountRecord) -> str:
    """Return a digest of the content of an account event."""
    return sha256(json.encode(record)).hexdigest()
