"""The metrics page: exact sums in the units that its names announce."""

import socket

import msgspec
import pytest
from msgspec.structs import replace

from retinue.audit.record import AuditRecord
from retinue.audit.space import LogSpace
from retinue.audit.usage import RequestCounters
from retinue.web.metrics import Measures, metrics_page
from support.both_paths import ASGI, FAST, PLAIN, read_response, request
from support.frozen_clock import TickingClock
from support.service import Service

SPACE = LogSpace(3_000, 4_000, 7_000, 9_000)


@pytest.fixture
def clock() -> TickingClock:
    """A clock of which each look takes nearly a millisecond, a power of two of a second."""
    return TickingClock(2**-10)


def record(endpoint: str, code: str, microseconds: int, rows: int = 0, statements: int = 0) -> bytes:
    """Return an audit record as the counters get it."""
    return msgspec.json.encode(
        AuditRecord(
            time=1_700_000_000,
            log_id="id",
            endpoint=endpoint,
            status=200,
            code=code,
            microseconds=microseconds,
            peer="::1",
            rows=rows,
            statements=statements,
        )
    )


def samples(tally: RequestCounters, measures: Measures) -> dict[str, float]:
    """The page, sample by sample."""
    lines = metrics_page(tally, lambda: measures)().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


def test_the_page_has_the_exact_sums_in_seconds_and_bytes() -> None:
    """Of requests, rows, statements, refusals and durations; a duration on a bound is within it."""
    tally = RequestCounters()
    tally.add(
        [
            record("following", "ok", 50, rows=100, statements=2),
            record("following", "ok", 51, rows=7, statements=1),
            record("following", "daily_quota_limit_exceeded", 2_500_000),
            record("following", "rate_limit_exceeded", 5_000_001),
            record("info", "ok", 1_000, statements=4),
        ]
    )
    tally.add([record("info", "not_found", 999_999)])

    found = samples(tally, Measures({"graph.db": 4_096, "graph.db-wal": 12}, 30, 17, SPACE, 5, 90_000))

    bounds = {
        "following": [1, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 3, 4],
        "info": [0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2],
    }
    seconds = ["5e-05", "0.0001", "0.00025", "0.0005", "0.001", "0.0025", "0.005"]
    seconds += ["0.01", "0.05", "0.1", "0.5", "1.0", "5.0", "+Inf"]
    assert found == {
        'retinue_requests_total{code="ok",endpoint="following"}': 2,
        'retinue_requests_total{code="daily_quota_limit_exceeded",endpoint="following"}': 1,
        'retinue_requests_total{code="rate_limit_exceeded",endpoint="following"}': 1,
        'retinue_requests_total{code="ok",endpoint="info"}': 1,
        'retinue_requests_total{code="not_found",endpoint="info"}': 1,
        'retinue_quota_refusals_total{code="daily_quota_limit_exceeded",endpoint="following"}': 1,
        'retinue_quota_refusals_total{code="rate_limit_exceeded",endpoint="following"}': 1,
        'retinue_rows_total{endpoint="following"}': 107,
        "retinue_store_statements_total": 7,
        'retinue_request_duration_seconds_count{endpoint="following"}': 4,
        'retinue_request_duration_seconds_sum{endpoint="following"}': pytest.approx(7.500102),
        'retinue_request_duration_seconds_count{endpoint="info"}': 2,
        'retinue_request_duration_seconds_sum{endpoint="info"}': pytest.approx(1.000999),
        'retinue_store_bytes{file="graph.db"}': 4_096,
        'retinue_store_bytes{file="graph.db-wal"}': 12,
        "retinue_audit_records": 17,
        "retinue_apply_lag_seconds": 30,
        "retinue_audit_bytes": 3_000,
        "retinue_audit_max_bytes": 4_000,
        "retinue_audit_disk_free_bytes": 7_000,
        "retinue_audit_refusals_summed_total": 5,
        "retinue_clock_doubted_seconds": 90_000,
    } | {
        f'retinue_request_duration_seconds_bucket{{endpoint="{endpoint}",le="{bound}"}}': count
        for endpoint, counts in bounds.items()
        for bound, count in zip(seconds, counts, strict=True)
    }


def test_the_lag_is_absent_without_events() -> None:
    """A server without events does not claim to be up to date."""
    found = samples(RequestCounters(), Measures({}, None, 0, replace(SPACE, max_bytes=0), 0, 0))

    assert found == {
        "retinue_store_statements_total": 0,
        "retinue_audit_records": 0,
        "retinue_audit_bytes": 3_000,
        "retinue_audit_disk_free_bytes": 7_000,
        "retinue_audit_refusals_summed_total": 0,
        "retinue_clock_doubted_seconds": 0,
    }


@pytest.mark.parametrize("way", [FAST, ASGI])
def test_durations_are_recorded_in_microseconds(service: Service, ports: tuple[int, int], way: int) -> None:
    """On every way to an answer, here of a few looks at the clock: parsed, by a head that is known, or through ASGI."""
    with socket.create_connection(("127.0.0.1", ports[way]), timeout=30) as connection:
        for _ in range(3):
            connection.sendall(request(service.token, PLAIN))
            read_response(connection)

    assert len(service.records) == 3
    for each in service.records:
        assert 976 <= each.microseconds < 50_000
