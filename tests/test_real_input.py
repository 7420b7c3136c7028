"""A real network over real HTTP: 271 lists, the longest with 5,413 follows that all carry one second."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import nostr
import walk
from running import fresh_token, running_server
from service import problems_of

pytestmark = nostr.present


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and token of a server on the real graph; the store is checked at the end."""
    store = nostr.imported(tmp_path_factory.mktemp("nostr"))
    with running_server(store) as server:
        yield server.base_url, fresh_token(server, store)
    assert [] == problems_of(store)


@pytest.mark.parametrize("max_count", walk.MAX_COUNTS)
def test_every_list_is_exact(site: tuple[str, str], max_count: int) -> None:
    """Each follow of the file exactly once, in the file's order, names intact, for every page size."""
    figures = walk.walk_lists(*site, nostr.expected_lists(), max_count)

    assert () == figures.differences
    assert (271, 123_299) == (figures.lists, figures.rows)


def test_a_difference_would_be_found(site: tuple[str, str]) -> None:
    """The comparison itself can fail: a changed, a missing and an added row are all reported."""
    lists = dict(list(nostr.expected_lists().items())[:3])
    (first, one), (second, two), (third, three) = lists.items()
    wrong = {first: [*one[:-1], ("x", "y")], second: two[:-1], third: [*three, ("x", "y")]}

    assert 3 == len(walk.walk_lists(*site, wrong, 100).differences)


def test_the_command_reads_only_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the files it says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["walk", str(tmp_path)])
        assert 2 == walk.main()
    assert "is not there; give the folder that holds it" in capsys.readouterr().err
