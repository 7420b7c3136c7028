"""Tombstones, future events, and the store's own values."""

import secrets
from hashlib import sha256
from typing import NamedTuple

import msgspec

from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import FUTURE_EVENT, LAST_SECOND, META, TOMBSTONE, pair_key, second_of

SECRET, STORE_ID, TOMBSTONES = "secret", "store_id", "tombstones"
SECRET_BYTES = 32
_NUMBER_BYTES = 8


def new_meta() -> dict[str, bytes]:
    """Return the rows of the table META of a new store."""
    return {SECRET: secrets.token_bytes(SECRET_BYTES), STORE_ID: new_store_id()}


def new_store_id() -> bytes:
    """Return a random id, by which a row file knows its store."""
    return secrets.token_bytes(16)


class TombstoneTable:
    """HMACs of erased keys and names, and the store's secret for them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    @property
    def secret(self) -> bytes:
        """The secret, 32 bytes."""
        return self._rows.get(META, SECRET) or b""

    def is_empty(self) -> bool:
        return not self._rows.has_rows(TOMBSTONE)

    def has(self, mac: bytes) -> bool:
        return self._rows.get(TOMBSTONE, mac.hex()) is not None

    def add(self, mac: bytes) -> None:
        """Add a tombstone, and count it."""
        if not self.has(mac):
            count = int.from_bytes(self._rows.get(META, TOMBSTONES) or b"", "little") + 1
            self._rows.put(META, TOMBSTONES, count.to_bytes(_NUMBER_BYTES, "little"))
            self._rows.put(TOMBSTONE, mac.hex(), b"")


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


_DIGESTS = msgspec.msgpack.Decoder(list[bytes])


class FutureEventTable:
    """Future events by both of their accounts."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def is_empty(self) -> bool:
        return not self._rows.has_rows(FUTURE_EVENT)

    def has(self, event: FutureEvent) -> bool:
        return event.digest in self._digests(event.account, event.other)

    def add(self, event: FutureEvent) -> None:
        ends = [(event.account, event.other)] + [(event.other, event.account)] * (event.other > 0)
        for account, other in ends:
            digests = [*self._digests(account, other), event.digest]
            self._rows.put(FUTURE_EVENT, pair_key(account, other), msgspec.msgpack.encode(digests))

    def forget(self, account: int) -> None:
        """Remove all events of an account, on either side."""
        for key, _ in list(self._rows.scan(FUTURE_EVENT, pair_key(account, 0), pair_key(account, LAST_SECOND))):
            assert isinstance(key, int)
            self._rows.delete(FUTURE_EVENT, key)
            if second_of(key):
                self._rows.delete(FUTURE_EVENT, pair_key(second_of(key), account))

    def _digests(self, account: int, other: int) -> list[bytes]:
        content = self._rows.get(FUTURE_EVENT, pair_key(account, other))
        return [] if content is None else _DIGESTS.decode(content)
