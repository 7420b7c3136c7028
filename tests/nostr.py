"""The real graph that lies beside the checkout, for tests that want real input."""

from functools import cache
from pathlib import Path

import pytest

import walk
from running import retinue

present = pytest.mark.skipif(not walk.DATA.is_dir(), reason=f"the real graph is not at {walk.DATA}")


@cache
def expected_lists() -> walk.Lists:
    """The lists as the files give them; none where there are no files."""
    return walk.expected_lists(walk.DATA) if walk.DATA.is_dir() else {}


@cache
def expected_followers() -> walk.Lists:
    """The follower lists that an import of the files gives; none where there are no files."""
    return walk.expected_followers(walk.DATA) if walk.DATA.is_dir() else {}


def imported(folder: Path) -> Path:
    """A store with the whole graph in it."""
    store = folder / "graph.db"
    retinue("import", "--store", store, "--accounts", walk.DATA / walk.ACCOUNTS, walk.DATA / walk.FOLLOWS)
    return store
