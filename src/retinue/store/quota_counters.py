"""The contract of quota counters: how answers are counted, and how lost counters are counted again."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage

DAY_SECONDS = 86_400


class QuotaStatus(Struct, frozen=True, gc=False):
    """What is left of a client's quota in a pool. None: any number.

    Of `limit` calls a day `calls` are left, and of its rows `rows`; in `reset` seconds all are there again. `wait` says
    in how many seconds the short-term limit has room (0: now).
    """

    limit: int | None
    calls: int | None
    rows: int | None
    reset: int
    wait: int = 0


class Counted(Struct, frozen=True):
    """A client's counters as they are counted again: its day, and the calls of the last minute by their second."""

    used: Usage
    answers: Mapping[int, int]
    tokens: Mapping[int, int]


class QuotaCounters(Protocol):
    """What each client used, counted for all processes of a server together. Waits for other processes at most for
    the microseconds of their counting; what a killed process counted stays counted.

    A day that begins (UTC) starts from nothing, and never begins twice: with a clock that was put back, counting goes
    on with the newest day. The short-term limit slides over the seconds before the present one. Counters that are not
    what was written raise `StoreUnavailable`.
    """

    def usage(self, quota_key: QuotaKey, second: int) -> Usage:
        """What was used up to now on a second's day."""
        ...

    def remaining(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """How many of the wanted rows there is quota for; 0 where there is none for a call.

        Counts nothing; a moment later it may be less.
        """
        ...

    def status(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota) -> QuotaStatus:
        """What is left of a quota, in full."""
        ...

    def charge(self, quota_key: QuotaKey, second: int, pool: Pool, rows: int, quota: Quota) -> QuotaStatus | None:
        """Count one answer and its rows; what is left then. None, and nothing is counted, where it passes a limit."""
        ...

    def admit(self, quota_key: QuotaKey, second: int, rate: RateLimit) -> int:
        """Count a call for a token, apart from all others: 0, or in how many seconds it is worth trying again.

        What is not admitted is not counted.
        """
        ...


class Restoring(Protocol):
    """Counters that can be lost or damaged, and counted again from the audit log."""

    @property
    def is_recounted(self) -> bool:
        """Whether all that was counted before they began has been restored."""
        ...

    @property
    def is_removed(self) -> bool:
        """Whether their file was removed while it is open: it goes on counting until it is closed."""
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

    def raise_to(self, quota_key: QuotaKey, second: int, counted: Counted) -> bool:
        """Restore what was counted on a second's day if the client's record has less; returns whether it had.

        Only while no process counts.
        """
        ...

    def newest_day(self) -> int:
        """Return the newest day of any client; 0 if nothing was counted."""
        ...

    def damaged(self) -> dict[int, bytes]:
        """Return the damaged records by the number of their client.

        A record that is just being written is there too, but not twice with the same bytes.
        """
        ...

    def restore(self, quota_key: QuotaKey, second: int, counted: Counted) -> None:
        """Set a record to what was counted up to a second of its day. Only for a record that no process writes."""
        ...
