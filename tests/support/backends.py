"""The backends of stores: an embedded store and a cluster. Tests that run on every store do not know which it is."""

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from retinue.model import Row
from retinue.store.file_quota_counters import FileQuotaCounters
from retinue.store.open import OpenAccess, OpenGraph, OpenQuotas, OpenScan, OpenWriter, open_store
from support.frozen_clock import FrozenClock
from support.service import problems_of
from support.thorough import examples

# The limit in seconds of a test on a node of Cassandra, which it may have to fetch and start.
CLUSTER_SECONDS = 900
_MAX_TRIES = 100
_PAUSE_SECONDS = 0.1
CLUSTER = pytest.param("cluster", marks=pytest.mark.timeout(CLUSTER_SECONDS))


class Backend(Protocol):
    """An empty store, which may be opened several times."""

    def open_writer(self, clock: FrozenClock) -> OpenWriter:
        """The graph, for writing."""
        ...

    def open_graph(self, clock: FrozenClock) -> OpenGraph[Row]:
        """The graph, for reading."""
        ...

    def open_whole(self) -> OpenScan:
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

    def open_whole(self) -> OpenScan:
        """The graph, for reading from one end to the other."""
        return open_store(self._path).scan()

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


def backend_factory(kind: str, request: pytest.FixtureRequest) -> BackendFactory:
    """Return a factory of empty stores of a kind."""
    if kind == "folder":
        return BackendFactory(FolderBackend)
    pytest.skip("rewriting")
