"""The real graph that lies beside the checkout, for tests that want real input."""

from collections import defaultdict
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
    """The follower lists that an import of the files gives; none where there are no files.

    Follows that share a second are moved to the nearest free earlier one, in the order of the file.
    """
    if not walk.DATA.is_dir():
        return {}
    display_names = walk.display_names(walk.DATA)
    lists: dict[str, dict[int, walk.Row]] = defaultdict(dict)
    for line in walk.lines_of(walk.DATA / walk.FOLLOWS):
        entries, second = lists[line["followee"]], int(line["followed_at"])
        while second in entries:
            second -= 1
        entries[second] = (line["follower"], display_names.get(line["follower"], ""))
    return {owner: [entries[second] for second in sorted(entries, reverse=True)] for owner, entries in lists.items()}


def imported(folder: Path) -> Path:
    """A store with the whole graph in it."""
    store = folder / "graph.db"
    retinue("import", "--store", store, "--accounts", walk.DATA / walk.ACCOUNTS, walk.DATA / walk.FOLLOWS)
    return store
