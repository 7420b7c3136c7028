"""Whole networks over HTTP: a made-up one and, if it is there, a real one; the longest list has 5,413 rows."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import walk
from running import fresh_token, running_server
from support.networks import LONGEST, OWNERS, Network
from support.service import problems_of
from support.thorough import is_thorough

PAGES = 3_000  # of a test, about


@pytest.fixture(scope="module")
def served(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Base URL and token of a server on a network; the store is checked at the end."""
    store = network.imported(tmp_path_factory.mktemp("network"))
    with running_server(store) as server:
        yield server.base_url, fresh_token(server, store)
    assert [] == problems_of(store)


def some_lists(lists: walk.Lists, max_count: int, chance: random.Random) -> walk.Lists:
    """Return lists of about `PAGES` pages, in each run others; all of them in a thorough run."""
    chosen, pages = {}, 0
    for name in chance.sample(list(lists), len(lists)):
        if pages < PAGES or is_thorough():
            chosen[name] = lists[name]
            pages += len(lists[name]) // max_count + 1
    return chosen


@pytest.mark.parametrize("max_count", walk.MAX_COUNTS)
def test_every_list_is_exact(served: tuple[str, str], network: Network, max_count: int, chance: random.Random) -> None:
    """Each follow of the file exactly once, in the file's order, names intact, for every page size.

    With large pages all lists are read, with small ones some; `make long PROOF=walk` reads all.
    """
    lists = some_lists(network.following, max_count, chance)
    figures = walk.walk_lists(*served, lists, max_count)

    assert () == figures.differences
    assert (len(lists), sum(map(len, lists.values()))) == (figures.lists, figures.rows)
    if max_count == max(walk.MAX_COUNTS):
        assert (network.lists, network.rows) == (figures.lists, figures.rows)


def test_every_follower_list_is_exact(served: tuple[str, str], network: Network) -> None:
    """Follows that share a second in the followee's list are there, each once, in the order of the file."""
    figures = walk.walk_lists(*served, network.followers, 100, walk.View("followers"))

    assert () == figures.differences
    assert len(network.followers) == figures.lists


def test_the_generated_network_has_all_hard_cases(network: Network) -> None:
    """A list of 5,413 rows, all of one second; hidden accounts and long follower lists in the made-up one."""
    assert LONGEST == network.longest
    assert OWNERS == network.most_followers
    rows = [(line["follower"], line["followed_at"]) for line in walk.lines_of(network.folder / walk.FOLLOWS)]
    assert len({owner for owner, _ in rows}) == len(set(rows)) == network.lists
    hidden = walk.hidden_accounts(network.folder)
    assert bool(hidden) is (network.folder != walk.DATA)


def test_a_wrong_list_is_found(served: tuple[str, str], network: Network) -> None:
    """The comparison itself can fail: a changed, a missing and an added row are all reported."""
    lists = dict(list(network.following.items())[:3])
    (first, one), (second, two), (third, three) = lists.items()
    wrong = {first: [*one[:-1], ("x", "y")], second: two[:-1], third: [*three, ("x", "y")]}

    assert 3 == len(walk.walk_lists(*served, wrong, 100).differences)


def test_the_walk_reads_existing_files_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without the files it says so."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["walk", str(tmp_path)])
        assert 2 == walk.main()
    assert "does not exist; pass the folder that holds it" in capsys.readouterr().err
