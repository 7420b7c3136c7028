"""How much a client may ask: the daily quotas of its two pools, and the short-term limit.

A call is charged when its answer is known, in one step with all its rows, and only if both still fit. So a call that
fails costs nothing, nothing has to be given back, a process that is killed loses at most what it had in flight, and
never is more given than a quota allows. Knows no HTTP; the counting itself is the ledger's (`store/base.py`).
"""

from msgspec import Struct

from retinue.clock import Clock
from retinue.errors import QuotaSpent, RateExceeded
from retinue.model import Client, Grant, Pool, Quota, Rate, Used
from retinue.store.base import Ledger, Limits

DAY_SECONDS = 86_400
# Calls for tokens cost no quota, but each is written to disk; no client needs more than one a call.
TOKEN_RATE = Rate(600, 60)

_LISTS = Pool.LISTS


class Allowance(Struct, frozen=True, gc=False):
    """What is left of a day's calls: of how many, how many (None: any number), and in how many seconds they
    are whole again.
    """

    limit: int | None
    remaining: int | None
    reset: int


class Quotas:
    """Lets calls through while there is quota for them."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def admit(self, grant: Grant) -> None:
        """Count a call against the client's short-term limit, if it has one. Raises `RateExceeded`."""
        rate = grant.quota.rate
        if rate is not None:
            wait = self._ledger.admit(grant.meter, self._clock.now(), rate)
            if wait:
                raise RateExceeded(rate.calls, wait)

    def admit_token(self, client: Client) -> None:
        """Count a call of a client for a token. Raises `RateExceeded`."""
        wait = self._ledger.admit(client.meter, self._clock.now(), TOKEN_RATE, for_token=True)
        if wait:
            raise RateExceeded(TOKEN_RATE.calls, wait)

    def rows_left(self, grant: Grant, pool: Pool, wanted: int) -> int:
        """How many of the wanted rows there is quota for, at least one. Raises `QuotaSpent`."""
        now = self._clock.now()
        limits = _limits(grant.quota, pool)
        used = self._ledger.used(grant.meter, now // DAY_SECONDS)
        rows = wanted if limits.rows is None else min(wanted, limits.rows - used.list_rows)
        if rows <= 0 or (limits.calls is not None and _calls(used, pool) >= limits.calls):
            left = 0 if limits.calls is None else max(0, limits.calls - _calls(used, pool))
            raise QuotaSpent(limits.calls, left, DAY_SECONDS - now % DAY_SECONDS)
        return rows

    def charge(self, grant: Grant, pool: Pool, rows: int) -> Allowance | None:
        """Count one call and its rows; what is left now. None, and nothing is counted, where they do not fit."""
        now = self._clock.now()
        limits = _limits(grant.quota, pool)
        used = self._ledger.charge(grant.meter, now // DAY_SECONDS, pool, rows, limits)
        if used is None:
            return None
        left = None if limits.calls is None else limits.calls - _calls(used, pool)
        return Allowance(limits.calls, left, DAY_SECONDS - now % DAY_SECONDS)

    def used_today(self, client: Client) -> Used:
        """What a client has used since 00:00 UTC."""
        return self._ledger.used(client.meter, self._clock.now() // DAY_SECONDS)


def _limits(quota: Quota, pool: Pool) -> Limits:
    return Limits(quota.list_calls, quota.list_rows) if pool is _LISTS else Limits(quota.other_calls)


def _calls(used: Used, pool: Pool) -> int:
    return used.list_calls if pool is _LISTS else used.other_calls
