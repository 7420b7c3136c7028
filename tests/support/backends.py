"""The backends of stores: an embedded store and a cluster. Tests that run on every store do not know which it is."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from secrets import token_hex
from typing import Any, NamedTuple, Protocol

import pytest

from retinue.access.cassandra import CassandraAccess
from retinue.model import Row
from retinue.quota.cassandra import CassandraQuotaCounters
from retinue.quota.file_counters import FileQuotaCounters
from retinue.store.cassandra import keyspace as cluster
from retinue.store.cassandra.check import CassandraChecker
from retinue.store.cassandra.engine import CassandraEngine
from retinue.store.cassandra.graph import CassandraGraph, open_scan
from retinue.store.cassandra.location import parse
from retinue.store.cassandra.retry import Backoff
from retinue.store.cassandra.session import Session, TransientFailure
from retinue.store.open import OpenAccess, OpenGraph, OpenQuotas, OpenWriter, open_store
from retinue.store.reading.scan import GraphScan
from retinue.store.sqlite.engine import SqliteEngine
from retinue.store.writer import EngineGraphWriter
from support.frozen_clock import FrozenClock
from support.service import problems_of
from support.thorough import examples

# The limit in seconds of a test on a node of Cassandra, which it may have to fetch and start.
CLUSTER_SECONDS = 900
_MAX_TRIES = 100
_PAUSE_SECONDS = 0.1
CLUSTER = pytest.param("cluster", marks=(pytest.mark.timeout(CLUSTER_SECONDS), pytest.mark.cluster))


class Backend(Protocol):
    """An empty store, which may be opened several times."""

    def open_writer(self, clock: FrozenClock) -> OpenWriter:
        """The graph, for writing."""
        ...

    def open_graph(self, clock: FrozenClock) -> OpenGraph[Row]:
        """The graph, for reading."""
        ...

    def open_whole(self) -> GraphScan:
        """The graph, for reading from one end to the other."""
        ...

    def open_access(self) -> OpenAccess:
        """Clients and tokens."""
        ...

    def open_counters(self) -> OpenQuotas:
        """The counters of quotas."""
        ...

    def problems(self) -> list[str]:
        """Return the problems that `check` finds."""
        ...

    def close(self) -> None:
        """Remove it."""
        ...


class BackendFactory(NamedTuple):
    """Makes empty stores; `pace` is the speed of one beside the fastest."""

    make: Callable[[], Backend]
    pace: float = 1.0

    def __call__(self) -> Backend:
        """An empty store; of a cluster there is one at a time."""
        return self.make()

    def times(self, count: int) -> int:
        """Return as many examples as take the time that so many take with the quickest."""
        return max(1, round(self.pace * examples(count)))


class FolderBackend:
    """An embedded store in a folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._path = str(Path(self._folder.name) / "graph.db")
        open_store(self._path).create()

    def open_writer(self, clock: FrozenClock) -> OpenWriter:
        """The graph, for writing."""
        return open_store(self._path).writer(clock)

    def open_graph(self, clock: FrozenClock) -> OpenGraph[Row]:
        """The graph, for reading."""
        return open_store(self._path).graph(clock)

    def open_whole(self) -> GraphScan:
        """The graph, for reading from one end to the other."""
        return open_store(self._path).scan()

    def open_engine(self) -> SqliteEngine:
        """The rows themselves."""
        return SqliteEngine(Path(self._path), Path(self._path).with_suffix(".rows"))

    def open_access(self) -> OpenAccess:
        """Clients and tokens."""
        return open_store(self._path).access()

    def open_counters(self) -> OpenQuotas:
        """The counters of quotas."""
        return open_store(self._path).quotas()

    def problems(self) -> list[str]:
        """Return the problems that `check` finds."""
        return problems_of(self._path)

    def close(self) -> None:
        """Remove the folder."""
        self._folder.cleanup()


class Lent(Session):
    """The connections of another session, which the borrower cannot close; asked again if a node is overloaded.

    A server refuses a page then with a 503, and the client asks again.
    """

    def __init__(self, session: Session) -> None:
        self.__dict__ = session.__dict__

    async def fetch(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """Run one short read."""
        for _ in range(_MAX_TRIES - 1):
            with suppress(TransientFailure):
                return await super().fetch(query, values)
            await asyncio.sleep(_PAUSE_SECONDS)
        return await super().fetch(query, values)

    def close(self) -> None:
        """The lender does that."""


class Keyspace:
    """One keyspace for all tests, emptied between them: to make tables takes seconds. Its connections are lent."""

    def __init__(self, location: str) -> None:
        self.location = location
        cluster.create(parse(location), replication=1)
        self.session = cluster.open_session(parse(location))
        self._tables = [statement.split()[5] for statement in cluster.statements() if "EXISTS store (" not in statement]

    def empty(self) -> None:
        """Remove all rows."""
        with ThreadPoolExecutor(len(self._tables)) as pool:
            list(pool.map(self.session.run_as_is, (f"TRUNCATE {table}" for table in self._tables)))
        cluster.begin(self.session)

    def close(self) -> None:
        """Close the connections."""
        self.session.close()


def backoff_on(clock: FrozenClock) -> Backoff:
    """Delays that pass on the test's clock alone."""
    return Backoff(clock.elapsed, lambda _: clock.advance(1), lambda: 0.5)


def writer_on(session: Session, clock: FrozenClock, chance: float = 0.5) -> EngineGraphWriter:
    """Return a writer. With chance 0 it looks after each change whether a list is to be divided."""
    return EngineGraphWriter(CassandraEngine(session, token_hex(8), backoff_on(clock), lambda: chance), clock)


class KeyspaceBackend:
    """A store in a cluster."""

    def __init__(self, keyspace: Keyspace) -> None:
        keyspace.empty()
        self._session = Lent(keyspace.session)
        self._folder = tempfile.TemporaryDirectory()

    def open_writer(self, clock: FrozenClock) -> OpenWriter:
        """The graph, for writing."""
        return writer_on(self._session, clock)

    def open_graph(self, clock: FrozenClock) -> OpenGraph[Row]:
        """The graph, for reading."""
        return CassandraGraph(self._session, clock, Row)

    def open_whole(self) -> GraphScan:
        """The graph, for reading from one end to the other."""
        return open_scan(self._session)

    def open_access(self) -> OpenAccess:
        """Clients and tokens."""
        return CassandraAccess(self._session, "here")

    def open_counters(self) -> OpenQuotas:
        """The counters of quotas, of one machine."""
        return CassandraQuotaCounters(FileQuotaCounters(Path(self._folder.name) / "quotas"), self._session, "here")

    def problems(self) -> list[str]:
        """Return the problems that `check` finds; it waits for an overloaded node."""
        checking = Backoff(time.monotonic, time.sleep, lambda: 0.5)

        async def examine() -> list[str]:
            return [problem async for problem in CassandraChecker(self._session, checking).problems()]

        return asyncio.run(examine())

    def close(self) -> None:
        """Remove the machine's own file; the next store empties the keyspace."""
        self._folder.cleanup()


def backend_factory(kind: str, request: pytest.FixtureRequest) -> BackendFactory:
    """Return a factory of empty stores of a kind."""
    if kind == "folder":
        return BackendFactory(FolderBackend)
    keyspace: Keyspace = request.getfixturevalue("keyspace")
    return BackendFactory(lambda: KeyspaceBackend(keyspace), 0.05)
