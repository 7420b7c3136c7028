"""Quota counters of one of several machines that serve a keyspace.

A machine counts in its file and spends only what it was granted. One row for each client and day has the grants of all
machines, which never exceed the quota. A lost machine takes at most its unused grant with it. Each machine counts rate
limits by itself.
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
    """The `QuotaCounters` of one machine. `node` names the machine.

    A day's first call, and one that needs a larger grant, wait for the keyspace.
    """

    def __init__(self, file: FileQuotaCounters, session: Session, node: str) -> None:
        self._file = file
        self._session = session
        self._node = node
        self._node_quotas: dict[int, NodeQuota] = {}  # by the client's number

    def usage(self, quota_key: QuotaKey, second: int) -> Usage:
        granted = self._granted(quota_key, self._file.day(quota_key, second))
        granted[self._node] = amounts_of(self._file.usage(quota_key, second))
        return Usage(*total(granted.values()))

    def remaining(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        if is_limited(quota, pool):
            quota = self._node_quota(quota_key, second, quota).ceiling
        return self._file.remaining(quota_key, second, pool, quota, wanted)

    def status(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota) -> QuotaStatus:
        if not is_limited(quota, pool):
            return self._file.status(quota_key, second, pool, quota)
        node_quota = self._node_quota(quota_key, second, quota)
        return node_quota.status_of(self._file.status(quota_key, second, pool, node_quota.ceiling), pool)

    def charge(self, quota_key: QuotaKey, second: int, pool: Pool, rows: int, quota: Quota) -> QuotaStatus | None:
        if not is_limited(quota, pool):
            return self._file.charge(quota_key, second, pool, rows, quota)
        node_quota = self._node_quota(quota_key, second, quota)
        left = self._file.charge(quota_key, second, pool, rows, node_quota.held)
        if left is None:
            return self._charge_more(node_quota, second, pool, rows)
        return node_quota.status_of(left, pool, node_quota.spare)

    def admit(self, quota_key: QuotaKey, second: int, rate: RateLimit) -> int:
        return self._file.admit(quota_key, second, rate)

    @property
    def is_recounted(self) -> bool:
        return self._file.is_recounted

    @property
    def is_removed(self) -> bool:
        return self._file.is_removed

    def set_recounted(self) -> None:
        self._file.set_recounted()

    @property
    def closed_at(self) -> int:
        return self._file.closed_at

    def set_closed_at(self, records: int = -1) -> None:
        self._file.set_closed_at(records)

    def newest_day(self) -> int:
        return self._file.newest_day()

    def damaged(self) -> dict[int, bytes]:
        return self._file.damaged()

    def restore(self, quota_key: QuotaKey, second: int, counted: Counted) -> None:
        self._file.restore(quota_key, second, counted)

    def raise_to(self, quota_key: QuotaKey, second: int, counted: Counted) -> bool:
        return self._file.raise_to(quota_key, second, counted)

    def settle(self) -> None:
        self._file.settle()

    def statements_sent(self) -> int:
        return self._session.statements_sent()

    def close(self) -> None:
        self._file.close()
        self._session.close()

    def _charge_more(self, node_quota: NodeQuota, second: int, pool: Pool, rows: int) -> QuotaStatus | None:
        """Count more than was granted. Other processes may use up a new grant first."""
        quota_key, asked = node_quota.quota_key, asked_of(pool, rows)
        while node_quota.fits(self._file.usage(quota_key, second), asked):
            if self._file.status(quota_key, second, pool, node_quota.ceiling).wait:
                return None
            node_quota = self._grown(node_quota, second, asked)
            left = self._file.charge(quota_key, second, pool, rows, node_quota.held)
            if left is not None:
                return node_quota.status_of(left, pool, node_quota.spare)
        return None

    # --- the keyspace -----------------------------------------------------------------------------------------------

    def _node_quota(self, quota_key: QuotaKey, second: int, quota: Quota) -> NodeQuota:
        node_quota, day = self._node_quotas.get(quota_key.id), self._file.day(quota_key, second)
        if node_quota is not None and node_quota.is_of(quota_key, day, quota):
            return node_quota
        return self._grown(node_quota_of(quota_key, day, quota, {}, self._node), second, NOTHING)

    def _grown(self, node_quota: NodeQuota, second: int, asked: Amounts) -> NodeQuota:
        """Return the stored node quota, with a larger grant if needed."""
        quota_key, day = node_quota.quota_key, node_quota.day
        granted = self._granted(quota_key, day)
        while True:
            node_quota = node_quota_of(quota_key, day, node_quota.quota, granted, self._node)
            wanted = node_quota.needed_grant(self._file.usage(quota_key, second), asked)
            if wanted == node_quota.own:
                self._node_quotas[quota_key.id] = node_quota
                return node_quota
            granted = self._exchange(quota_key, day, granted, dict(granted) | {self._node: wanted})

    def _exchange(
        self, quota_key: QuotaKey, day: int, before: dict[str, Amounts], after: dict[str, Amounts]
    ) -> dict[str, Amounts]:
        """Replace known grants; return the stored ones."""
        ordered = dict(sorted(after.items()))
        values = (ordered, quota_key.id, quota_key.since, day, before or None)
        is_done, found = self._session.compare_and_set(_GRANT, values)
        return ordered if is_done else _read(found)

    def _granted(self, quota_key: QuotaKey, day: int) -> dict[str, Amounts]:
        rows = self._session.rows(_GRANTED, (quota_key.id, quota_key.since, day))
        return _read(rows[0]) if rows else {}


def _read(row: Row) -> dict[str, Amounts]:
    """Return the grants in a row, which may be empty."""
    return dict(row[0].items()) if row and row[0] else {}
