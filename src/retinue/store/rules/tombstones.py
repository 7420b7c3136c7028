"""Erased accounts and future events."""

import hmac
from hashlib import sha256

from msgspec import json

from retinue import names
from retinue.model import AccountRecord
from retinue.store.layout.tombstones import FutureEvent, FutureEventTable, TombstoneTable


class Tombstones:
    """HMACs of the keys and usernames of erased accounts."""

    def __init__(self, table: TombstoneTable) -> None:
        self._table = table
        self._is_empty = True

    def begin(self) -> None:
        """Call when another writer may have changed the store."""
        self._is_empty = self._table.is_empty()

    @property
    def is_empty(self) -> bool:
        return self._is_empty

    def has_key(self, key: str) -> bool:
        return not self._is_empty and self._table.has(self._mac("key", key))

    def has_name(self, name: str) -> bool:
        """Return whether an imported name may mean an erased account."""
        return not self._is_empty and (
            self.has_key(name)
            or self._table.has(self._mac("name", names.fold(name)))
            or any(self.has_key(key) for key in names.keys_of_name(name))
        )

    def add(self, key: str, folded_names: list[str]) -> None:
        """Add an account with all usernames that it ever claimed."""
        self._table.add(self._mac("key", key))
        for folded in folded_names:
            self._table.add(self._mac("name", folded))
        self._is_empty = False

    def _mac(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._table.secret, f"{kind}:{text}".encode(), "sha256")


class FutureEvents:
    """Events that claimed a time after their receipt.

    They take effect at their receipt. A second delivery is later, but must be a duplicate.
    """

    def __init__(self, table: FutureEventTable) -> None:
        self._table = table
        self._is_empty = True

    def begin(self) -> None:
        self._is_empty = self._table.is_empty()

    @property
    def is_empty(self) -> bool:
        return self._is_empty

    def has(self, event: FutureEvent) -> bool:
        return not self._is_empty and self._table.has(event)

    def add(self, event: FutureEvent) -> None:
        self._table.add(event)
        self._is_empty = False


def digest_of_record(record: AccountRecord) -> str:
    """Return a digest of an account event's content."""
    return sha256(json.encode(record)).hexdigest()
