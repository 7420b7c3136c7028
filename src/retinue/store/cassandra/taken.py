"""Stretches of occupied seconds, for the writer: found by their last second, since most grow at their first."""

from collections.abc import Iterable

from retinue.model import Direction
from retinue.store.cassandra.session import Statement
from retinue.store.cassandra.shapes import TAKEN, Row
from retinue.store.cassandra.unit import Unit
from retinue.store.rules.seconds import FEW
from retinue.store.rules.values import Seconds

_FIRST_OF = f"{TAKEN.all_within} LIMIT {FEW + 1}"


class CassandraTaken:
    """A `TakenTable`."""

    def __init__(self, unit: Unit, direction: Direction) -> None:
        self._unit = unit
        self._direction = direction.value
        self._read: dict[int, list[Row]] = {}  # what `fetch` has read, until it is asked for

    def forget(self) -> None:
        """Call when another writer may have written, and after a failure."""
        self._read.clear()

    def learn_empty(self, owners: Iterable[int]) -> None:
        """Take notice of lists in which nothing stands."""
        self._read.update((owner, []) for owner in owners)

    def fetch(self, owners: Iterable[int]) -> None:
        """Read the first stretches of several lists at once."""
        missing = list(dict.fromkeys(owner for owner in owners if owner not in self._read))
        found = self._unit.session.rows_of_all(Statement(_FIRST_OF, (owner, self._direction)) for owner in missing)
        self._read.update(zip(missing, found, strict=True))

    def all(self, owner: int, limit: int) -> list[Seconds]:
        """The first stretches of a list, at most so many."""
        self.fetch([owner])
        stored = self._read.pop(owner)
        if len(stored) >= limit:  # whatever was changed since, there are many
            return [(first, last) for last, first in stored]
        changed = self._unit.changed_within(TAKEN, (owner, self._direction))
        found = [(first, last) for last, first in stored if (last,) not in changed]
        found += [(row[0], key[0]) for key, row in changed.items() if row is not None]
        return sorted(found)[:limit]

    def near(self, owner: int, second: int) -> list[Seconds]:
        """Those that hold a second or one of its neighbours, the later one first."""
        changed = self._unit.changed_within(TAKEN, (owner, self._direction))
        more = f" AND last >= ? LIMIT {2 + len(changed)}"
        rows = self._unit.rows_within(TAKEN, (owner, self._direction), more, (second - 1,))
        return sorted(((row[1], row[0]) for row in rows if row[1] <= second + 1 and row[0] >= second - 1), reverse=True)

    def add(self, owner: int, stretch: Seconds) -> None:
        """Store a stretch that touches no other."""
        self._read.pop(owner, None)
        self._unit.put(TAKEN, (owner, self._direction, stretch[1]), (stretch[0],))

    def remove(self, owner: int, stretch: Seconds) -> None:
        """Remove a stretch that is there."""
        self._read.pop(owner, None)
        self._unit.put(TAKEN, (owner, self._direction, stretch[1]), None)
