"""Histories: the events of pairs that are more than a single follow. Each list has its own."""

from array import array
from collections.abc import Iterable, Iterator

from retinue.history import Moment
from retinue.store.layout.rows import Rows
from retinue.store.layout.sealing import damaged
from retinue.store.layout.tables import LAST_SECOND, Table, pair_key, second_of

Moments = frozenset[Moment]


def encode_moments(moments: Iterable[Moment]) -> bytes:
    """Return the content to store: each event's doubled second, odd for an unfollow."""
    return array("Q", sorted(moment.at << 1 | moment.is_unfollow for moment in moments)).tobytes()


def decode_moments(table: Table, key: int, content: bytes) -> Moments:
    """Return stored events. Raises `StoreUnavailable` if they are damaged."""
    if not content or len(content) % 8:
        raise damaged(table, key, "its events are not whole")
    return frozenset(Moment(number >> 1, bool(number & 1)) for number in array("Q", content))


class HistoryTable:
    """The histories of all pairs in one direction."""

    def __init__(self, rows: Rows, table: Table) -> None:
        self._rows = rows
        self._table = table

    def load(self, owner: int, account: int) -> Moments | None:
        key = pair_key(owner, account)
        content = self._rows.get(self._table, key)
        return None if content is None else decode_moments(self._table, key, content)

    def save(self, owner: int, account: int, moments: Moments) -> None:
        """Store the events of a pair. A single follow is no history."""
        key = pair_key(owner, account)
        if all(not moment.is_unfollow for moment in moments) and len(moments) <= 1:
            self._rows.delete(self._table, key)
        else:
            self._rows.put(self._table, key, encode_moments(moments))

    def accounts(self, owner: int) -> Iterator[int]:
        for key, _ in self._rows.scan(self._table, pair_key(owner, 0), pair_key(owner, LAST_SECOND)):
            yield second_of(key)
