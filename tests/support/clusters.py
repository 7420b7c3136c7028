"""A store on the node of Cassandra that the tests share."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any, TypeVar

import cassandra.cluster
import cassandra.policies
import pytest

from retinue.errors import StoreUnavailable
from retinue.model import Direction, FollowEvent, FollowRecord, PageRequest, Row
from retinue.store.cassandra import parts
from retinue.store.cassandra.graph import CassandraGraph
from retinue.store.cassandra.parts import PartDirectory
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.source import CassandraSource
from retinue.store.cassandra.statements import Statement
from retinue.store.contract import Decision, Verdict
from retinue.store.layout.tables import TABLES
from retinue.store.writer import EngineGraphWriter
from support.backends import Keyspace, KeyspaceBackend, Lent, writer_on
from support.frozen_clock import FrozenClock

T = TypeVar("T")
NOW = 1_700_000_000


@pytest.fixture(scope="session", autouse=True)
def random_numbers_of_the_driver() -> Iterator[None]:
    """Hypothesis refuses to draw while a thread of the driver changes the state of the `random` module."""
    own = Random()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cassandra.cluster, "random", own.random)
        patch.setattr(cassandra.policies, "randint", own.randint)
        patch.setattr(cassandra.policies, "shuffle", own.shuffle)
        yield


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a store's method."""
    return asyncio.run(coroutine)


class Watched(Lent):
    """A session that calls a function before each write, one after the other."""

    _before_each: Callable[[], None]

    def __init__(self, session: Session, before_each: Callable[[], None]) -> None:
        self.__dict__ = {**session.__dict__, "_before_each": before_each}

    def write_batches(
        self, batches: Iterable[list[Statement]], before_each: Callable[[], object] = lambda: None
    ) -> None:
        """Run batches of writes."""
        for batch in batches:
            self._before_each()
            super().write_batches([batch], before_each)

    def compare_and_set(self, query: str, values: Sequence[Any] = ()) -> tuple[bool, Any]:
        """Run a lightweight transaction."""
        self._before_each()
        return super().compare_and_set(query, values)


class Stop:
    """Does something once before the write with a number, from 0."""

    def __init__(self, number: int, action: Callable[[], None]) -> None:
        self._number = number
        self._action = action
        self.count = 0

    def __call__(self) -> None:
        """Count a write."""
        self.count += 1
        if self.count == self._number + 1:
            with ThreadPoolExecutor(1) as pool:  # a thread may have its own event loop
                pool.submit(self._action).result()


class Kill(Stop):
    """Ends a writer before the write with a number: it sends nothing any more."""

    def __init__(self, number: int) -> None:
        super().__init__(number, lambda: None)

    def __call__(self) -> None:
        """Count a write."""
        super().__call__()
        if self.count > self._number:
            raise StoreUnavailable("killed")


class ClusterStore:
    """An empty store in the cluster with a writer and a reader."""

    def __init__(self, keyspace: Keyspace, clock: FrozenClock) -> None:
        self._keyspace = keyspace
        self.backend = KeyspaceBackend(keyspace)
        self.session: Session = Lent(keyspace.session)
        self.clock = clock
        self.writer = writer_on(self.session, clock)
        self.graph = CassandraGraph(self.session, clock, Row)

    def empty(self) -> None:
        """Remove all rows, and read with an empty cache."""
        self._keyspace.empty()
        self.graph = CassandraGraph(self.session, self.clock, Row)

    def writer_with(self, before_each: Callable[[], None], chance: float = 0.5) -> EngineGraphWriter:
        """Return another writer, which calls a function before each write."""
        return writer_on(Watched(self.session, before_each), self.clock, chance)

    def expire_lease(self) -> None:
        """Let the time of the lease be over."""
        self.session.compare_and_set("UPDATE commits SET holder = NULL WHERE name = 'graph' IF EXISTS")

    def stored(self) -> dict[str, dict[Any, bytes]]:
        """Return all rows of the graph."""
        source = self.source()
        return {table.name: dict(source.all_rows(table)) for table in TABLES}

    def source(self) -> CassandraSource:
        """Return a reader of all rows as they are now."""
        directory = PartDirectory()
        directory.load(self.session)
        return CassandraSource(self.session, directory)

    def follow(self, *follows: tuple[str, str, int]) -> list[Verdict]:
        """Store follows."""
        return run(self.writer.add_follows([FollowRecord(a, b, at, NOW) for a, b, at in follows]))

    def unfollow(self, *pairs: tuple[str, str]) -> list[Decision]:
        """Apply unfollows at the present second."""
        return run(self.writer.apply([FollowEvent(a, b, NOW, is_follow=False) for a, b in pairs], NOW))

    def id(self, name: str) -> int:
        """Return the id of an account."""
        account = run(self.graph.find_account(name))
        assert account is not None
        return account.id

    def walked(self, name: str, limit: int) -> list[str]:
        """Return all names of a following list, in pages of a size."""
        found: list[str] = []
        request = PageRequest(self.id(name), Direction.FOLLOWING, NOW, limit)
        while True:
            page = run(self.graph.read(request))
            found += [row.username for row in page.rows]
            if not page.has_more:
                return found
            request = PageRequest(request.account_id, request.direction, page.oldest - 1, limit)


@pytest.fixture
def cluster_store(keyspace: Keyspace, clock: FrozenClock) -> Iterator[ClusterStore]:
    """An empty store."""
    cluster_store = ClusterStore(keyspace, clock)
    yield cluster_store
    cluster_store.backend.close()


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists are divided early."""
    monkeypatch.setattr(parts, "MAX_ROWS", 6)
    monkeypatch.setattr(parts, "KEPT_ROWS", 3)
