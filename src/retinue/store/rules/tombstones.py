"""Erased accounts and future events."""

import hmac
from hashlib import sha256
from typing import NamedTuple

from msgspec import json, msgpack

from retinue import names
from retinue.model import AccountRecord
from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import (
    FUTURE_EVENT,
    LAST_SECOND,
    META,
    SECRET,
    TOMBSTONE,
    TOMBSTONES,
    pair_key,
    second_of,
)

_COUNT_BYTES = 8
_digests_in = msgpack.Decoder(list[bytes]).decode


class Tombstones:
    """HMACs of the keys and usernames of erased accounts."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.is_empty = True

    def begin(self) -> None:
        """Call when another writer may have changed the store."""
        self.is_empty = not self._rows.has_rows(TOMBSTONE)

    def has_key(self, key: str) -> bool:
        return self._has("key", key)

    def has_name(self, name: str) -> bool:
        """Return whether an imported name may mean an erased account."""
        if self.is_empty:
            return False
        keys = (name, *names.keys_of_name(name))
        return self._has("name", names.fold(name)) or any(map(self.has_key, keys))

    def add(self, key: str, folded_names: list[str]) -> None:
        self.is_empty = False
        for mac in (self._mac("key", key), *(self._mac("name", folded) for folded in folded_names)):
            if self._rows.get(TOMBSTONE, mac) is None:
                count = int.from_bytes(self._rows.get(META, TOMBSTONES) or b"", "little") + 1
                self._rows.put(META, TOMBSTONES, count.to_bytes(_COUNT_BYTES, "little"))
                self._rows.put(TOMBSTONE, mac, b"")

    def _has(self, kind: str, text: str) -> bool:
        return not self.is_empty and self._rows.get(TOMBSTONE, self._mac(kind, text)) is not None

    def _mac(self, kind: str, text: str) -> str:
        secret = self._rows.get(META, SECRET) or b""
        return hmac.digest(secret, f"{kind}:{text}".encode(), "sha256").hex()


class FutureEvent(NamedTuple):
    """An event of an account and another one (or 0)."""

    account: int
    other: int
    event: str
    claimed_at: int

    @property
    def digest(self) -> bytes:
        """A short name for the event, 16 bytes."""
        return sha256(f"{self.account} {self.other} {self.event} {self.claimed_at}".encode()).digest()[:16]


class FutureEvents:
    """Events that claimed a time after their receipt.

    They take effect at their receipt. A second delivery is later, but must be a duplicate.
    """

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self.is_empty = True

    def begin(self) -> None:
        """Call when another writer may have changed the store."""
        self.is_empty = not self._rows.has_rows(FUTURE_EVENT)

    def has(self, event: FutureEvent) -> bool:
        return not self.is_empty and event.digest in self._digests(event.account, event.other)

    def add(self, event: FutureEvent) -> None:
        self.is_empty = False
        ends = [(event.account, event.other)] + [(event.other, event.account)] * (event.other > 0)
        for account, other in ends:
            digests = [*self._digests(account, other), event.digest]
            self._rows.put(FUTURE_EVENT, pair_key(account, other), msgpack.encode(digests))

    def forget(self, account: int) -> None:
        """Remove all events of an account, on either side."""
        for key, _ in list(self._rows.scan(FUTURE_EVENT, pair_key(account, 0), pair_key(account, LAST_SECOND))):
            self._rows.delete(FUTURE_EVENT, key)
            if second_of(key):
                self._rows.delete(FUTURE_EVENT, pair_key(second_of(key), account))

    def _digests(self, account: int, other: int) -> list[bytes]:
        content = self._rows.get(FUTURE_EVENT, pair_key(account, other))
        return [] if content is None else _digests_in(content)


def digest_of_record(record: AccountRecord) -> str:
    """Return a digest of an account event's content."""
    return sha256(json.encode(record)).hexdigest()
