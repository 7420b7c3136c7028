"""The queue of accounts whose entries in others' lists are being moved, for the writer.

Numbers are given out once and only grow; what is done lies before the first that is still waiting, and is never read
again. An account that turns once more gets another number, and its former one counts no more.
"""

from retinue.model import Direction
from retinue.store.cassandra import progress
from retinue.store.cassandra.accounts import row_of, save_row
from retinue.store.cassandra.shapes import MOVING
from retinue.store.cassandra.unit import Unit
from retinue.store.rules.values import LAST_SECOND, Moving

_NUMBERS_PER_SLOT = 10_000


class CassandraMoving:
    """A `MovingTable`."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def any(self) -> bool:
        """Whether there is one."""
        return self.next() is not None

    def has(self, account: int) -> bool:
        """Whether an account is among them."""
        return row_of(self._unit, account).moving is not None

    def next(self) -> Moving | None:
        """The one that has waited longest."""
        standing = progress.read(self._unit)
        for number in range(standing.first, standing.next):
            row = self._unit.get(MOVING, _key(number))
            assert row is not None, number
            account, _, direction, position = row
            stored = row_of(self._unit, account)
            if stored.moving == number:
                return Moving(account, Direction(direction), position, stored.key is None)
            progress.change(self._unit, first=number + 1)
        return None

    def begin(self, account: int, *, merge: bool) -> None:
        """Put an account in, or begin again with it."""
        self.end(account)
        standing = progress.read(self._unit)
        row = row_of(self._unit, account)
        self._unit.put(MOVING, _key(standing.next), (account, merge, Direction.FOLLOWERS.value, LAST_SECOND))
        save_row(self._unit, account, row._replace(moving=standing.next))
        leaving = (*standing.leaving, account) if row.key is None else standing.leaving
        progress.change(self._unit, next=standing.next + 1, merging=standing.merging + merge, leaving=leaving)

    def go_on(self, account: int, direction: Direction, position: int) -> None:
        """Remember how far it is."""
        number = row_of(self._unit, account).moving
        assert number is not None, account
        row = self._unit.get(MOVING, _key(number))
        assert row is not None, number
        self._unit.put(MOVING, _key(number), (row[0], row[1], direction.value, position))

    def end(self, account: int) -> None:
        """Take an account out, if it is in."""
        stored = row_of(self._unit, account)
        if stored.moving is None:
            return
        row = self._unit.get(MOVING, _key(stored.moving))
        assert row is not None, stored
        standing = progress.read(self._unit)
        leaving = tuple(other for other in standing.leaving if other != account)
        progress.change(self._unit, merging=standing.merging - bool(row[1]), leaving=leaving)
        save_row(self._unit, account, stored._replace(moving=None))


def _key(number: int) -> tuple[int, int]:
    return number // _NUMBERS_PER_SLOT, number
