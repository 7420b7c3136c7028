"""The real network at two dates: the later one made of the earlier one by events, and by a dump."""

from pathlib import Path

import pytest

import changes
import nostr
import walk
from running import fresh_token, running_server
from service import problems_of

pytestmark = nostr.present


@pytest.mark.parametrize("way", changes.WAYS)
def test_every_following_list_is_exact_at_both_dates(tmp_path: Path, way: str) -> None:
    """Today it has the accounts of the later file, and as of then it is the earlier one's, in its order."""
    store = tmp_path / "graph.db"
    bring, expected = changes.WAYS[way]
    changes.first_store(walk.DATA, store)
    bring(walk.DATA, store)

    with running_server(store) as server:
        token = fresh_token(server, store)
        today, then, *_ = changes.comparisons(walk.DATA, expected(walk.DATA))
        found = [walk.walk_lists(server.base_url, token, each.expected, 100, each.view) for each in (today, then)]

    assert [(), ()] == [figures.differences for figures in found]
    assert 123_299 == found[1].rows
    assert [] == problems_of(store)
