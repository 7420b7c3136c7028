"""Exact paging, for every list: a real store beside the plain-dict model, with writes between the pages."""

import asyncio
import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retinue.following import Following
from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    FollowEvent,
    FollowRecord,
    Page,
    PageRequest,
    Query,
    Row,
    Visibility,
)
from retinue.store.open import open_store
from retinue.store.sqlite.graph import SqliteGraph
from retinue.wire import rendering
from support.frozen_clock import FrozenClock
from support.model_store import ModelGraph
from support.service import problems_of

NOW = 1_700_000_000
OWNER = "owner"
FOLLOWING, FOLLOWERS = Direction.FOLLOWING, Direction.FOLLOWERS

NAMES = st.sampled_from([f"f{n}" for n in range(40)])
# Few seconds for many follows, so that most of them meet; some near 1, where no earlier second is left.
SECONDS = st.one_of(st.integers(1, 12), st.integers(NOW - 12, NOW + 5))
FOLLOWS = st.lists(st.tuples(NAMES, SECONDS | st.none()), max_size=40)
UNFOLLOWS = st.lists(st.tuples(NAMES, SECONDS), max_size=8)
ACCOUNTS = st.lists(st.tuples(NAMES, st.sampled_from(Visibility)), max_size=6)


class Change(NamedTuple):
    """Something that is written between two pages: to a list with a name in it, and to accounts."""

    follows: Sequence[tuple[str, int | None]]
    accounts: Sequence[tuple[str, Visibility]] = ()
    unfollows: Sequence[tuple[str, int]] = ()
    is_tidied: bool = False

    def names(self) -> set[str]:
        """Return the names of the account whose follows change."""
        return {name for name, _ in (*self.follows, *self.unfollows)}


CROWD_AT_5 = [(f"f{n}", 5) for n in range(40)]
CROWD_NOW = [(f"f{n}", NOW) for n in range(40)]
CHANGES = st.builds(Change, FOLLOWS, ACCOUNTS, UNFOLLOWS, st.booleans())


class Twins:
    """A store and the model, told the same and asked the same about one list of one account."""

    def __init__(self, path: Path, direction: Direction) -> None:
        self.clock = FrozenClock(NOW)
        self.direction = direction
        open_store(str(path)).create()
        self.writer = open_store(str(path)).writer(self.clock)
        self.graph = SqliteGraph(path, self.clock, Row)
        self.ready = open_store(str(path)).served_graph(self.clock, rendering.ROW_ENCODING, 0)
        self.model = ModelGraph()
        self.apply(Change([], [(OWNER, Visibility.PUBLIC)]))

    def apply(self, change: Change) -> None:
        """Write to both; their verdicts must agree. Then readers get their second to take notice."""
        accounts = [AccountRecord(name, visibility=visibility) for name, visibility in change.accounts]
        follows = [FollowRecord(*self.ends(name), at, NOW) for name, at in change.follows]
        unfollows = [FollowEvent(*self.ends(name), at, is_follow=False) for name, at in change.unfollows]
        self.both("add_accounts", accounts, NOW)
        self.both("add_follows", follows)
        self.both("apply", unfollows, NOW)
        while change.is_tidied and asyncio.run(self.writer.run_maintenance()):
            pass
        self.clock.advance(1)

    def both(self, method: str, *arguments: Any) -> None:
        """Call a method of both."""
        expected = asyncio.run(getattr(self.model, method)(*arguments))
        assert expected == asyncio.run(getattr(self.writer, method)(*arguments))

    def ends(self, name: str) -> tuple[str, str]:
        """Follower and followee, where the list is the owner's."""
        return (OWNER, name) if self.direction is FOLLOWING else (name, OWNER)

    def page(self, max_count: int, cursor: int | None, as_of: int | None = None) -> Page[Row]:
        """Compare one page of store and model, to the last field and, on the wire, to the last byte."""
        query = Query(OWNER, max_count, cursor, as_of)
        expected, found, ready = (
            asyncio.run(self.page_from(Following(graph, FrozenClock(NOW)), query))
            for graph in (self.model, self.graph, self.ready)
        )
        assert expected == found
        assert encoded(expected, self.direction) == json.loads(rendering.page_body(ready, self.direction, "the log_id"))
        return found

    async def page_from(self, following: Following[Any], query: Query) -> Page[Any]:
        """One page of one of them."""
        return await following.page(await following.account(OWNER), query, self.direction)

    def walk(self, max_count: int, as_of: int | None = None) -> list[str]:
        """The usernames of a whole list, page by page."""
        page = self.page(max_count, None, as_of)
        walked = [row.username for row in page.rows]
        while page.has_more:
            page = self.page(max_count, page.cursor, as_of)
            walked += [row.username for row in page.rows]
        return walked

    def there(self, as_of: int | None, bound: int = NOW) -> set[tuple[int, str]]:
        """Position and username of everything visible up to a bound."""
        person = self.model.with_key(OWNER)
        assert person is not None
        as_of = None if as_of is not None and as_of >= NOW else as_of
        visible = self.model.visible(PageRequest(person.id, self.direction, 0, 0, as_of))
        return {(position, self.model.row(other).username) for position, other in visible if position <= bound}

    def close(self) -> None:
        """Give the file back."""
        self.graph.close()
        self.ready.close()
        self.writer.close()


@contextmanager
def twins_for(direction: Direction) -> Iterator[Twins]:
    """A new pair of twins; what they leave must be sound."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.db"
        twins = Twins(path, direction)
        yield twins
        twins.close()
        assert problems_of(path) == []


def encoded(page: Page[Row], direction: Direction) -> dict[str, Any]:
    """A page as the contract has it, the plain way."""
    rows = [{"display_name": row.display_name, "username": row.username} for row in page.rows]
    key = "user_following" if direction is FOLLOWING else "user_followers"
    data = {key: rows, "cursor": page.cursor, "has_more": page.has_more}
    return {"data": data, "error": {"code": "ok", "message": "ok", "log_id": "the log_id"}}


@given(
    direction=st.sampled_from(Direction),
    first=CHANGES,
    max_count=st.integers(1, 100),
    bound=SECONDS | st.none(),
    as_of=st.none() | SECONDS,
    between=st.lists(CHANGES, max_size=4),
)
@example(
    direction=FOLLOWING,
    first=Change([(f"f{n}", 5) for n in range(40)]),
    max_count=1,
    bound=None,
    as_of=None,
    between=[],
)
@example(
    direction=FOLLOWERS,
    first=Change([(f"f{n}", NOW) for n in range(40)]),
    max_count=7,
    bound=NOW,
    as_of=None,
    between=[],
)
@example(direction=FOLLOWING, first=Change(CROWD_AT_5), max_count=3, bound=None, as_of=5, between=[])
def test_paging_returns_each_visible_follow_once(
    direction: Direction, first: Change, max_count: int, bound: int | None, as_of: int | None, between: list[Change]
) -> None:
    """This holds for any list, second, bound and page size, with concurrent writes."""
    with twins_for(direction) as twins:
        twins.apply(first)
        untouched = twins.there(as_of, min(bound or NOW, NOW))
        walked: list[str] = []
        changes = iter(between)
        cursor = bound
        while True:
            page = twins.page(max_count, cursor, as_of)
            walked += [row.username for row in page.rows]
            if not page.has_more:
                break
            assert 1 <= page.cursor < min(cursor or NOW, NOW)
            assert len(page.rows) == max_count
            cursor = page.cursor
            if (change := next(changes, None)) is not None:
                twins.apply(change)
                untouched &= twins.there(as_of)

        changed = set().union(*(change.names() for change in between))
        assert all(walked.count(name) == 1 for _, name in untouched)
        assert all(walked.count(name) <= 1 for name in walked if name not in changed)


@pytest.mark.parametrize("direction", Direction)
@pytest.mark.parametrize("seed", range(3))
def test_paging_through_long_lists_is_exact(direction: Direction, seed: int) -> None:
    """Hundreds of entries in any order, many on one second; some hidden, ended, moved, and some back again."""
    random = Random(seed)
    others = [f"f{n}" for n in range(700)]
    hidden = random.sample(others, 250)
    seconds = [random.choice((1000, 2000, random.randint(1, 5000))) for _ in others]
    with twins_for(direction) as twins:
        for begin in range(0, len(others), 100):
            twins.apply(Change(list(zip(others, seconds, strict=True))[begin : begin + 100]))
        assert sorted(twins.walk(100)) == sorted(others)
        for is_tidied in (False, True):
            twins.apply(Change([], [(name, Visibility.PRIVATE) for name in hidden], is_tidied=is_tidied))
            assert sorted(twins.walk(37)) == sorted(set(others) - set(hidden))
        ended = random.sample(others, 200)
        twins.apply(Change([], [], [(name, 3000) for name in ended]))
        twins.apply(Change([(name, 3500) for name in ended[:100]], [(name, Visibility.PUBLIC) for name in hidden]))
        for is_tidied in (False, True):
            twins.apply(Change([], is_tidied=is_tidied))
            twins.walk(100)
            for second in (1, 1000, 2000, 2999, 3000, 4000):
                twins.walk(100, second)


@pytest.mark.parametrize("direction", Direction)
def test_paging_one_by_one_crosses_every_block(direction: Direction) -> None:
    """Each row is found from the bound before it and from its own, however rows are packed."""
    count = 400
    with twins_for(direction) as twins:
        twins.apply(Change([(f"f{n}", 2 * n + 1) for n in range(count)]))
        twins.apply(Change([], [(f"f{n}", Visibility.WITHHELD) for n in range(100, 250)], is_tidied=True))
        for n in (*range(90, 100), *range(250, 265), *range(370, count)):
            for bound in (2 * n + 1, 2 * n + 2):
                page = twins.page(1, bound)
                assert ([f"f{n}"], 2 * n) == ([row.username for row in page.rows], page.cursor)
        assert [f"f{n}" for n in reversed(range(count)) if not 100 <= n < 250] == twins.walk(1)


def test_hiding_an_owner_keeps_its_list(store_path: Path, clock: FrozenClock) -> None:
    """Hiding and showing an owner changes nothing of what stands in its lists."""
    twins = Twins(store_path, FOLLOWING)
    twins.apply(Change([(f"f{n}", 100) for n in range(5)]))
    before = twins.walk(2)

    for at, visibility in ((1, Visibility.WITHHELD), (2, Visibility.PUBLIC)):
        event = AccountEvent(AccountRecord(key=OWNER, visibility=visibility), NOW + at)
        twins.both("apply", [event], NOW + at)
        twins.apply(Change([], is_tidied=True))

    assert before == twins.walk(2)
    twins.close()
