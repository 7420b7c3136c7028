"""What is remembered for good, for the writer: tombstones, and events that claimed a time in the future."""

from retinue.store.cassandra import progress
from retinue.store.cassandra.shapes import POSTDATED, TOMBSTONE
from retinue.store.cassandra.unit import Unit
from retinue.store.rules.values import Claimed


class CassandraTombstones:
    """A `TombstoneTable`."""

    def __init__(self, unit: Unit, secret: bytes) -> None:
        self._unit = unit
        self.secret = secret

    def any(self) -> bool:
        """Whether there is one."""
        return progress.read(self._unit).has_tombstones

    def has(self, mac: bytes) -> bool:
        """Whether one is there."""
        return self._unit.get(TOMBSTONE, (mac,)) is not None

    def add(self, mac: bytes) -> None:
        """Keep one."""
        self._unit.put(TOMBSTONE, (mac,), ())
        progress.change(self._unit, has_tombstones=True)


class CassandraFutureEvents:
    """A `FutureEventTable`."""

    def __init__(self, unit: Unit) -> None:
        self._unit = unit

    def any(self) -> bool:
        """Whether there is one."""
        return progress.read(self._unit).has_postdated

    def has(self, claimed: Claimed) -> bool:
        """Whether one is there."""
        return self._unit.get(POSTDATED, _key(claimed)) is not None

    def add(self, claimed: Claimed, at: int) -> None:
        """Keep one."""
        self._unit.put(POSTDATED, _key(claimed), (at,))
        if claimed.other:
            self._unit.put(POSTDATED, _mirrored(claimed), (at,))
        progress.change(self._unit, has_postdated=True)

    def forget(self, account: int) -> None:
        """Remove all of an account, on either side."""
        if not self.any():
            return
        for is_mirrored, other, event, claimed_at, _ in list(self._unit.rows_within(POSTDATED, (account,))):
            claimed = (
                Claimed(other, account, event, claimed_at)
                if is_mirrored
                else Claimed(account, other, event, claimed_at)
            )
            self._unit.put(POSTDATED, _key(claimed), None)
            if claimed.other:
                self._unit.put(POSTDATED, _mirrored(claimed), None)


def _key(claimed: Claimed) -> tuple[int, bool, int, str, int]:
    return claimed.account, False, claimed.other, claimed.event, claimed.claimed_at


def _mirrored(claimed: Claimed) -> tuple[int, bool, int, str, int]:
    return claimed.other, True, claimed.account, claimed.event, claimed.claimed_at
