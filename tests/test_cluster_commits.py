"""Groups of writes in a cluster: whole or not at all, whatever ends or stops their writer, and whenever."""

import random
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from retinue.errors import StoreUnavailable
from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    PageRequest,
    Row,
    Visibility,
)
from retinue.store.cassandra.graph import CassandraGraph
from retinue.store.contract import GraphReader, GraphWriter
from retinue.store.layout import blocks, columns, entries
from retinue.store.open import open_store
from support.clusters import NOW, ClusterStore, Kill, Stop, run
from support.frozen_clock import FrozenClock
from support.thorough import examples

# In blocks of four entries, and parts of a few blocks.
FIRST: list[Event] = [FollowEvent("a", f"f{number}", 1_000 + 10 * number) for number in range(40)]
GROUP: list[Event] = [
    *(FollowEvent("a", f"f{number}", NOW, is_follow=False) for number in range(8, 20)),
    *(FollowEvent("a", f"g{number}", 1_005 + 10 * number) for number in range(12)),
    FollowEvent("g3", "a", 2_000),
    AccountEvent(AccountRecord(key="f30", visibility=Visibility.PRIVATE), NOW),
    ErasureEvent("f31", NOW),
]
LATER: list[Event] = [
    *(FollowEvent("a", f"f{number}", NOW, is_follow=False) for number in range(16, 30)),
    *(FollowEvent("a", f"h{number}", 1_003 + 10 * number) for number in range(20)),
    AccountEvent(AccountRecord(key="f30", visibility=Visibility.PUBLIC), NOW + 1),
]


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch, small_parts: None) -> Iterator[None]:
    """Lists are split and divided early."""
    for module in (blocks, entries, columns):
        monkeypatch.setattr(module, "CAPACITY", 4)
    monkeypatch.setattr(entries, "_SPARSE", 2)
    monkeypatch.setattr(entries, "_MERGED", 3)
    return iter([None])


def work(writer: GraphWriter, events: list[Event]) -> None:
    """Apply events, and do what they leave to be done."""
    run(writer.apply(events, NOW + 1))
    while run(writer.run_maintenance()):
        pass


KILLS = examples(20)
FEW = [f"f{number}" for number in range(12)]
NAMES = ["a", *(f"{letter}{number}" for letter in "fgh" for number in range(40))]


def shown(store: ClusterStore) -> dict[str, Any]:
    """Return what readers see."""
    store.clock.advance(1)
    found: dict[str, Any] = {}
    for name in NAMES:
        if account := run(store.graph.find_account(name)):
            requests = [
                PageRequest(account.id, direction, NOW, 100, as_of)
                for direction in Direction
                for as_of in (None, NOW - 1)
            ]
            lists = [[row.username for row in run(store.graph.read(request)).rows] for request in requests]
            found[name] = account.visibility, run(store.graph.profile(account.id)), lists
    return found


def statements_of(store: ClusterStore) -> tuple[int, dict[str, Any]]:
    """Return how many statements the group takes, and what a reader sees when all was done without a break."""
    work(store.writer_with(lambda: None, 0), FIRST)
    counter = Stop(-1, lambda: None)
    work(store.writer_with(counter, 0), GROUP)
    work(store.writer_with(lambda: None, 0), LATER)
    return counter.count, shown(store)


def again(store: ClusterStore) -> None:
    """Empty the store, and store the first events."""
    store.empty()
    work(store.writer_with(lambda: None, 0), FIRST)


def test_a_killed_writer_loses_nothing_that_it_acknowledged(cluster_store: ClusterStore, chance: random.Random) -> None:
    """Before any of its statements: what was committed is finished by the next writer, the rest never happened."""
    count, expected = statements_of(cluster_store)
    for number in chance.sample(range(count), examples(count)):
        again(cluster_store)
        with suppress(StoreUnavailable):
            work(cluster_store.writer_with(Kill(number), 0), GROUP)
        cluster_store.expire_lease()
        work(cluster_store.writer_with(lambda: None, 0), GROUP)  # its source sends it again
        assert [] == cluster_store.backend.problems(), number
        work(cluster_store.writer_with(lambda: None, 0), LATER)
        assert expected == shown(cluster_store), number
        assert [] == cluster_store.backend.problems(), number


def random_events(chance: random.Random) -> list[Event]:
    """Return a batch of events of a few accounts."""
    events: list[Event] = []
    for _ in range(chance.randrange(1, 40)):
        key, other = chance.sample(FEW, 2)
        if chance.random() < 0.1:
            visibility, name = chance.choice(list(Visibility)), str(chance.random())
            events.append(AccountEvent(AccountRecord(key=key, visibility=visibility, display_name=name), NOW))
        else:
            events.append(FollowEvent(key, other, chance.randrange(1_000, 1_100), is_follow=chance.random() < 0.7))
    return events


def test_writers_killed_at_random_lose_nothing(
    cluster_store: ClusterStore, tmp_path: Path, chance: random.Random
) -> None:
    """Each batch is sent until a writer survives; the lists equal those of a store without kills."""
    twin_path = str(tmp_path / "twin.db")
    open_store(twin_path).create()
    twin = open_store(twin_path).writer(cluster_store.clock)
    for _ in range(KILLS):
        events = random_events(chance)
        with suppress(StoreUnavailable):
            work(cluster_store.writer_with(Kill(chance.randrange(1, 12)), 0), events)
        cluster_store.expire_lease()
        work(cluster_store.writer_with(lambda: None, 0), events)
        work(twin, events)
    with closing(open_store(twin_path).graph(cluster_store.clock)) as graph:
        cluster_store.clock.advance(1)
        assert run(walks(graph, FEW)) == run(walks(cluster_store.graph, FEW))
    twin.close()
    assert [] == cluster_store.backend.problems()


@pytest.mark.parametrize("group", [GROUP[:-2], GROUP[-2:-1], GROUP[-1:]], ids=["follows", "visibility", "erasure"])
def test_a_stopped_writer_changes_nothing_when_it_wakes(cluster_store: ClusterStore, group: list[Event]) -> None:
    """Before each of its statements: stopped, succeeded by another one, and woken while its clock has not moved."""
    again(cluster_store)
    counter = Stop(-1, lambda: None)
    run(cluster_store.writer_with(counter, 0).apply(group, NOW + 1))
    for number in range(1, counter.count):  # the first one takes the lease
        again(cluster_store)
        before: dict[str, Any] = {}

        def succeed(before: dict[str, Any] = before) -> None:
            cluster_store.expire_lease()
            work(cluster_store.writer_with(lambda: None, 0), LATER)
            before.update(cluster_store.stored())

        with suppress(StoreUnavailable):
            run(cluster_store.writer_with(Stop(number, succeed), 0).apply(group, NOW + 1))
        assert before == cluster_store.stored(), number
        assert [] == cluster_store.backend.problems(), number


class Seen:
    """The lists that a new reader, and one with a cache, see before each write of a group."""

    def __init__(self, store: ClusterStore) -> None:
        self._session = store.session
        self._clock = FrozenClock(NOW)
        self._graph = CassandraGraph(store.session, self._clock, Row)
        self.walks: list[dict[str, list[str]]] = []

    def __call__(self) -> None:
        """Walk all lists in small pages."""
        with ThreadPoolExecutor(1) as pool:
            for graph in (self._graph, CassandraGraph(self._session, self._clock, Row)):
                self._clock.advance(1)
                self.walks.append(pool.submit(lambda graph=graph: run(walks(graph))).result())  # type: ignore[misc]


async def walks(graph: GraphReader[Row], names: Sequence[str] = ("a", "f3", "f9", "f30", "g3")) -> dict[str, list[str]]:
    """Return all rows of some lists, today's and earlier ones."""
    found: dict[str, list[str]] = {}
    for name in names:
        account = await graph.find_account(name)
        for direction in Direction:
            for as_of in (None, NOW - 1):
                request = PageRequest(account.id if account else 0, direction, NOW, 7, as_of)
                rows = found[f"{name} {direction} {as_of}"] = []
                while account is not None:
                    page = await graph.read(request)
                    rows += [row.username for row in page.rows]
                    if not page.has_more:
                        break
                    request = PageRequest(request.account_id, direction, page.oldest - 1, 7, as_of)
    return found


def test_a_half_written_group_is_readable(cluster_store: ClusterStore) -> None:
    """Before each write, no reader meets damage, and each row that does not change is there exactly once."""
    for group in (GROUP[:-2], GROUP[-2:-1], GROUP[-1:], LATER):
        again(cluster_store)
        if group is LATER:
            work(cluster_store.writer_with(lambda: None, 0), GROUP)
        seen = Seen(cluster_store)
        seen()
        work(cluster_store.writer_with(seen, 0), group)
        seen()
        before, after = seen.walks[0], seen.walks[-1]
        for number, walk in enumerate(seen.walks):
            for name, rows in walk.items():
                assert len(rows) == len(set(rows)), (number, name)
                missing = {*before[name]} & {*after[name]} - {*rows}
                assert not missing, (number, name, missing)
                assert {*rows} <= {*before[name]} | {*after[name]}, (number, name)
