"""The server's metrics in Prometheus' text format."""

from collections.abc import Callable, Iterator

from msgspec import Struct
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from retinue.audit.space import LogSpace
from retinue.audit.usage import BUCKETS, RequestCounters

_QUOTA_CODES = ("daily_quota_limit_exceeded", "rate_limit_exceeded")


class Measures(Struct, frozen=True):
    """Values of one scrape.

    `apply_lag_seconds` is None before the first event. `doubted_seconds` is how far the clock is ahead of what can be
    confirmed.
    """

    store_bytes: dict[str, int]
    apply_lag_seconds: int | None
    audit_records: int
    audit_space: LogSpace
    summed_refusals: int
    doubted_seconds: int


def metrics_page(counters: RequestCounters, measure: Callable[[], Measures]) -> Callable[[], bytes]:
    """Return a function that renders `/metrics`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Sums(counters, measure))
    return lambda: generate_latest(registry)


class _Sums(Collector):
    """Reads counters that are kept elsewhere, so that counting stays cheap."""

    def __init__(self, counters: RequestCounters, measure: Callable[[], Measures]) -> None:
        self._counters = counters
        self._measure = measure

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._of_requests()
        yield self._durations()
        yield from _of_store(self._measure())

    def _of_requests(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "retinue_requests", "Requests answered, by endpoint and error code.", labels=["endpoint", "code"]
        )
        refusals = CounterMetricFamily(
            "retinue_quota_refusals", "Requests refused for a quota or rate.", labels=["endpoint", "code"]
        )
        for (endpoint, code), count in sorted(self._counters.requests.items()):
            requests.add_metric([endpoint, code], count)
            if code in _QUOTA_CODES:
                refusals.add_metric([endpoint, code], count)
        rows = CounterMetricFamily("retinue_rows", "Rows in answers.", labels=["endpoint"])
        for endpoint, count in sorted(self._counters.rows.items()):
            rows.add_metric([endpoint], count)
        text = "Statements sent to the cluster, if the store is in one, to answer requests."
        statements = CounterMetricFamily("retinue_store_statements", text, value=self._counters.statements)
        yield from (requests, refusals, rows, statements)

    def _durations(self) -> Metric:
        durations = HistogramMetricFamily(
            "retinue_request_duration_seconds", "From a whole request to its answer.", labels=["endpoint"]
        )
        for endpoint, counts in sorted(self._counters.durations.items()):
            buckets: list[tuple[str, float]] = []
            passed = 0
            for bound, count in zip([*BUCKETS, None], counts, strict=True):
                passed += count
                buckets.append(("+Inf" if bound is None else repr(bound / 1e6), float(passed)))
            durations.add_metric([endpoint], buckets, self._counters.microseconds[endpoint] / 1e6)
        return durations


def _of_store(measures: Measures) -> Iterator[Metric]:
    size = GaugeMetricFamily("retinue_store_bytes", "Bytes of each file of the store.", labels=["file"])
    for name, count in sorted(measures.store_bytes.items()):
        size.add_metric([name], count)
    yield size
    yield GaugeMetricFamily("retinue_audit_records", "Records in the audit log.", value=measures.audit_records)
    space = measures.audit_space
    yield GaugeMetricFamily("retinue_audit_bytes", "Bytes of the audit log.", value=space.log_bytes)
    if space.max_bytes:
        yield GaugeMetricFamily("retinue_audit_max_bytes", "Bound of the audit log in bytes.", value=space.max_bytes)
    yield GaugeMetricFamily("retinue_audit_disk_free_bytes", "Bytes free for the audit log.", value=space.free_bytes)
    text = "Refusals that the audit log has in sums, not one by one."
    yield CounterMetricFamily("retinue_audit_refusals_summed", text, value=measures.summed_refusals)
    text = "By how much the clock is ahead of the time that has certainly passed, if by more than a day."
    yield GaugeMetricFamily("retinue_clock_doubted_seconds", text, value=measures.doubted_seconds)
    if measures.apply_lag_seconds is not None:
        text = "How far the latest of the events received last lay behind the time of its receipt."
        yield GaugeMetricFamily("retinue_apply_lag_seconds", text, value=measures.apply_lag_seconds)
