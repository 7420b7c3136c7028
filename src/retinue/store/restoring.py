"""The contract of quota counters that can be lost, damaged or older than the audit log, and counted again from it."""

from typing import Protocol

from retinue.model import Meter
from retinue.store.base import Counted


class Restoring(Protocol):
    """Counters that can be lost or damaged, and counted again from the audit log."""

    @property
    def is_recounted(self) -> bool:
        """Whether all that was counted before they began has been restored."""
        ...

    def set_recounted(self) -> None:
        """Note that all that was counted before they began has been restored."""
        ...

    @property
    def closed_at(self) -> int:
        """How many records the audit log had when these counters were closed in order; -1 if they were not."""
        ...

    def set_closed_at(self, records: int = -1) -> None:
        """Note with how many records of the audit log the counters are closed, or that they are open."""
        ...

    def raise_to(self, meter: Meter, second: int, counted: Counted) -> bool:
        """Restore what was counted on a second's day if the client's record has less; returns whether it had.

        Only while no process counts.
        """
        ...

    def newest_day(self) -> int:
        """Return the newest day of any client; 0 if nothing was counted."""
        ...

    def damaged(self) -> dict[int, bytes]:
        """Return the damaged records by the number of their client. A record that is just being written is there too,
        but not twice with the same bytes.
        """
        ...

    def restore(self, meter: Meter, second: int, counted: Counted) -> None:
        """Count anew what was counted up to a second of its day. Only for a record that no process writes."""
        ...
