"""The contract of quota counters and their recovery."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage

DAY_SECONDS = 86_400


class QuotaStatus(Struct, frozen=True, gc=False):
    """The remaining quota of a client in a pool. None: unlimited.

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

    used: Usage
    answers: Mapping[int, int]
    tokens: Mapping[int, int]


class QuotaCounters(Protocol):
    """The usage of each client, shared by all processes of a server.

    Counts of a killed process stay. A day (UTC) starts at zero and never twice: if the clock is set back, counting goes
    on with the newest day. The rate limit slides over the preceding seconds. Damaged counters raise `StoreUnavailable`.
    """

    def usage(self, quota_key: QuotaKey, second: int) -> Usage:
        """Return the usage on a second's day."""
        ...

    def remaining(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """Return how many of `wanted` rows the quota allows; 0 without calls. Count nothing."""
        ...

    def status(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota) -> QuotaStatus:
        """Return the status of a quota."""
        ...

    def charge(self, quota_key: QuotaKey, second: int, pool: Pool, rows: int, quota: Quota) -> QuotaStatus | None:
        """Count an answer and its rows; return the new status. None: over a limit, not counted."""
        ...

    def admit(self, quota_key: QuotaKey, second: int, rate: RateLimit) -> int:
        """Count a token call: return 0, or the seconds to wait."""
        ...


class Restoring(Protocol):
    """Quota counters that can be recovered from the audit log."""

    @property
    def is_recounted(self) -> bool:
        """Whether all earlier usage has been recovered."""
        ...

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed while it is open."""
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

    def raise_to(self, quota_key: QuotaKey, second: int, counted: Counted) -> bool:
        """Raise a day's usage to what was counted. Return whether it was less.

        No process may count meanwhile.
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

    def restore(self, quota_key: QuotaKey, second: int, counted: Counted) -> None:
        """Set a record to what was counted up to a second. No process may write it."""
        ...
