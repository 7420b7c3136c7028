"""Fixtures that many tests use. Every store that a test made is checked when the test is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from frozen_clock import FrozenClock
from service import Service, problems_of

# No deadline: timings belong in benchmarks. A failure prints the seed that repeats it.
settings.register_profile("retinue", deadline=None, max_examples=200, print_blob=True)
settings.load_profile("retinue")


@pytest.fixture
def clock() -> FrozenClock:
    """A clock that stands still."""
    return FrozenClock()


@pytest.fixture
def store_path(tmp_path: Path) -> Iterator[Path]:
    """Where the test's store is to lie; `check` must accept what is there afterwards."""
    path = tmp_path / "graph.db"
    yield path
    if path.exists():
        assert problems_of(path) == []


@pytest.fixture
def service(store_path: Path, clock: FrozenClock) -> Iterator[Service]:
    """An empty store and the application on top of it."""
    service = Service(store_path, clock)
    yield service
    service.close()
