"""The tables of tombstones and future events, for the writer.

The latter is called `postdated` in the keyspace.
"""

from retinue.store.cassandra import graph_state
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.table_definitions import FUTURE_EVENT, TOMBSTONE
from retinue.store.rules.values import Claimed


class CassandraTombstones:
    """A `TombstoneTable`."""

    def __init__(self, buffer: RowBuffer, secret: bytes) -> None:
        self._buffer = buffer
        self.secret = secret

    def any(self) -> bool:
        return graph_state.read(self._buffer).has_tombstones

    def has(self, mac: bytes) -> bool:
        return self._buffer.get(TOMBSTONE, (mac,)) is not None

    def add(self, mac: bytes) -> None:
        self._buffer.put(TOMBSTONE, (mac,), ())
        graph_state.change(self._buffer, has_tombstones=True)


class CassandraFutureEvents:
    """A `FutureEventTable`."""

    def __init__(self, buffer: RowBuffer) -> None:
        self._buffer = buffer

    def any(self) -> bool:
        return graph_state.read(self._buffer).has_future_events

    def has(self, claimed: Claimed) -> bool:
        return self._buffer.get(FUTURE_EVENT, _key(claimed)) is not None

    def add(self, claimed: Claimed, at: int) -> None:
        self._buffer.put(FUTURE_EVENT, _key(claimed), (at,))
        if claimed.other:
            self._buffer.put(FUTURE_EVENT, _mirrored(claimed), (at,))
        graph_state.change(self._buffer, has_future_events=True)

    def forget(self, account: int) -> None:
        if not self.any():
            return
        for is_mirrored, other, event, claimed_at, _ in list(self._buffer.rows_by_prefix(FUTURE_EVENT, (account,))):
            claimed = (
                Claimed(other, account, event, claimed_at)
                if is_mirrored
                else Claimed(account, other, event, claimed_at)
            )
            self._buffer.put(FUTURE_EVENT, _key(claimed), None)
            if claimed.other:
                self._buffer.put(FUTURE_EVENT, _mirrored(claimed), None)


def _key(claimed: Claimed) -> tuple[int, bool, int, str, int]:
    return claimed.account, False, claimed.other, claimed.event, claimed.claimed_at


def _mirrored(claimed: Claimed) -> tuple[int, bool, int, str, int]:
    return claimed.other, True, claimed.account, claimed.event, claimed.claimed_at
