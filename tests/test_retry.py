"""Statements of a writer in a cluster are retried while its lease lasts."""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest
from cassandra import InvalidRequest, OperationTimedOut, ReadTimeout, Unavailable, WriteFailure, WriteTimeout
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.policies import ExponentialReconnectionPolicy, RoundRobinPolicy
from cassandra.protocol import OverloadedErrorMessage
from hypothesis import given
from hypothesis import strategies as st

from retinue.errors import StoreUnavailable
from retinue.model import AccountRecord, ErasureEvent
from retinue.store.cassandra.check import CassandraChecker
from retinue.store.cassandra.lease import LEASE_SECONDS
from retinue.store.cassandra.retry import MAX_DELAY_SECONDS, PATIENCE_SECONDS, Backoff
from retinue.store.cassandra.session import TransientFailure
from retinue.store.contract import Verdict
from support.backends import Lent, writer_on
from support.clusters import NOW, ClusterStore, run
from support.frozen_clock import FrozenClock

Errors = Sequence[Callable[[], Exception]]
TRANSIENT: Errors = [
    lambda: WriteTimeout("the node is slow", write_type=0),
    lambda: WriteFailure("a replica failed", write_type=0),
    lambda: ReadTimeout("the node is slow"),
    OperationTimedOut,
    lambda: Unavailable("too few replicas"),
    lambda: NoHostAvailable("no node", {}),
    lambda: ConnectionShutdown("the connection was closed"),
    lambda: OverloadedErrorMessage(0x1001, "overloaded", None),
]
# Whether a statement fails at its n-th attempt (from 0), and whether that is before or after the node has run it.
Fails = Callable[[str, int], bool]


@dataclass(frozen=True)
class Failed:
    """The result of a statement that failed."""

    error: Exception

    def result(self) -> Any:
        """Raise the error."""
        raise self.error


@dataclass
class FaultyDriver:
    """The driver's session, with faults between it and us. `sent` has the text of each statement that nodes ran."""

    driver: Any
    errors: Iterator[Callable[[], Exception]]
    fails: Fails
    is_run_first: bool
    attempts: dict[str, int] = field(default_factory=dict)
    sent: list[str] = field(default_factory=list)

    def execute(self, statement: Any, **options: Any) -> Any:
        """Run a statement, unless it fails."""
        return self.execute_async(statement, **options).result()

    def execute_async(self, statement: Any, **options: Any) -> Any:
        """Start a statement, unless it fails."""
        text = text_of(statement)
        attempt = self.attempts.get(text, 0)
        self.attempts[text] = attempt + 1
        is_failure = self.fails(text, attempt)
        if is_failure and not self.is_run_first:
            return Failed(next(self.errors)())
        self.sent.append(text)
        future = self.driver.execute_async(statement, **options)
        if is_failure:
            future.result()
            return Failed(next(self.errors)())
        return future

    def prepare(self, query: str) -> Any:
        """Prepare a statement."""
        return self.driver.prepare(query)


def text_of(statement: Any) -> str:
    """Return all that makes a statement or batch differ from others."""
    if hasattr(statement, "prepared_statement"):
        return f"{statement.prepared_statement.query_string} {statement.values}"
    return str(statement._statements_and_parameters)


@contextmanager
def faults(
    cluster_store: ClusterStore, errors: Sequence[Callable[[], Exception]], fails: Fails, *, is_run_first: bool
) -> Iterator[FaultyDriver]:
    """Give a store a new writer, whose statements fail with these errors in turn."""
    sound, session = cluster_store.writer, Lent(cluster_store.session)
    driver = FaultyDriver(session._session, cycle(errors), fails, is_run_first)
    session.__dict__ = {**session.__dict__, "_session": driver}
    cluster_store.writer = writer_on(session, cluster_store.clock)
    try:
        yield driver
    finally:
        cluster_store.writer = sound


def is_plain_write(text: str) -> bool:
    """Return whether a statement is a write, or a batch of them, but no lightweight transaction."""
    return text.startswith(("[", "INSERT", "DELETE")) and " IF " not in text


def every_other(text: str, attempt: int) -> bool:
    """Let statements fail at their first, third, fifth ... attempt; reads of whole tables are not repeated."""
    return attempt % 2 == 0 and "token(" not in text


def first_only(text: str, attempt: int) -> bool:
    """Let the first attempt of each statement fail; reads of whole tables are not repeated."""
    return attempt == 0 and "token(" not in text


def test_failed_reads_of_a_check_are_repeated(cluster_store: ClusterStore) -> None:
    """An overloaded node is not a broken invariant, and does not end the check."""
    cluster_store.follow(("a", "b", 100), ("a", "c", 200))
    session = Lent(cluster_store.session)
    driver = FaultyDriver(session._session, cycle(TRANSIENT), first_only, is_run_first=False)
    session.__dict__ = {**session.__dict__, "_session": driver}

    backoff = Backoff(time.monotonic, lambda _: None, lambda: 0.0)

    async def problems() -> list[str]:
        return [problem async for problem in CassandraChecker(session, backoff).problems()]

    assert [] == run(problems())
    assert max(driver.attempts.values()) >= 2


@pytest.mark.parametrize("is_run_first", [False, True], ids=["lost", "stored"])
def test_failed_statements_of_a_writer_are_repeated(
    cluster_store: ClusterStore, small_parts: None, is_run_first: bool
) -> None:
    """Follows, unfollows, renames and erasure are stored once, although each statement fails every other time."""
    with faults(cluster_store, TRANSIENT, every_other, is_run_first=is_run_first) as faulty:
        followed = cluster_store.follow(*(("a", f"f{n}", 1_000 + n) for n in range(40)), ("f3", "a", 5_000))
        ended = cluster_store.unfollow(("a", "f0"), ("a", "f7"))
        renamed = run(cluster_store.writer.add_accounts([AccountRecord("f5", display_name="Five")], NOW))
        erased = run(cluster_store.writer.apply([ErasureEvent("f9", NOW)], NOW))
        run(cluster_store.writer.compact())

    assert {Verdict.ACCEPTED} == {*followed, *ended, *erased}
    assert [Verdict.UPDATED] == renamed
    assert [f"f{n}" for n in range(39, -1, -1) if n not in {0, 7, 9}] == cluster_store.walked("a", 7)
    assert ["a"] == cluster_store.walked("f3", 7)
    assert cluster_store.backend.problems() == []
    assert all(count >= 2 for text, count in faulty.attempts.items() if "token(" not in text)


def test_a_lease_taken_without_response_is_ours(cluster_store: ClusterStore) -> None:
    """The repeated transaction names us as the holder; nothing waits for the lease to end by itself."""

    def fails(text: str, attempt: int) -> bool:
        return "IF holder = NULL" in text and attempt == 0

    with faults(cluster_store, [OperationTimedOut], fails, is_run_first=True) as faulty:
        assert [Verdict.ACCEPTED] == cluster_store.follow(("a", "b", 100))

    assert [2] == [count for text, count in faulty.attempts.items() if "IF holder = NULL" in text]
    assert any("USING TTL" in text and "IF holder = ?" in text for text in faulty.sent)  # for its full time


@pytest.mark.parametrize("is_run_first", [False, True], ids=["lost", "stored"])
def test_nothing_is_written_after_the_lease_may_have_ended(cluster_store: ClusterStore, is_run_first: bool) -> None:
    """If all writes and renewals fail, the writer gives up before its lease ends by its own clock."""
    cluster_store.follow(("a", "b", 100))
    began = cluster_store.clock.elapsed()
    written: list[float] = []

    def fails(text: str, _attempt: int) -> bool:
        if is_plain_write(text):
            written.append(cluster_store.clock.elapsed() - began)
        return is_plain_write(text) or "IF holder = ?" in text

    with faults(cluster_store, [OperationTimedOut], fails, is_run_first=is_run_first):
        with pytest.raises(StoreUnavailable, match="the lease for writing was not renewed in time"):
            cluster_store.follow(("a", "c", 100))

    assert len(written) > 1
    assert max(written) < LEASE_SECONDS
    cluster_store.expire_lease()
    assert len(cluster_store.follow(("a", "c", 100))) == 1
    assert ["b", "c"] == cluster_store.walked("a", 7)
    assert cluster_store.backend.problems() == []


def test_a_writer_gives_up_if_another_one_has_taken_over(cluster_store: ClusterStore) -> None:
    """Between two attempts it renews its lease; if that is refused it repeats nothing."""
    attempts = []

    def fails(text: str, _attempt: int) -> bool:
        if not is_plain_write(text):
            return False
        attempts.append(text)
        cluster_store.clock.advance(LEASE_SECONDS)
        cluster_store.session.compare_and_set("UPDATE commits SET holder = 'another' WHERE name = 'graph' IF EXISTS")
        return True

    with faults(cluster_store, [OperationTimedOut], fails, is_run_first=False):
        with pytest.raises(StoreUnavailable, match="another writer has taken over"):
            cluster_store.follow(("a", "b", 100))

    assert [1] == [attempts.count(text) for text in set(attempts)]


def test_permanent_failures_are_not_retried(cluster_store: ClusterStore) -> None:
    """A statement that nodes refuse fails at its first attempt."""
    with faults(
        cluster_store, [lambda: InvalidRequest("no")], lambda text, _: is_plain_write(text), is_run_first=False
    ) as faulty:
        with pytest.raises(StoreUnavailable, match="InvalidRequest: no") as failure:
            cluster_store.follow(("a", "b", 100))

    assert not isinstance(failure.value, TransientFailure)
    assert [1] == [count for text, count in faulty.attempts.items() if is_plain_write(text)]


@given(st.integers(0, 40), st.lists(st.floats(0, 1), min_size=200, max_size=200), st.floats(0, PATIENCE_SECONDS))
def test_retries_end_at_the_deadline(failures: int, jitter: list[float], seconds: float) -> None:
    """For every number of failures: a success is returned, or the last failure is raised within the time."""
    clock, chance, attempts = FrozenClock(), iter(jitter), 0
    began = clock.elapsed()
    pauses: list[float] = []

    def pause(delay: float) -> None:
        pauses.append(delay)
        clock.advance(delay)

    def attempt() -> int:
        nonlocal attempts
        attempts += 1
        if attempts <= failures:
            raise TransientFailure(f"attempt {attempts}")
        return attempts

    backoff = Backoff(clock.elapsed, pause, lambda: next(chance))
    try:
        assert failures + 1 == backoff.repeat(attempt, seconds)
    except TransientFailure as failure:
        assert f"attempt {attempts}" == failure.detail
        assert clock.elapsed() - began + MAX_DELAY_SECONDS >= seconds
    assert clock.elapsed() - began <= seconds
    assert attempts == len(pauses) + 1
    assert all(0 < delay <= MAX_DELAY_SECONDS for delay in pauses)


def test_threads_of_the_driver_leave_the_random_module_alone() -> None:
    """In tests, where others draw meanwhile."""
    before = random.getstate()
    RoundRobinPolicy().populate(None, ["one", "two", "three"])
    assert next(ExponentialReconnectionPolicy(1, 2).new_schedule())
    assert random.getstate() == before
