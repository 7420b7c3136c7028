"""Exact paging, for every list: a real store beside the plain-dict model, with writes between the pages."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from frozen_clock import FrozenClock
from model_store import ModelGraph
from retinue import assemble, wire
from retinue.following import Following
from retinue.model import AccountRecord, FollowRecord, Page, Query, Row, Visibility
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.writer import SqliteGraphWriter
from service import problems_of

NOW = 1_700_000_000
OWNER = "owner"

NAMES = st.sampled_from([f"f{n}" for n in range(40)])
# Few seconds for many follows, so that most of them meet; some near 1, where no earlier second is left.
SECONDS = st.one_of(st.integers(1, 12), st.integers(NOW - 12, NOW + 5), st.none())
FOLLOWS = st.lists(st.tuples(NAMES, SECONDS), max_size=40)
ACCOUNTS = st.lists(st.tuples(NAMES, st.sampled_from(Visibility)), max_size=6)


class Change(NamedTuple):
    """Something that is written between two pages."""

    follows: list[tuple[str, int | None]]
    accounts: list[tuple[str, Visibility]]


CHANGES = st.builds(Change, FOLLOWS, ACCOUNTS)


class Twins:
    """A store and the model, told the same and asked the same."""

    def __init__(self, path: Path) -> None:
        self.clock = FrozenClock(NOW)
        assemble.create_store(str(path))
        self.writer: SqliteGraphWriter = assemble.open_graph_writer(str(path), self.clock)
        self.graph: SqliteGraph[Row] = assemble.open_graph(str(path), self.clock)
        self.ready: SqliteGraph[bytes] = assemble.open_wire_graph(str(path), self.clock)
        self.model = ModelGraph()
        self.apply(Change([(OWNER + "2", NOW)], [(OWNER, Visibility.PUBLIC)]))

    def apply(self, change: Change) -> None:
        """Write to both; their verdicts must agree. Then readers get their second to take notice."""
        accounts = [AccountRecord(name, visibility=visibility) for name, visibility in change.accounts]
        follows = [FollowRecord(OWNER, name, at, NOW) for name, at in change.follows]
        for records, method in ((accounts, "add_accounts"), (follows, "add_follows")):
            arguments = (records, NOW) if method == "add_accounts" else (records,)
            expected = asyncio.run(getattr(self.model, method)(*arguments))
            assert expected == asyncio.run(getattr(self.writer, method)(*arguments))
        self.clock.advance(1)

    def page(self, max_count: int, cursor: int | None) -> Page[Row]:
        """One page; store and model must agree on it to the last field, and on the wire to the last byte."""
        query = Query(OWNER, max_count, cursor)
        expected = asyncio.run(Following(self.model, FrozenClock(NOW)).page(query))
        found = asyncio.run(Following(self.graph, FrozenClock(NOW)).page(query))
        assert expected == found
        ready = asyncio.run(Following(self.ready, FrozenClock(NOW)).page(query))
        assert encoded(expected) == json.loads(wire.page_body(ready, "the log_id"))
        return found

    def close(self) -> None:
        """Give the file back."""
        self.graph.close()
        self.ready.close()
        self.writer.close()


def encoded(page: Page[Row]) -> dict[str, Any]:
    """A page as the contract has it, the plain way."""
    rows = [{"display_name": row.display_name, "username": row.username} for row in page.rows]
    data = {"user_following": rows, "cursor": page.cursor, "has_more": page.has_more}
    return {"data": data, "error": {"code": "ok", "message": "ok", "log_id": "the log_id"}}


@given(first=CHANGES, max_count=st.integers(1, 100), bound=SECONDS, between=st.lists(CHANGES, max_size=4))
@example(first=Change([(f"f{n}", 5) for n in range(40)], []), max_count=1, bound=None, between=[])
@example(first=Change([(f"f{n}", NOW) for n in range(40)], []), max_count=7, bound=NOW, between=[])
def test_a_walk_shows_each_visible_follow_exactly_once(
    first: Change, max_count: int, bound: int | None, between: list[Change]
) -> None:
    """Whatever the list, the bound and the page size, and whatever is written meanwhile."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.db"
        twins = Twins(path)
        twins.apply(first)
        there = twins.model.lists.setdefault(OWNER, {})
        begun = dict(there)
        walked: list[str] = []
        changes = iter(between)
        cursor = bound
        while True:
            page = twins.page(max_count, cursor)
            asked = min(cursor or NOW, NOW)
            walked += [row.username for row in page.rows]
            assert page.cursor < asked or not page.has_more
            assert len(page.rows) == max_count or not page.has_more
            assert page.cursor >= 1 or not page.has_more
            if not page.has_more:
                break
            cursor = page.cursor
            if (change := next(changes, None)) is not None:
                twins.apply(change)

        assert len(walked) == len(set(walked)) or moved(begun, there, walked)
        assert untouched(twins, begun, bound, between) <= set(walked)
        twins.close()
        assert problems_of(path) == []


def untouched(twins: Twins, begun: dict[int, tuple[str, int]], bound: int | None, between: list[Change]) -> set[str]:
    """Rows that were there at the first page, at or before the bound, and that nothing happened to."""
    changed = {name for change in between for name, _ in change.accounts}
    limit = min(bound or NOW, NOW)
    still = {entry: position for position, entry in twins.model.lists.get(OWNER, {}).items()}
    return {
        name
        for position, (name, at) in begun.items()
        if position <= limit
        and still.get((name, at)) == position
        and name not in changed
        and twins.model.accounts[name][1].is_row
    }


def moved(begun: dict[int, tuple[str, int]], there: dict[int, tuple[str, int]], walked: list[str]) -> bool:
    """Whether each name that came twice is one whose own interval changed during the walk."""
    twice = {name for name in walked if walked.count(name) > 1}
    before = {name: position for position, (name, _) in begun.items()}
    after = {name: position for position, (name, _) in there.items()}
    return all(before.get(name) != after.get(name) for name in twice)


@given(first=CHANGES, second=CHANGES)
def test_order_and_repetition_never_change_rows_and_times(first: Change, second: Change) -> None:
    """The same follows in another order, and any of them again, give the same rows with the same true seconds."""

    def truth(*changes: Change) -> dict[str, int]:
        model = ModelGraph()
        for change in changes:
            records = [FollowRecord(OWNER, name, at, NOW) for name, at in change.follows if at is not None]
            asyncio.run(model.add_follows(records))
        return dict(model.lists.get(OWNER, {}).values())

    assert truth(first, second) == truth(second, first) == truth(first, second, first, second)
