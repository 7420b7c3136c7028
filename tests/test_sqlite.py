"""Promises of the embedded store: query plans, transactions and files."""

import asyncio
import os
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st
from retinue.store.rules.slots import SlotAllocator
from retinue.store.rules.values import Around
from retinue.store.sqlite.row_cache import FORGET_ONE_BY_ONE, RowCache
from retinue.store.sqlite.slot_runs import SqliteSlotRuns
from retinue.store.sqlite.writer import SqliteGraphWriter

from retinue import errors
from retinue.model import AccountRecord, Direction, FollowRecord, PageRequest, Row
from retinue.store.open import open_store
from retinue.store.sqlite import files, graph, relocations, row_cache
from support.frozen_clock import FrozenClock, TickingClock
from support.model_store import free_second
from support.service import problems_of

NOW = 1_700_000_000


@pytest.fixture
def graph_file(store_path: Path) -> Path:
    """An empty store's graph file."""
    open_store(str(store_path)).create()
    return store_path


@pytest.mark.parametrize("direction", Direction)
def test_a_page_is_one_range_of_one_index(graph_file: Path, direction: Direction) -> None:
    """The page query neither scans nor sorts."""
    connection = apsw.Connection(str(graph_file))
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {graph.BLOCKS[direction]}", (1, NOW))]
    connection.close()

    assert [f"SEARCH {direction.value} USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"] == plan


@pytest.mark.parametrize(
    ("query", "plan"),
    [
        (row_cache.ACCOUNT, "SEARCH account USING INDEX sqlite_autoindex_account_2 (folded=?)"),
        (row_cache.CHANGED, "SEARCH account USING COVERING INDEX account_changed (revision>?)"),
        (row_cache.NEWEST_REVISION, "SEARCH account USING COVERING INDEX account_changed (revision>?)"),
    ],
)
def test_lookups_use_their_index(graph_file: Path, query: str, plan: str) -> None:
    """No lookup walks a table."""
    assert [plan] == plan_of(graph_file, query)


@pytest.mark.parametrize(
    ("query", "moving"),
    [(relocations.NEXT, "SCAN moving"), (relocations.ERASED_ACCOUNTS, "SCAN moving USING INDEX moving_merge")],
)
def test_relocations_are_checked_before_the_accounts(graph_file: Path, query: str, moving: str) -> None:
    """However many accounts there are, it takes as long as there are some on the move."""
    assert [moving, "SEARCH account USING INTEGER PRIMARY KEY (rowid=?)"] == plan_of(graph_file, query)


def plan_of(graph_file: Path, query: str) -> list[str]:
    """Return SQLite's plan of a query."""
    connection = apsw.Connection(str(graph_file))
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", (1,) * query.count("?"))]
    connection.close()
    return steps


class Slots:
    """The slots of one list with their visibility: `SlotAllocator` beside a plain dict."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self.allocator = SlotAllocator(SqliteSlotRuns(connection, Direction.FOLLOWING), self.look)
        self.seen: dict[int, bool] = {}

    def look(self, _owner: int, second: int) -> Around:
        """Whether something can be seen at a second and at its neighbours."""
        return Around(*(self.seen.get(at, False) for at in (second - 1, second, second + 1)))

    def take(self, second: int, *, seen: bool) -> None:
        """Let something stand there, or nearby."""
        expected = free_second(self.seen, second)
        slot = self.allocator.find(1, second, NOW)
        assert slot is not None
        assert expected == slot.second
        self.allocator.take(1, slot, visible=seen)
        self.seen[expected] = seen

    def change(self, second: int, *, gone: bool) -> None:
        """Let what stands there go away, or hide it, or show it."""
        if gone:
            del self.seen[second]
            self.allocator.release(1, second)
        elif self.seen[second]:
            self.seen[second] = False
            self.allocator.hide(1, second)
        else:
            self.seen[second] = True
            self.allocator.show(1, second)

    def runs(self) -> list[tuple[int, int]]:
        """Return the slots to store: runs of adjacent slots, and single hidden ones."""
        found: list[tuple[int, int]] = []
        for second in sorted(self.seen):
            if found and found[-1][1] == second - 1:
                found[-1] = (found[-1][0], second)
            else:
                found.append((second, second))
        return [(first, last) for first, last in found if first < last or not self.seen[first]]


Step = tuple[bool, int, bool]


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 30), st.booleans()), max_size=80))
def test_free_slots_equal_those_found_one_by_one(steps: list[Step]) -> None:
    """Slot runs give the same slots as a walk along the list, and stay maximal."""
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(Path(files.__file__).with_name("graph.sql").read_text())
        slots = Slots(connection)
        for is_taken, second, flag in steps:
            if is_taken:
                slots.take(second, seen=flag)
            elif second in slots.seen:
                slots.change(second, gone=flag)
            stored = connection.execute("SELECT first, last FROM following_taken ORDER BY first").fetchall()
            assert slots.runs() == stored


def test_a_list_without_a_free_slot_rejects_follows(graph_file: Path) -> None:
    """A follow is refused if every slot up to now is taken, and nothing of it is stored."""
    writer = SqliteGraphWriter(graph_file, FrozenClock())
    records = [FollowRecord("a", f"f{n}", 1, 3) for n in range(4)]

    verdicts = asyncio.run(writer.add_follows(records))

    assert [verdict.value for verdict in verdicts[:3]] == ["accepted"] * 3
    assert verdicts[3].value == "no second from 1 to now is free in this list"
    writer.close()


def test_write_transactions_are_limited_in_time(graph_file: Path) -> None:
    """A batch that would hold the write lock too long is committed in parts, in order and whole."""
    writer = SqliteGraphWriter(graph_file, TickingClock(step=0.03))
    commits: list[int] = []

    def counted() -> bool:
        commits.append(1)
        return False

    writer._connection.set_commit_hook(counted)
    verdicts = asyncio.run(writer.add_follows([FollowRecord("a", f"f{n}", 100 + n, NOW) for n in range(30)]))

    assert len(verdicts) == 30
    assert 8 <= len(commits) <= 15
    writer.close()


def test_an_error_inside_a_batch_is_rolled_back(graph_file: Path) -> None:
    """A failing transaction is rolled back, and the writer goes on afterwards as if it had not been."""
    writer = SqliteGraphWriter(graph_file, FrozenClock())
    bad = FollowRecord("a", "c", 5, "soon")  # type: ignore[arg-type]  # a fault of a caller

    with pytest.raises(errors.StoreUnavailable):
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW), bad]))

    verdicts = asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW), FollowRecord("a", "c", 5, NOW)]))
    assert [verdict.value for verdict in verdicts] == ["accepted", "accepted"]
    writer.close()


def test_waiting_for_another_writer_ends_in_a_clear_error(graph_file: Path) -> None:
    """A lock that is never given back is `StoreUnavailable`, not a foreign exception."""
    writer = SqliteGraphWriter(graph_file, FrozenClock())
    writer._connection.set_busy_timeout(1)
    hog = apsw.Connection(str(graph_file))
    hog.execute("BEGIN IMMEDIATE")

    with pytest.raises(errors.StoreUnavailable):
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))

    hog.close()
    writer.close()


def test_pages_are_read_while_another_connection_writes(graph_file: Path, clock: FrozenClock) -> None:
    """A reader sees the state before an open write transaction, without waiting."""
    writer = SqliteGraphWriter(graph_file, clock)
    asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))
    reader = open_store(str(graph_file)).graph(clock)
    writer._connection.execute("BEGIN IMMEDIATE")
    writer._connection.execute("DELETE FROM following")

    account = asyncio.run(reader.find_account("a"))
    assert account is not None
    assert [
        row.username for row in asyncio.run(reader.read(PageRequest(account.id, Direction.FOLLOWING, NOW, 5))).rows
    ] == ["b"]

    writer._connection.execute("ROLLBACK")
    reader.close()
    writer.close()


def test_only_the_owner_may_read_a_store(graph_file: Path) -> None:
    """Both files have mode 0600 from their first byte."""
    for path in (graph_file, files.access_path(graph_file)):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_settling_does_not_wait_for_readers(graph_file: Path) -> None:
    """A reader that stays where it is holds up neither the end of an import nor what it promises."""
    waits: list[int] = []
    writer = SqliteGraphWriter(graph_file, FrozenClock())

    def wait(times: int) -> bool:
        """SQLite's question whether to go on waiting for others."""
        waits.append(times)
        return False

    writer._connection.set_busy_handler(wait)
    with closing(apsw.Connection(str(graph_file))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM account").fetchall()
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))
        asyncio.run(writer.settle())

        assert [] == waits
        writer._connection.execute("PRAGMA wal_checkpoint(RESTART)")  # which would wait for this reader
        assert [] != waits
    writer.close()


def test_rows_that_change_often_use_bounded_memory(
    graph_file: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evicted rows make room: all rows are cached again after many changes."""
    monkeypatch.setattr(row_cache, "ROWS_PER_GENERATION", 5)
    writer = SqliteGraphWriter(graph_file, clock)
    asyncio.run(writer.add_accounts([AccountRecord(f"n{n}") for n in range(4)], NOW))
    connection = files.open_for_reading(graph_file, files.GRAPH)
    cache = RowCache(connection, clock, Row)
    ids = [row[0] for row in connection.execute("SELECT id FROM account")]
    for turn in range(20):
        assert all(cache.load(account_id) for account_id in ids)
        asyncio.run(writer.add_accounts([AccountRecord("n0", display_name=f"name {turn}")], NOW + turn))
        clock.advance(1)
        cache.refresh()

    assert cache.is_complete
    assert 3 == sum(map(bool, cache.rows))
    connection.close()
    writer.close()


def test_the_account_cache_is_bounded_and_correct(
    graph_file: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache keeps a bounded number of accounts, and each account is found."""
    monkeypatch.setattr(row_cache, "ACCOUNTS", 5)
    with closing(SqliteGraphWriter(graph_file, clock)) as writer:
        asyncio.run(writer.add_accounts([AccountRecord(f"n{n}") for n in range(23)], NOW))
    with closing(files.open_for_reading(graph_file, files.GRAPH)) as connection:
        cache = RowCache(connection, clock, Row)
        rows = connection.execute("SELECT folded, id FROM account").fetchall()
        sizes = []
        for _ in range(2):
            for name, number in rows:
                found = cache.account(str(name))
                sizes.append(len(cache._accounts))
                assert found is not None
                assert number == found.id

    assert [1 + n % 5 for n in range(46)] == sizes


def test_the_row_cache_is_bounded_and_correct(
    graph_file: Path, clock: FrozenClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two generations hold what is asked for; what was dropped is read again; changes are noticed in bulk too."""
    monkeypatch.setattr(row_cache, "ROWS_PER_GENERATION", 100)
    count = FORGET_ONE_BY_ONE + 10
    writer = SqliteGraphWriter(graph_file, clock)
    records = [AccountRecord(f"n{n}", display_name="before") for n in range(count)]
    asyncio.run(writer.add_accounts(records, NOW))
    connection = files.open_for_reading(graph_file, files.GRAPH)
    cache = RowCache(connection, clock, Row)
    ids = [row[0] for row in connection.execute("SELECT id FROM account")]

    for account_id in ids[:100]:
        row = cache.load(account_id)
        assert row is not None
        assert row.display_name == "before"
    rows = cache.rows
    assert cache.load(ids[100]) is not None
    assert [cache.load(ids[100])] == [row for row in rows if row]
    assert cache.load(ids[0]) is not None
    assert 2 == sum(map(bool, cache.rows))
    before = cache.is_complete
    assert all(cache.load(account_id) for account_id in ids[:200])
    assert (True, False) == (before, cache.is_complete)

    asyncio.run(writer.add_accounts([AccountRecord(f"n{n}", display_name="after") for n in range(count)], NOW + 1))
    clock.advance(1)
    cache.refresh()
    assert [] == cache.rows
    assert (True, 1) == (cache.is_complete, cache.epoch)
    changed = cache.load(ids[0])
    assert changed is not None
    assert changed.display_name == "after"
    connection.close()
    writer.close()


def test_an_unknown_account_is_damage(graph_file: Path, clock: FrozenClock) -> None:
    """Accounts are never removed, so a list that names one without a row is damaged, and not a shorter list."""
    connection = files.open_for_reading(graph_file, files.GRAPH)

    with pytest.raises(errors.StoreUnavailable, match="table account, id 12345"):
        RowCache(connection, clock, Row).load(12345)
    connection.close()


def test_making_a_store_again_changes_nothing(graph_file: Path) -> None:
    """`create_store` accepts an existing store."""
    before = graph_file.read_bytes()

    open_store(str(graph_file)).create()

    assert before == graph_file.read_bytes()
    assert problems_of(graph_file) == []


def make(path: Path, *statements: str) -> Path:
    """Make an SQLite file of another program."""
    connection = apsw.Connection(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.close()
    return path


def test_a_location_without_a_store_is_not_opened(tmp_path: Path, clock: FrozenClock) -> None:
    """Each wrong file gets an error that names it and says why."""
    text = tmp_path / "text.db"
    text.write_text("hello, this is no database at all" * 100)
    foreign = make(tmp_path / "foreign.db", "CREATE TABLE cake (id)")
    pipe = tmp_path / "pipe.db"
    os.mkfifo(pipe)
    newer = tmp_path / "newer.db"
    open_store(str(newer)).create()
    make(newer, "PRAGMA user_version = 99")
    empty = tmp_path / "empty.db"
    empty.touch()
    damaged = tmp_path / "damaged.db"
    open_store(str(damaged)).create()
    make(damaged, "PRAGMA user_version = -5")
    cases: list[tuple[Path, type[errors.StoreError], str]] = [
        (tmp_path / "none.db", errors.MissingStore, "there is no follow graph here"),
        (text, errors.NotAStore, "no SQLite file"),
        (foreign, errors.NotAStore, "another program's SQLite file"),
        (newer, errors.UnsupportedSchema, "newer Retinue (schema 99"),
        (tmp_path, errors.NotAStore, "it is a folder"),
        (pipe, errors.NotAStore, "it is no file"),
        (empty, errors.NotAStore, "it is empty"),
        (damaged, errors.NotAStore, "there is no schema -5; it is damaged"),
        (files.access_path(newer), errors.NotAStore, "it is the access file that belongs to one"),
    ]
    for path, error, words in cases:
        with pytest.raises(error, match=str(path)) as caught:
            open_store(str(path)).graph(clock)
        assert words in str(caught.value)


def test_a_store_is_not_made_over_something_else(tmp_path: Path) -> None:
    """Creating refuses foreign files and places it cannot write to, and leaves them as they are."""
    text = tmp_path / "text.db"
    text.write_text("hello, this is no database at all" * 100)
    foreign = make(tmp_path / "foreign.db", "CREATE TABLE cake (id)")

    for path, words in (
        (text, "no SQLite file"),
        (foreign, "another program"),
        (tmp_path / "no" / "x.db", "does not exist"),
    ):
        with pytest.raises(errors.StoreError, match=words):
            open_store(str(path)).create()
    assert text.read_text().startswith("hello")


def test_a_location_of_an_unknown_kind_is_refused() -> None:
    """A URL is no path."""
    with pytest.raises(errors.InputError, match="oracle"):
        open_store("oracle://127.0.0.1/retinue").create()
    with pytest.raises(errors.InputError, match="SQLite"):
        open_store("cassandra://127.0.0.1/retinue").back_up(Path("x"), lambda _done, _total: None)
    with pytest.raises(errors.InputError, match="empty"):
        open_store("").create()
