"""Refusals beyond a rate are summed up, and nothing is lost of their number."""

from collections import Counter

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from retinue.audit.record import AuditRecord
from retinue.audit.refusals import BURST, MAX_ADDRESSES, WINDOW_SECONDS, RefusalSummary, RefusalSums
from support.frozen_clock import FrozenClock

CODES = {200: "ok", 400: "invalid_params", 401: "access_token_invalid", 429: "rate_limit_exceeded", 503: "busy"}
decode = msgspec.json.Decoder(AuditRecord).decode


def encoded(status: int, client: str = "", address: str = "::1", log_id: str = "L", **more: object) -> bytes:
    """A record as it comes from a worker."""
    values = {"time": 1_700_000_000, "log_id": log_id, "endpoint": "following", "status": status, **more}
    values |= {"code": CODES.get(status, "other"), "microseconds": 3, "peer": address, "client": client}
    return msgspec.json.encode(msgspec.convert(values, AuditRecord))


def kind(record: AuditRecord) -> tuple[str, str, int, str]:
    """Return the kind of a refusal in usage and metrics."""
    return record.client, record.endpoint, record.status, record.code


REQUESTS = st.tuples(
    st.sampled_from([200, 400, 401, 429, 503, 500]),
    st.sampled_from(["", "", "a", "b"]),
    st.integers(0, 2 * MAX_ADDRESSES),
    st.integers(1, BURST),
    st.sampled_from([0.0, 0.5, 40.0, 700.0]),
)


@given(st.lists(REQUESTS, max_size=10))
def test_summaries_keep_all_counts(asked: list[tuple[int, str, int, int, float]]) -> None:
    """For every course of requests, records and sums together are as many of each kind as were made."""
    clock = FrozenClock()
    sums = RefusalSums(clock)
    made: Counter[tuple[str, str, int, str]] = Counter()
    found: Counter[tuple[str, str, int, str]] = Counter()

    def take(summaries: list[RefusalSummary]) -> None:
        for each in summaries:
            found[kind(decode(each.record))] += each.count

    for status, client, address, count, pause in asked:
        records = [encoded(status, client, f"10.0.0.{address}")] * count
        made[kind(decode(records[0]))] += count
        for record in sums.screen(records):
            found[kind(decode(record))] += 1
        clock.advance(pause)
        take(sums.due())
    take(sums.close_window())

    assert made == found
    assert [] == sums.close_window()


def test_a_varying_flood_makes_few_lines() -> None:
    """A day of a thousand refusals a second from ever new addresses: about as many lines as the rate allows."""
    clock = FrozenClock()
    sums, alone, summaries, seconds = RefusalSums(clock), 0, list[RefusalSummary](), 600
    for second in range(seconds):
        batch = [encoded(401, address=f"10.{second % 250}.{each // 250}.{each % 250}") for each in range(1000)]
        alone += len(sums.screen(batch))
        summaries += sums.due()
        clock.advance(1)
    summaries += sums.close_window()

    assert alone == BURST + seconds - 1
    assert len(summaries) <= (MAX_ADDRESSES + 1) * (seconds / WINDOW_SECONDS + 1)
    assert 1000 * seconds == alone + sum(each.count for each in summaries)
    assert sums.total == 1000 * seconds - alone


def test_responses_and_errors_are_never_summarized() -> None:
    """Answered requests, faults of our own, and changes over the management listener stay one record each."""
    sums = RefusalSums(FrozenClock())
    records = [encoded(200, "a"), encoded(500), encoded(200, action="POST /clients")] * (2 * BURST)

    assert records == sums.screen(records)
    guesses = [encoded(401, action="GET /clients")] * (2 * BURST)
    assert BURST == len(sums.screen(guesses))


def test_management_refusals_are_summarized_by_action() -> None:
    """Management refusals have a budget of their own, and rare actions share a summary."""
    sums = RefusalSums(FrozenClock())
    for status in (400, 401, 404, 405, 421, 431, 499, 503):
        sums.screen([encoded(status, action="GET /events")] * BURST)
    assert 7 * BURST == sums.pending
    assert BURST == len(sums.screen([encoded(404)] * (2 * BURST)))

    sums.screen([encoded(404, action=f"GET /{number}") for number in range(1000)])
    actions = [decode(each.record).action for each in sums.close_window()]
    assert "" in actions
    assert len(set(actions)) <= MAX_ADDRESSES + 1


def test_clients_have_separate_record_limits() -> None:
    """Each client, and all callers without one, have a budget of their own, which comes back with time."""
    clock = FrozenClock()
    sums = RefusalSums(clock)
    for client in ("", "a", "b"):
        assert BURST == len(sums.screen([encoded(429, client)] * 10_000))
    clock.advance(100)
    for client in ("", "a", "b"):
        assert 100 == len(sums.screen([encoded(429, client)] * 10_000))


def test_a_summary_describes_its_records() -> None:
    """Count, first and last time and log_id, duration and address; addresses beyond the first share a sum."""
    sums = RefusalSums(FrozenClock())
    sums.screen([encoded(401)] * BURST)
    for time, log_id in enumerate("CABD", start=5):
        sums.screen([encoded(401, address="10.0.0.1", log_id=log_id, time=time)])
    sums.screen([encoded(401, address=f"10.0.1.{number}") for number in range(MAX_ADDRESSES + 10)])

    first, *others = sums.close_window()
    record = decode(first.record)
    assert (4, "A", "D", 5, 8) == (first.count, record.first_log_id, record.log_id, record.since, record.time)
    assert ("10.0.0.1", 12, "following", 401) == (record.peer, record.microseconds, record.endpoint, record.status)
    assert MAX_ADDRESSES == len(others)
    assert ("", 11) == (decode(others[-1].record).peer, others[-1].count)
