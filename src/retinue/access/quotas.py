"""How much a client may ask: the daily quotas of its two pools, and the short-term limit.

A call is charged when its answer is known, in one step with all its rows, and only if everything fits. So a call that
fails costs nothing, nothing has to be given back, a process that is killed loses at most what it had in flight, and
never is more given than a quota allows. Knows no HTTP; the counting itself is the ledger's (`store/contract.py`).
"""

from retinue.clock import Clock
from retinue.errors import QuotaSpent, RateExceeded
from retinue.model import Client, Grant, Pool, Rate, Used
from retinue.store.quota_counters import Allowance, Ledger

# Calls for tokens cost no quota, but each is written to disk; no client needs more than one a call.
TOKEN_RATE = Rate(600, 60)


class Quotas:
    """Lets calls through while there is quota for them."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    def rows_left(self, grant: Grant, pool: Pool, wanted: int) -> int:
        """How many of the wanted rows there is quota for, at least one. Raises `RateExceeded` or `QuotaSpent`."""
        now = self._clock.now()
        rows = self._ledger.room(grant.meter, now, pool, grant.quota, wanted)
        if rows:
            return rows
        left = self._ledger.left(grant.meter, now, pool, grant.quota)
        if left.wait:
            raise RateExceeded(None if grant.quota.rate is None else grant.quota.rate.calls, left.wait)
        raise QuotaSpent(left.limit, max(0, left.calls or 0), left.reset)

    def charge(self, grant: Grant, pool: Pool, rows: int) -> Allowance | None:
        """Count one call and its rows; what is left now. None, and nothing is counted, where they do not fit."""
        return self._ledger.charge(grant.meter, self._clock.now(), pool, rows, grant.quota)

    def admit_token(self, client: Client) -> None:
        """Count a call of a client for a token. Raises `RateExceeded`."""
        wait = self._ledger.admit(client.meter, self._clock.now(), TOKEN_RATE)
        if wait:
            raise RateExceeded(TOKEN_RATE.calls, wait)

    def used_today(self, client: Client) -> Used:
        """What a client has used since 00:00 UTC."""
        return self._ledger.used(client.meter, self._clock.now())
