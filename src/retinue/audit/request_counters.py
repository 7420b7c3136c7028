"""Sums over audit records, for metrics: requests, rows and durations by endpoint. They begin anew with a process."""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable

import msgspec
from msgspec import Struct

# Upper bounds of the histogram, in microseconds.
BUCKETS = (50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 100_000, 500_000, 1_000_000, 5_000_000)


class _Counted(Struct, gc=False):
    """What is counted of a record; reading no more of it takes half the time."""

    endpoint: str
    code: str
    microseconds: int
    rows: int = 0
    statements: int = 0


_decode = msgspec.json.Decoder(_Counted).decode


class RequestCounters:
    """What all requests since the start of this process add up to."""

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
