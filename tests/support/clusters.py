"""A store on the node of Cassandra that the tests share."""

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, TypeVar

import pytest

from retinue.model import Direction, FollowEvent, FollowRecord, PageRequest, Row
from retinue.store.cassandra import partitioning
from retinue.store.cassandra.graph import CassandraGraph
from retinue.store.cassandra.writer import CassandraGraphWriter
from retinue.store.contract import Decision, Verdict
from support.backends import Keyspace, KeyspaceBackend, Lent, backoff_on
from support.frozen_clock import FrozenClock

T = TypeVar("T")
NOW = 1_700_000_000


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Return the result of a store's method."""
    return asyncio.run(coroutine)


class ClusterStore:
    """An empty store in the cluster with a writer and a reader."""

    def __init__(self, keyspace: Keyspace, clock: FrozenClock) -> None:
        self.backend = KeyspaceBackend(keyspace)
        self.session = Lent(keyspace.session)
        self.clock = clock
        self.writer = CassandraGraphWriter(self.session, backoff_on(clock))
        self.graph = CassandraGraph(self.session, clock, Row)

    def follow(self, *follows: tuple[str, str, int]) -> list[Verdict]:
        """Store follows."""
        return run(self.writer.add_follows([FollowRecord(a, b, at, NOW) for a, b, at in follows]))

    def unfollow(self, *pairs: tuple[str, str]) -> list[Decision]:
        """Apply unfollows at the present second."""
        return run(self.writer.apply([FollowEvent(a, b, NOW, is_follow=False) for a, b in pairs], NOW))

    def id(self, name: str) -> int:
        """Return an account's id."""
        account = run(self.graph.find_account(name))
        assert account is not None
        return account.id

    def walked(self, name: str, limit: int) -> list[str]:
        """Return all names of a following list, read in pages of `limit` rows."""
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
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make buckets so small that they are rewritten at once."""
    monkeypatch.setattr(partitioning, "MAX_ROWS", 20)
    monkeypatch.setattr(partitioning, "MAX_REMOVED", 5)
