"""Sums over audit records, for metrics and for `retinue audit usage`."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from retinue.audit.record import AuditRecord

# Upper bounds of the histogram, in microseconds.
BUCKETS = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000)

_OK = 200
_DAY_SECONDS = 86_400


class _CountedFields(Struct, gc=False):
    # Decoding only these fields takes half the time.
    endpoint: str
    code: str
    microseconds: int
    rows: int = 0
    statements: int = 0


_decode = msgspec.json.Decoder(_CountedFields).decode


class RequestCounters:
    """Requests, rows and durations by endpoint since the start of this process."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str]] = Counter()
        self.rows: Counter[str] = Counter()
        self.statements = 0
        self.microseconds: Counter[str] = Counter()
        self.durations: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(BUCKETS) + 1))

    def add(self, records: Iterable[bytes]) -> None:
        """Count records, as JSON."""
        for encoded in records:
            record = _decode(encoded)
            endpoint = record.endpoint
            self.requests[endpoint, record.code] += 1
            self.microseconds[endpoint] += record.microseconds
            self.durations[endpoint][bisect_left(BUCKETS, record.microseconds)] += 1
            self.statements += record.statements
            if record.rows:
                self.rows[endpoint] += record.rows


class DailyUsage(Struct):
    """The requests of a client on a day (UTC). `client` is empty if unauthenticated or lost."""

    day: str
    client: str
    requests: int = 0
    answered: int = 0
    rows: int = 0
    lost: int = 0


def usage_of(records: Iterable[AuditRecord]) -> list[DailyUsage]:
    """Return the usage by day and client, without management requests."""
    usages: dict[tuple[int, str], DailyUsage] = {}
    for record in records:
        if record.action:
            continue
        day = record.time // _DAY_SECONDS
        usage = usages.get((day, record.client))
        if usage is None:
            date = f"{datetime.fromtimestamp(record.time, UTC):%Y-%m-%d}"
            usage = usages[day, record.client] = DailyUsage(date, record.client)
        if record.lost:
            usage.lost += record.lost
            continue
        usage.requests += record.stands_for
        usage.answered += record.status == _OK
        usage.rows += record.rows
    return [usages[key] for key in sorted(usages)]
