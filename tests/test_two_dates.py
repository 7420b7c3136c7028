"""A network at two dates: the later one made of the earlier one by events, and by a dump.

It is the made-up one; thorough runs and `make long PROOF=changes` add the real one.
"""

from pathlib import Path

import pytest

import changes
import walk
from running import fresh_token, running_server
from support.networks import NAMES, network_of
from support.service import problems_of
from support.thorough import is_thorough


@pytest.mark.parametrize("name", NAMES if is_thorough() else NAMES[:1])
@pytest.mark.parametrize("way", changes.WAYS)
def test_every_following_list_is_exact_at_both_dates(tmp_path: Path, way: str, name: str) -> None:
    """The present list is that of the later file; the past list is that of the earlier one."""
    network = network_of(name, tmp_path, has_hidden=False)
    store = tmp_path / "graph.db"
    bring, expected = changes.WAYS[way]
    changes.first_store(network.folder, store)
    assert bring(network.folder, store) > 1_000

    with running_server(store) as server:
        token = fresh_token(server, store)
        today, then, *_ = changes.comparisons(network.folder, expected(network.folder))
        found = [walk.walk_lists(server.base_url, token, each.expected, 100, each.view) for each in (today, then)]

    assert [(), ()] == [figures.differences for figures in found]
    assert network.rows == found[1].rows
    assert [] == problems_of(store)
