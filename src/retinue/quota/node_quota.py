"""The part of a daily quota that a machine may spend. Pure.

Amounts are list calls, list rows and other calls. A grant is never taken back on its day.
"""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage
from retinue.quota.counters import QuotaStatus

Amounts = tuple[int, int, int]

NOTHING: Amounts = (0, 0, 0)
# A grant is this part of the ungranted rest: few grants a day, and little is lost with a machine.
_PARTS = 16


class NodeQuota(Struct, frozen=True):
    """A machine's grants on a day. `own` is its part.

    It may spend `held` without asking. `ceiling`, which never rises, is the most it can be granted, and `spare` the
    difference.
    """

    quota_key: QuotaKey
    day: int
    quota: Quota
    own: Amounts
    held: Quota
    ceiling: Quota
    spare: Amounts

    def is_of(self, quota_key: QuotaKey, day: int, quota: Quota) -> bool:
        """Return whether it belongs to these."""
        return self.quota_key == quota_key and self.day == day and self.quota == quota

    def fits(self, used: Usage, asked: Amounts) -> bool:
        """Return whether more can be granted."""
        columns = zip(amounts_of(used), asked, _limits(self.ceiling), strict=True)
        return all(most is None or before + more <= most for before, more, most in columns)

    def needed_grant(self, used: Usage, asked: Amounts) -> Amounts:
        """Return the grant that allows what is asked, if that fits."""
        if not self.fits(used, asked):
            asked = NOTHING
        columns = zip(self.own, amounts_of(used), asked, _limits(self.ceiling), strict=True)
        calls, rows, others = (_needed(*column) for column in columns)
        return calls, rows, others

    def status_of(self, left: QuotaStatus, pool: Pool, spare: Amounts = NOTHING) -> QuotaStatus:
        """Return the status of the quota, given that of the ceiling."""
        is_list = pool is Pool.LISTS
        calls, rows = (spare[0], spare[1]) if is_list else (spare[2], 0)
        return QuotaStatus(
            self.quota.list_calls if is_list else self.quota.other_calls,
            None if left.calls is None else left.calls + calls,
            None if left.rows is None else left.rows + rows,
            left.reset,
            left.wait,
        )


def node_quota_of(quota_key: QuotaKey, day: int, quota: Quota, granted: Mapping[str, Amounts], node: str) -> NodeQuota:
    """Return a machine's node quota, given all machines' grants."""
    own = granted.get(node, NOTHING)
    others = total(amounts for name, amounts in granted.items() if name != node)
    ceiling = [None if limit is None else limit - taken for limit, taken in zip(_limits(quota), others, strict=True)]
    held = [None if most is None else min(mine, most) for mine, most in zip(own, ceiling, strict=True)]
    calls, rows, other_calls = (
        0 if most is None or now is None else most - now for most, now in zip(ceiling, held, strict=True)
    )
    return NodeQuota(
        *(quota_key, day, quota, own, _quota(held, quota.rate), _quota(ceiling, quota.rate)),
        spare=(calls, rows, other_calls),
    )


def is_limited(quota: Quota, pool: Pool) -> bool:
    """Return whether a pool has a daily limit."""
    if pool is Pool.LISTS:
        return quota.list_calls is not None or quota.list_rows is not None
    return quota.other_calls is not None


def asked_of(pool: Pool, rows: int) -> Amounts:
    """Return the amounts of a response."""
    return (1, rows, 0) if pool is Pool.LISTS else (0, 0, 1)


def amounts_of(used: Usage) -> Amounts:
    """Return used amounts."""
    return used.list_calls, used.list_rows, used.other_calls


def total(many: Iterable[Amounts]) -> Amounts:
    """Return a sum."""
    calls, rows, others = map(sum, zip(NOTHING, *many, strict=True))
    return calls, rows, others


def _limits(quota: Quota) -> tuple[int | None, int | None, int | None]:
    return quota.list_calls, quota.list_rows, quota.other_calls


def _needed(own: int, used: int, asked: int, most: int | None) -> int:
    if most is None:
        return own
    needed = used + asked
    if not asked or needed <= own:
        return max(own, used)
    return needed + (most - needed) // _PARTS


def _quota(limits: Sequence[int | None], rate: RateLimit | None) -> Quota:
    list_calls, list_rows, other_calls = limits
    return Quota(list_calls, list_rows, other_calls, rate)
