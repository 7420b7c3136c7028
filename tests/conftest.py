"""Fixtures that many tests use. Every store that a test made is checked when the test is over."""

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from support.backends import CLUSTER, CLUSTER_SECONDS, BackendFactory, Keyspace, backend_factory
from support.cassandra_jars import missing
from support.cassandra_node import shared
from support.frozen_clock import FrozenClock
from support.networks import NAMES, Network, network_of
from support.requirements import require
from support.service import Service, problems_of
from support.thorough import THOROUGH

pytest_plugins = [
    "support.both_paths",
    "support.broken_store",
    "support.bulk_twins",
    "support.children",
    "support.clusters",
    "support.counter_files",
    "support.faulty_server",
    "support.forked_processes",
    "support.process_marks",
    "support.sample_server",
    "support.served",
    "support.store_contract",
    "support.summarized_runs",
]

# No deadline: timings belong in benchmarks. A failure prints the seed that repeats it.
settings.register_profile("retinue", deadline=None, max_examples=100, print_blob=True)
settings.register_profile(THOROUGH, settings.get_profile("retinue"), max_examples=200)
settings.load_profile("retinue")


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands still."""
    return FrozenClock()


@pytest.fixture
def chance(request: pytest.FixtureRequest) -> random.Random:
    """Random choices that differ between runs; a failure prints the seed, and `make test SEED=` repeats it."""
    seed = request.config.getoption("--hypothesis-seed") or secrets.randbits(32)
    print(f"--hypothesis-seed={seed}")  # noqa: T201 - pytest shows it if the test fails
    return random.Random(seed)


@pytest.fixture
def store_path(tmp_path: Path) -> Iterator[Path]:
    """Return a path for the test's store; `check` must accept the store afterwards."""
    path = tmp_path / "graph.db"
    yield path
    if path.exists():
        assert problems_of(path) == []


@pytest.fixture(scope="session", params=NAMES)
def network(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A network whose lists are known."""
    return network_of(request.param, tmp_path_factory.mktemp("network"))


@pytest.fixture(scope="session")
def keyspace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keyspace]:
    """A keyspace of this process of the run, on the run's one node of Cassandra."""
    require(missing())
    worker, folder = os.environ.get("PYTEST_XDIST_WORKER"), tmp_path_factory.getbasetemp()
    with shared(folder.parent if worker else folder) as port:
        keyspace = Keyspace(f"cassandra://127.0.0.1:{port}/retinue_tests_{worker or 'alone'}")
        yield keyspace
        keyspace.close()


@pytest.fixture
def cassandra_keyspace(keyspace: Keyspace) -> str:
    """The location of a store in a cluster, empty."""
    keyspace.empty()
    return keyspace.location


@pytest.fixture(params=["folder", CLUSTER])
def new_backend(request: pytest.FixtureRequest) -> BackendFactory:
    """A factory of empty stores, of each kind."""
    return backend_factory(request.param, request)


@pytest.fixture
def service(store_path: Path, clock: FrozenClock) -> Iterator[Service]:
    """An empty store and the application on top of it."""
    service = Service(store_path, clock)
    yield service
    service.close()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return two processes per core: tests wait for the disk, for other processes and for time to pass."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests that use the node by name, and give them more time."""
    for item in items:
        if "keyspace" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(CLUSTER_SECONDS))
            item.add_marker(pytest.mark.cluster)
