"""The contract of quota counters and their recovery."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage

DAY_SECONDS = 86_400


class QuotaStatus(Struct, frozen=True, gc=False):
    """The remaining quota of a client in a pool. None: unlimited.

    `calls` of `limit` and `rows` remain until the day ends in `reset` seconds. The rate limit admits the next call in
    `wait` seconds.
    """

    limit: int | None
    calls: int | None
    rows: int | None
    reset: int
    wait: int = 0


class Counted(Struct, frozen=True):
    """A client's usage in the audit log: a day, and the last minute by second."""

    used: Usage
    answers: Mapping[int, int]
    tokens: Mapping[int, int]


class QuotaCounters(Protocol):
    """The usage of each client, shared by all processes of a server.

    Counts of a killed process stay. A UTC day never starts twice: if the clock is set back, the newest day goes on.
    Damaged counters raise `StoreUnavailable`.
    """

    def usage(self, quota_key: QuotaKey, second: int) -> Usage:
        """Return the usage on a second's day."""
        ...

    def remaining(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """Return how many of `wanted` rows the quota allows."""
        ...

    def status(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota) -> QuotaStatus:
        """Return the status of a quota."""
        ...

    def charge(self, quota_key: QuotaKey, second: int, pool: Pool, rows: int, quota: Quota) -> QuotaStatus | None:
        """Count an answer and its rows; return the new status.

        None: over a limit, not counted.
        """
        ...

    def admit(self, quota_key: QuotaKey, second: int, rate: RateLimit) -> int:
        """Count a token call: return 0, or the seconds to wait."""
        ...


class Restoring(Protocol):
    """Quota counters that can be recovered from the audit log."""

    @property
    def is_recounted(self) -> bool:
        """Whether earlier usage was added."""
        ...

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed."""
        ...

    def set_recounted(self) -> None:
        """Note that earlier usage was added."""
        ...

    @property
    def closed_at(self) -> int:
        """The number of audit records at the orderly close, or -1."""
        ...

    def set_closed_at(self, records: int = -1) -> None:
        """Save that number; -1: open."""
        ...

    def raise_to(self, quota_key: QuotaKey, second: int, counted: Counted) -> bool:
        """Raise a day's usage to a count. Return whether it was less.

        No process may count meanwhile.
        """
        ...

    def newest_day(self) -> int:
        """Return the newest day, or 0."""
        ...

    def damaged(self) -> dict[int, bytes]:
        """Return damaged records by client id.

        One that is being written never returns twice with the same bytes.
        """
        ...

    def restore(self, quota_key: QuotaKey, second: int, counted: Counted) -> None:
        """Set a record to counts up to a second. No process may write it."""
        ...
