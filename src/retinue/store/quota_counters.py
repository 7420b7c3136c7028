"""The contract of quota counters and their recovery."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from retinue.model import Meter, Pool, Quota, Rate, Used

DAY_SECONDS = 86_400


class Allowance(Struct, frozen=True, gc=False):
    """The status of a client's quota in a pool; None is unlimited.

    `calls` of `limit` calls a day remain, and `rows` rows, until a new day begins in `reset` seconds. The rate limit
    admits the next call in `wait` seconds.
    """

    limit: int | None
    calls: int | None
    rows: int | None
    reset: int
    wait: int = 0


class Counted(Struct, frozen=True):
    """A client's usage in the audit log: its day, and the calls of the last minute by second."""

    used: Used
    answers: Mapping[int, int]
    tokens: Mapping[int, int]


class Ledger(Protocol):
    """The usage of each client, counted by all processes.

    Counts of a killed process stay. A day (UTC) starts at zero and never twice: if the clock is set back, counting goes
    on with the newest day. The rate limit slides over the preceding seconds. Damaged counters raise `StoreUnavailable`.
    """

    def used(self, meter: Meter, second: int) -> Used:
        """Return the usage on a second's day."""
        ...

    def room(self, meter: Meter, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """Return how many of the wanted rows the quota allows.

        It is 0 if the quota allows no call. Counts nothing; another process may use the quota meanwhile.
        """
        ...

    def left(self, meter: Meter, second: int, pool: Pool, quota: Quota) -> Allowance:
        """Return the status of a quota."""
        ...

    def charge(self, meter: Meter, second: int, pool: Pool, rows: int, quota: Quota) -> Allowance | None:
        """Count an answer and its rows; return the new status.

        Return None and count nothing if that exceeds a limit.
        """
        ...

    def admit(self, meter: Meter, second: int, rate: Rate) -> int:
        """Count a token request, or return the seconds to wait."""
        ...


class Restoring(Protocol):
    """Quota counters that can be recovered from the audit log."""

    @property
    def is_recounted(self) -> bool:
        """Whether all earlier usage has been recovered."""
        ...

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed while it is open. It counts until it is closed."""
        ...

    def set_recounted(self) -> None:
        """Note that all earlier usage has been recovered."""
        ...

    @property
    def closed_at(self) -> int:
        """The number of audit records at the last orderly close, or -1."""
        ...

    def set_closed_at(self, records: int = -1) -> None:
        """Save the number of audit records at closing; -1: open."""
        ...

    def raise_to(self, meter: Meter, second: int, counted: Counted) -> bool:
        """Raise a client's usage to this; return whether it was less.

        Call it only while no process counts.
        """
        ...

    def newest_day(self) -> int:
        """Return the newest day of any client; 0 without usage."""
        ...

    def damaged(self) -> dict[int, bytes]:
        """Return the bytes of damaged records by client id.

        A record that is being written is among them, but not twice with the same bytes.
        """
        ...

    def restore(self, meter: Meter, second: int, counted: Counted) -> None:
        """Replace a damaged record by the usage up to a second."""
        ...
