"""The queue of relocations, for the writer.

Numbers only grow, and those before the first waiting one are never read again. If the visibility of an account changes
once more, it gets another number.
"""

from retinue.model import Direction
from retinue.store.cassandra import graph_state
from retinue.store.cassandra.accounts import row_of, save_row
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.table_definitions import RELOCATION
from retinue.store.rules.values import LAST_SECOND, Relocation

_NUMBERS_PER_SLOT = 10_000


class CassandraRelocations:
    """A `RelocationTable`."""

    def __init__(self, buffer: RowBuffer) -> None:
        self._buffer = buffer

    def any(self) -> bool:
        return self.next() is not None

    def has(self, account: int) -> bool:
        return row_of(self._buffer, account).relocation is not None

    def next(self) -> Relocation | None:
        state = graph_state.read(self._buffer)
        for number in range(state.first, state.next):
            row = self._buffer.get(RELOCATION, _key(number))
            assert row is not None, number
            account, _, direction, position = row
            stored = row_of(self._buffer, account)
            if stored.relocation == number:
                return Relocation(account, Direction(direction), position, stored.key is None)
            graph_state.change(self._buffer, first=number + 1)
        return None

    def start(self, account: int, *, merge: bool) -> None:
        self.finish(account)
        state = graph_state.read(self._buffer)
        row = row_of(self._buffer, account)
        self._buffer.put(RELOCATION, _key(state.next), (account, merge, Direction.FOLLOWERS.value, LAST_SECOND))
        save_row(self._buffer, account, row._replace(relocation=state.next))
        leaving = (*state.leaving, account) if row.key is None else state.leaving
        graph_state.change(self._buffer, next=state.next + 1, merging=state.merging + merge, leaving=leaving)

    def save_position(self, account: int, direction: Direction, position: int) -> None:
        number = row_of(self._buffer, account).relocation
        assert number is not None, account
        row = self._buffer.get(RELOCATION, _key(number))
        assert row is not None, number
        self._buffer.put(RELOCATION, _key(number), (row[0], row[1], direction.value, position))

    def finish(self, account: int) -> None:
        stored = row_of(self._buffer, account)
        if stored.relocation is None:
            return
        row = self._buffer.get(RELOCATION, _key(stored.relocation))
        assert row is not None, stored
        state = graph_state.read(self._buffer)
        leaving = tuple(other for other in state.leaving if other != account)
        graph_state.change(self._buffer, merging=state.merging - bool(row[1]), leaving=leaving)
        save_row(self._buffer, account, stored._replace(relocation=None))


def _key(number: int) -> tuple[int, int]:
    return number // _NUMBERS_PER_SLOT, number
