"""Counters of what clients used, for several machines that serve one keyspace.

Each machine counts in its own file, which its processes share, and spends only what it was granted in the keyspace.
When that is spent it is granted another block, while the quota allows it, by a lightweight transaction on the one row
with the grants of all machines. So never more is given out than the quota, and a machine that is gone for
good takes with it at most the block that it had not used up.

The short-term limit and the one of calls for tokens count each machine by itself, in its file.
"""

from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage
from retinue.quota.counters import Counted, QuotaStatus
from retinue.quota.file_counters import FileQuotaCounters
from retinue.quota.node_quota import (
    NOTHING,
    Amounts,
    NodeQuota,
    amounts_of,
    asked_of,
    is_limited,
    node_quota_of,
    total,
)
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.statements import Row

_GRANTED = "SELECT granted FROM quota WHERE client = ? AND since = ? AND day = ?"
_GRANT = "UPDATE quota SET granted = ? WHERE client = ? AND since = ? AND day = ? IF granted = ?"


class CassandraQuotaCounters:
    """The `QuotaCounters` of one machine. `node` names the machine and its file.

    Statements block. All methods but `admit` raise `StoreUnavailable` if the keyspace cannot be reached and is needed:
    for the first call of a day, and when the grant is spent.
    """

    def __init__(self, file: FileQuotaCounters, session: Session, node: str) -> None:
        self._file = file
        self._session = session
        self._node = node
        self._node_quotas: dict[int, NodeQuota] = {}  # by the client's number

    def usage(self, quota_key: QuotaKey, second: int) -> Usage:
        """Return the usage here on a second's day, with what other machines were granted: they may have used it."""
        granted = self._granted(quota_key, self._file.day(quota_key, second))
        granted[self._node] = amounts_of(self._file.usage(quota_key, second))
        return Usage(*total(granted.values()))

    def remaining(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """Return how many of the wanted rows there is quota for; 0 if there is none for a call."""
        if is_limited(quota, pool):
            quota = self._node_quota(quota_key, second, quota).ceiling
        return self._file.remaining(quota_key, second, pool, quota, wanted)

    def status(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota) -> QuotaStatus:
        """Return the status of a quota for this machine, without what others were granted."""
        if not is_limited(quota, pool):
            return self._file.status(quota_key, second, pool, quota)
        node_quota = self._node_quota(quota_key, second, quota)
        return node_quota.shown(self._file.status(quota_key, second, pool, node_quota.ceiling), pool)

    def charge(self, quota_key: QuotaKey, second: int, pool: Pool, rows: int, quota: Quota) -> QuotaStatus | None:
        """Count one answer and its rows, if that passes no limit."""
        if not is_limited(quota, pool):
            return self._file.charge(quota_key, second, pool, rows, quota)
        node_quota = self._node_quota(quota_key, second, quota)
        left = self._file.charge(quota_key, second, pool, rows, node_quota.held)
        if left is None:
            return self._charge_more(node_quota, second, pool, rows)
        return node_quota.shown(left, pool, node_quota.spare)

    def admit(self, quota_key: QuotaKey, second: int, rate: RateLimit) -> int:
        """Count a call for a token: 0, or in how many seconds it is worth trying again."""
        return self._file.admit(quota_key, second, rate)

    @property
    def is_recounted(self) -> bool:
        """Whether all that was counted here before the file was made has been restored."""
        return self._file.is_recounted

    @property
    def is_removed(self) -> bool:
        """Whether the file was removed while it is open."""
        return self._file.is_removed

    def set_recounted(self) -> None:
        """Note that all that was counted here before the file was made has been restored."""
        self._file.set_recounted()

    @property
    def closed_at(self) -> int:
        """How many records the audit log had when these counters were closed in order; -1 if they were not."""
        return self._file.closed_at

    def set_closed_at(self, records: int = -1) -> None:
        """Note with how many records of the audit log the counters are closed, or that they are open."""
        self._file.set_closed_at(records)

    def newest_day(self) -> int:
        """Return the newest day of any client here."""
        return self._file.newest_day()

    def damaged(self) -> dict[int, bytes]:
        """Return the damaged records by the number of their client."""
        return self._file.damaged()

    def restore(self, quota_key: QuotaKey, second: int, counted: Counted) -> None:
        """Set a record to what was counted here up to a second of its day."""
        self._file.restore(quota_key, second, counted)

    def raise_to(self, quota_key: QuotaKey, second: int, counted: Counted) -> bool:
        """Restore what was counted here on a second's day if the client's record has less."""
        return self._file.raise_to(quota_key, second, counted)

    def settle(self) -> None:
        """Make what was counted here survive a power loss."""
        self._file.settle()

    def statements_sent(self) -> int:
        """Return the number of statements sent to the cluster."""
        return self._session.statements_sent()

    def close(self) -> None:
        """Give the file back and close all connections."""
        self._file.close()
        self._session.close()

    def _charge_more(self, node_quota: NodeQuota, second: int, pool: Pool, rows: int) -> QuotaStatus | None:
        """Count more than was granted. Another process may use up a new grant first, hence the loop."""
        quota_key, asked = node_quota.quota_key, asked_of(pool, rows)
        while node_quota.fits(self._file.usage(quota_key, second), asked):
            if self._file.status(quota_key, second, pool, node_quota.ceiling).wait:
                return None
            node_quota = self._grown(node_quota, second, asked)
            left = self._file.charge(quota_key, second, pool, rows, node_quota.held)
            if left is not None:
                return node_quota.shown(left, pool, node_quota.spare)
        return None

    # --- the keyspace -----------------------------------------------------------------------------------------------

    def _node_quota(self, quota_key: QuotaKey, second: int, quota: Quota) -> NodeQuota:
        """Return this machine's node quota, cached or from the keyspace."""
        node_quota, day = self._node_quotas.get(quota_key.id), self._file.day(quota_key, second)
        if node_quota is not None and node_quota.is_of(quota_key, day, quota):
            return node_quota
        return self._grown(node_quota_of(quota_key, day, quota, {}, self._node), second, NOTHING)

    def _grown(self, node_quota: NodeQuota, second: int, asked: Amounts) -> NodeQuota:
        """Return the stored node quota, with a larger grant if what is asked needs it and fits."""
        quota_key, day = node_quota.quota_key, node_quota.day
        granted = self._granted(quota_key, day)
        while True:
            node_quota = node_quota_of(quota_key, day, node_quota.quota, granted, self._node)
            wanted = node_quota.stretched(self._file.usage(quota_key, second), asked)
            if wanted == node_quota.own:
                self._node_quotas[quota_key.id] = node_quota
                return node_quota
            granted = self._exchange(quota_key, day, granted, dict(granted) | {self._node: wanted})

    def _exchange(
        self, quota_key: QuotaKey, day: int, before: dict[str, Amounts], after: dict[str, Amounts]
    ) -> dict[str, Amounts]:
        """Replace the known grants; return the grants that are stored then, by whatever machine."""
        ordered = dict(sorted(after.items()))
        values = (ordered, quota_key.id, quota_key.since, day, before or None)
        is_done, found = self._session.compare_and_set(_GRANT, values)
        return ordered if is_done else _read(found)

    def _granted(self, quota_key: QuotaKey, day: int) -> dict[str, Amounts]:
        """Return the grants of each machine on a day."""
        rows = self._session.rows(_GRANTED, (quota_key.id, quota_key.since, day))
        return _read(rows[0]) if rows else {}


def _read(row: Row) -> dict[str, Amounts]:
    """Return the grants in a row; none if there is no row."""
    return dict(row[0].items()) if row and row[0] else {}
