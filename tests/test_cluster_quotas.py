"""Quotas of several machines that serve one keyspace: together they give what one would, and never more."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import cycle
from pathlib import Path
from secrets import randbelow
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from retinue.errors import StoreUnavailable
from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage
from retinue.quota.cassandra import CassandraQuotaCounters
from retinue.quota.counters import DAY_SECONDS
from retinue.quota.file_counters import FileQuotaCounters
from retinue.store.cassandra import location
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.statements import Row
from support.thorough import examples

NODES = ("ape", "bee", "cat")
WORKERS = 2
NOW = 20_000 * DAY_SECONDS + 100
PAGE = 9
LISTS, OTHERS = Pool.LISTS, Pool.OTHERS
UNLIMITED = Quota(None, None, None)


class Line(Session):
    """A connection that can be cut: before anything is done, or when it is done, before the answer arrives."""

    is_cut = False
    is_deaf = False

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """A read."""
        if self.is_cut:
            raise StoreUnavailable("cut")
        return super().rows(query, values)

    def compare_and_set(self, query: str, values: Sequence[Any] = ()) -> tuple[bool, Row]:
        """A lightweight transaction."""
        if self.is_cut:
            raise StoreUnavailable("cut")
        answer = super().compare_and_set(query, values)
        if self.is_deaf:
            raise StoreUnavailable("no answer")
        return answer


class Machine:
    """Some processes on one file. They come and go; what they counted stays."""

    def __init__(self, folder: Path, line: Line, node: str) -> None:
        self._line = line
        self._node = node
        self._files = [FileQuotaCounters(folder / f"{node}.quotas") for _ in range(WORKERS)]
        self.workers = [CassandraQuotaCounters(file, line, node) for file in self._files]

    def restart(self, worker: int) -> None:
        """Another process takes a process's place, and knows nothing."""
        self.workers[worker] = CassandraQuotaCounters(self._files[worker], self._line, self._node)

    def usage(self, quota_key: QuotaKey) -> Usage:
        """Return the use counted here."""
        return self._files[0].usage(quota_key, NOW)

    def close(self) -> None:
        """Give the file back."""
        for file in self._files:
            file.close()


@pytest.fixture
def line(cassandra_keyspace: str) -> Iterator[Line]:
    """A connection to the keyspace."""
    with closing(Line(location.parse(cassandra_keyspace))) as line:
        line.enter()
        yield line


@pytest.fixture
def machines(tmp_path: Path, line: Line) -> Iterator[list[Machine]]:
    """Machines that have nothing in common but the keyspace."""
    machines = [Machine(tmp_path, line, node) for node in NODES]
    yield machines
    for machine in machines:
        machine.close()


def fresh() -> QuotaKey:
    """A client of whom nothing was counted yet, wherever."""
    return QuotaKey(1 + randbelow(50), randbelow(2**60))


def take(
    counters: CassandraQuotaCounters, quota_key: QuotaKey, quota: Quota, wanted: int = 1, pool: Pool = LISTS
) -> int:
    """One answer with as many of the wanted rows as there may be; how many, 0 where it is refused."""
    while rows := counters.remaining(quota_key, NOW, pool, quota, wanted):
        if counters.charge(quota_key, NOW, pool, rows, quota) is not None:
            return rows
    return 0


def exhaust(
    machines: Sequence[Machine], quota_key: QuotaKey, quota: Quota, wanted: int = 1, pool: Pool = LISTS
) -> None:
    """Ask all in turn until all refuse."""
    asked = [worker for machine in machines for worker in machine.workers]
    while asked:
        asked = [worker for worker in asked if take(worker, quota_key, quota, wanted, pool)]


def used_by(machines: Sequence[Machine], quota_key: QuotaKey) -> Usage:
    """Return the use counted on all machines together."""
    each = [machine.usage(quota_key) for machine in machines]
    return Usage(*(sum(getattr(used, kind) for used in each) for kind in Usage.__struct_fields__))


LIMITS: dict[str, Callable[[int], tuple[Quota, Pool, Callable[[Usage], int]]]] = {
    "list_calls": lambda most: (Quota(most, None), LISTS, lambda used: used.list_calls),
    "list_rows": lambda most: (Quota(None, most), LISTS, lambda used: used.list_rows),
    "other_calls": lambda most: (Quota(other_calls=most), OTHERS, lambda used: used.other_calls),
}
ASKED = st.tuples(st.integers(0, len(NODES) - 1), st.integers(0, WORKERS - 1), st.integers(1, PAGE), st.booleans())


@pytest.mark.parametrize("kind", LIMITS)
def test_all_machines_together_grant_exactly_a_quota(machines: list[Machine], kind: str) -> None:
    """Processes that come and go never grant more than the quota, and grant all of it in the end."""

    @settings(max_examples=examples(30))
    @given(most=st.one_of(st.integers(0, 60), st.integers(0, 2000)), steps=st.lists(ASKED, max_size=40))
    def story(most: int, steps: list[tuple[int, int, int, bool]]) -> None:
        quota, pool, counted = LIMITS[kind](most)
        quota_key, page = fresh(), PAGE if most < 100 else 300
        for number, worker, wanted, is_new in steps:
            if is_new:
                machines[number].restart(worker)
            take(machines[number].workers[worker], quota_key, quota, wanted * page // PAGE, pool)
            assert counted(used_by(machines, quota_key)) <= most
        exhaust(machines, quota_key, quota, page, pool)
        assert most == counted(used_by(machines, quota_key))

    story()


@pytest.mark.parametrize("kind", LIMITS)
def test_a_dead_machine_loses_at_most_one_block(machines: list[Machine], kind: str) -> None:
    """A block is what was wanted and a sixteenth of what was left; the others give all the rest."""

    @settings(max_examples=examples(20))
    @given(most=st.integers(0, 1000), before=st.integers(0, 40), wanted=st.integers(1, 50))
    def story(most: int, before: int, wanted: int) -> None:
        quota, pool, counted = LIMITS[kind](most)
        quota_key = fresh()
        for machine, _ in zip(cycle(machines), range(before), strict=False):
            take(machine.workers[0], quota_key, quota, wanted, pool)
        exhaust(machines[1:], quota_key, quota, wanted, pool)
        lost = most - counted(used_by(machines, quota_key))
        assert 0 <= lost <= wanted + most // 16

    story()


@pytest.mark.parametrize("quota", [Quota(200, None), Quota(None, 1500), Quota(130, 1100), Quota(300, 1100)])
def test_one_machine_grants_exactly_a_quota(machines: list[Machine], quota: Quota) -> None:
    """Of calls or of rows, whichever is spent first, and nothing of it is out of reach."""
    quota_key = fresh()
    exhaust(machines[:1], quota_key, quota, PAGE)

    used = machines[0].usage(quota_key)
    assert quota.list_calls == used.list_calls or quota.list_rows == used.list_rows
    assert quota.list_calls is None or used.list_calls <= quota.list_calls
    assert quota.list_rows is None or used.list_rows <= quota.list_rows


@pytest.mark.parametrize("kind", LIMITS)
def test_all_processes_may_ask_at_once(machines: list[Machine], kind: str) -> None:
    """Grants are exchanged, never overwritten."""
    quota, pool, counted = LIMITS[kind](500)
    quota_key = fresh()
    workers = [worker for machine in machines for worker in machine.workers]

    def ask_all(worker: CassandraQuotaCounters) -> int:
        calls = 0
        while take(worker, quota_key, quota, 3, pool):
            calls += 1
        return calls

    with ThreadPoolExecutor(len(workers)) as threads:
        calls = sum(threads.map(ask_all, workers))

    used = used_by(machines, quota_key)
    assert 500 == counted(used)
    assert calls == used.list_calls + used.other_calls


def test_the_remaining_quota_excludes_grants_of_others(machines: list[Machine]) -> None:
    """Limit and rows are the client's own; what others hold is counted as used."""
    ape, bee = machines[0].workers[0], machines[1].workers[0]
    quota_key, quota = fresh(), Quota(100, 1000, 7)
    left = ape.charge(quota_key, NOW, LISTS, 40, quota)
    assert left is not None
    assert (100, 99, 960) == (left.limit, left.calls, left.rows)
    assert left == ape.status(quota_key, NOW, LISTS, quota)
    assert Usage(1, 40) == ape.usage(quota_key, NOW)

    left = bee.status(quota_key, NOW, LISTS, quota)
    assert (100, 100 - 1 - 99 // 16, 1000 - 40 - 960 // 16) == (left.limit, left.calls, left.rows)
    assert Usage(1 + 99 // 16, 40 + 960 // 16) == bee.usage(quota_key, NOW)
    assert (7, 7) == ((left := bee.status(quota_key, NOW, OTHERS, quota)).limit, left.calls)
    assert 900 == bee.remaining(quota_key, NOW, LISTS, quota, 2000)
    assert bee.charge(quota_key, NOW, LISTS, 901, quota) is None
    left = bee.charge(quota_key, NOW, LISTS, 900, quota)
    assert left is not None
    assert (92, 0) == (left.calls, left.rows)
    assert ape.charge(quota_key, NOW, LISTS, 60, quota) is not None
    assert [0, 0] == [take(worker, quota_key, quota) for worker in (ape, bee)]


def test_a_quota_may_change_during_the_day(machines: list[Machine]) -> None:
    """Lowered under what was granted, it refuses; raised, it gives exactly what has come to it."""
    quota_key = fresh()
    exhaust(machines, quota_key, Quota(40, None))
    for quota in (Quota(30, None), Quota(40, None), Quota(0, None)):
        exhaust(machines, quota_key, quota)
        assert 40 == used_by(machines, quota_key).list_calls
    exhaust(machines, quota_key, Quota(70, None))
    assert 70 == used_by(machines, quota_key).list_calls
    exhaust(machines, quota_key, Quota(70, 100), wanted=5)
    exhaust(machines, quota_key, Quota(None, 100), wanted=5)
    assert 100 == used_by(machines, quota_key).list_rows


def test_a_quota_lowered_below_its_use_refuses(machines: list[Machine]) -> None:
    """A machine's grant of a larger quota counts only as far as other grants leave room in the smaller one."""
    quota_key, lowered = fresh(), Quota(100, None)
    for machine in machines:
        take(machine.workers[0], quota_key, Quota(1000, None))
    for machine in machines:
        assert machine.workers[0].charge(quota_key, NOW, LISTS, 1, lowered) is None
        assert machine.workers[1].charge(quota_key, NOW, LISTS, 1, lowered) is None

    assert Usage(3, 3) == used_by(machines, quota_key)


def test_use_without_a_limit_counts_after_a_limit_is_set(machines: list[Machine]) -> None:
    """As soon as a machine is asked it says what it has given out."""
    quota_key, limited = fresh(), Quota(10, None)
    for number, calls in enumerate((6, 3)):
        for _ in range(calls):
            assert 1 == take(machines[number].workers[0], quota_key, UNLIMITED)
    for machine in machines[:2]:
        machine.workers[1].remaining(quota_key, NOW, LISTS, limited, 1)
    exhaust(machines, quota_key, limited)

    assert 10 == used_by(machines, quota_key).list_calls


def test_each_day_starts_a_new_quota(machines: list[Machine]) -> None:
    """And a clock that is put back over midnight gives nothing twice."""
    ape, bee = machines[0].workers[0], machines[1].workers[0]
    quota_key, quota = fresh(), Quota(other_calls=3)
    for day, first, second in ((0, ape, bee), (1, bee, ape)):
        now = NOW + day * DAY_SECONDS
        answers = [first.charge(quota_key, now, OTHERS, 1, quota) for _ in range(4)]
        assert [2, 1, 0] == [left.calls for left in answers if left is not None]
        assert second.charge(quota_key, now, OTHERS, 1, quota) is None

    assert [None, None] == [worker.charge(quota_key, NOW, OTHERS, 1, quota) for worker in (ape, bee)]


def test_the_short_term_limit_is_each_machines_own(machines: list[Machine]) -> None:
    """It asks nothing of the keyspace, nor does a refusal count."""
    quota_key, quota = fresh(), Quota(10, None, rate=RateLimit(2, 60))
    for worker in (machines[0].workers[0], machines[1].workers[0]):
        assert [1, 1, 0] == [take(worker, quota_key, quota) for _ in range(3)]
        assert worker.charge(quota_key, NOW, LISTS, 1, quota) is None
        assert worker.status(quota_key, NOW, LISTS, quota).wait
        assert [0, 0, 60] == [worker.admit(quota_key, NOW, RateLimit(2, 60)) for _ in range(3)]
    assert 4 == used_by(machines, quota_key).list_calls


def test_the_keyspace_is_not_queried_without_a_limit(machines: list[Machine], line: Line) -> None:
    """Neither is a pool without a limit."""
    line.is_cut = True
    worker, quota_key = machines[0].workers[0], fresh()
    assert PAGE == take(worker, quota_key, UNLIMITED, PAGE)
    assert PAGE == take(worker, quota_key, Quota(None, None, 5), PAGE)
    assert 1 == take(worker, quota_key, Quota(5, 5, None), 1, OTHERS)
    assert (None, None) == ((left := worker.status(quota_key, NOW, LISTS, UNLIMITED)).calls, left.rows)


def test_an_unreachable_keyspace_grants_nothing(machines: list[Machine], line: Line) -> None:
    """Out of reach of the keyspace, a machine gives what it holds; then it says so, and fails never open."""
    worker, quota, quota_key = machines[0].workers[0], Quota(64, None), fresh()
    assert 1 == take(worker, quota_key, quota)
    line.is_cut = True
    for _ in range(63 // 16):
        assert 1 == take(worker, quota_key, quota)
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            take(worker, quota_key, quota)
    with pytest.raises(StoreUnavailable):
        take(machines[1].workers[0], quota_key, quota)
    with pytest.raises(StoreUnavailable):
        worker.usage(quota_key, NOW)
    line.is_cut = False
    exhaust(machines, quota_key, quota)

    assert 64 == used_by(machines, quota_key).list_calls


def test_an_unacknowledged_grant_is_not_lost(machines: list[Machine], line: Line) -> None:
    """It stands in the keyspace under the machine's name, and is found there."""
    quota, quota_key = Quota(200, None), fresh()
    for _ in range(5):
        line.is_deaf = True
        with pytest.raises(StoreUnavailable):
            exhaust(machines[:1], quota_key, quota)
        line.is_deaf = False
        assert 1 == take(machines[0].workers[0], quota_key, quota)
    exhaust(machines[:1], quota_key, quota)

    assert 200 == machines[0].usage(quota_key).list_calls
