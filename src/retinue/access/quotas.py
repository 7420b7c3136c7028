"""Quotas and rate limits. A call is charged in one step with all rows of its response, if everything fits."""

from retinue.clock import Clock
from retinue.errors import QuotaExceeded, RateLimitExceeded
from retinue.model import Pool, RateLimit, RegisteredClient, TokenGrant, Usage
from retinue.quota.counters import QuotaCounters, QuotaStatus

# Token requests cost no quota, but each is written to disk, and no client needs more than one per call.
TOKEN_RATE = RateLimit(600, 60)


class Quotas:
    """Checks and charges the quotas of clients."""

    def __init__(self, counters: QuotaCounters, clock: Clock) -> None:
        self._counters = counters
        self._clock = clock

    def remaining_rows(self, grant: TokenGrant, pool: Pool, wanted: int) -> int:
        """Return how many of the wanted rows remain. Raises `RateLimitExceeded` or `QuotaExceeded`."""
        now = self._clock.now()
        rows = self._counters.remaining(grant.quota_key, now, pool, grant.quota, wanted)
        if rows:
            return rows
        status = self._counters.status(grant.quota_key, now, pool, grant.quota)
        if status.wait:
            raise RateLimitExceeded(None if grant.quota.rate is None else grant.quota.rate.calls, status.wait)
        raise QuotaExceeded(status.limit, max(0, status.calls or 0), status.reset)

    def charge(self, grant: TokenGrant, pool: Pool, rows: int) -> QuotaStatus | None:
        """Charge a call and its rows. Return None if they do not fit."""
        return self._counters.charge(grant.quota_key, self._clock.now(), pool, rows, grant.quota)

    def admit_token(self, client: RegisteredClient) -> None:
        """Count a token request of a client. Raises `RateLimitExceeded`."""
        wait = self._counters.admit(client.quota_key, self._clock.now(), TOKEN_RATE)
        if wait:
            raise RateLimitExceeded(TOKEN_RATE.calls, wait)

    def usage_today(self, client: RegisteredClient) -> Usage:
        """Return the client's usage since 00:00 UTC."""
        return self._counters.usage(client.quota_key, self._clock.now())
