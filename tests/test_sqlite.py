"""Promises of the embedded store: query plans, transactions and files."""

import asyncio
import gc
import os
import re
import stat
from contextlib import closing, nullcontext
from pathlib import Path

import apsw
import pytest

from retinue import errors
from retinue.model import Direction, FollowRecord, PageRequest, Row
from retinue.store.layout.tables import TABLES, Table
from retinue.store.open import open_store
from retinue.store.sqlite import engine, files, served_graph
from retinue.store.sqlite.engine import SqliteEngine
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.waiting import WaitingWriters
from retinue.store.writer import EngineGraphWriter, GroupSize
from support.frozen_clock import FrozenClock, TickingClock
from support.service import problems_of

NOW = 1_700_000_000


@pytest.fixture
def graph_file(store_path: Path) -> Path:
    """An empty store's graph file."""
    open_store(str(store_path)).create()
    return store_path


def opened_writer(graph_file: Path, clock: FrozenClock) -> tuple[EngineGraphWriter, apsw.Connection]:
    """A writer, and its connection."""
    opened = SqliteEngine(graph_file, graph_file.with_name("rows"))
    return EngineGraphWriter(opened, clock), opened._connection


BY_KEY = re.compile(r"SEARCH (t|\w+) USING (INTEGER )?PRIMARY KEY \((rowid|key)(=\?|>\? AND (rowid|key)<\?)\)")


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_every_statement_uses_keys_alone(graph_file: Path, table: Table) -> None:
    """No statement of the engine walks a table or sorts, whatever is asked for."""
    with closing(apsw.Connection(str(graph_file))) as connection:
        for statement in engine._STATEMENTS[table]:
            plan = [
                row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", (1,) * statement.count("?"))
            ]
            assert [] == [step for step in plan if not BY_KEY.fullmatch(step) and "asked VIRTUAL" not in step], (
                statement
            )


@pytest.mark.parametrize("direction", Direction)
def test_a_page_is_one_range_of_keys(graph_file: Path, direction: Direction) -> None:
    """A page is read by one statement, in the order of its rows."""
    lists = served_graph._lists(direction, 0)
    with closing(apsw.Connection(str(graph_file))) as connection:
        plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {lists.read}", (1, NOW))]
        assert [f"SEARCH {direction.value} USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"] == plan


def test_a_group_follows_from_the_time_of_those_before() -> None:
    """Slow groups are followed by smaller ones, quick ones by larger ones; a small quick one says nothing."""
    groups, sizes = GroupSize(4_000), []
    for records, seconds in ((500, 0.02), (1_000, 0.02), (2_000, 0.0), (4_000, 0.05), (4_000, 0.4), (9, 0.01), (9, 1)):
        groups.measure(records, 0.1, seconds)
        sizes.append(groups.within(0.1))

    assert [1_000, 2_000, 4_000, 4_000, 1_000, 1_000, 100] == sizes


@pytest.mark.parametrize(("step", "is_awaited", "count"), [(0.05, True, 3), (0.2, True, 30), (0.2, False, 1)])
def test_write_transactions_are_limited_in_time(graph_file: Path, step: float, count: int, *, is_awaited: bool) -> None:
    """A batch that would hold the write lock too long is committed in parts, shorter ones if another writer waits."""
    commits: list[int] = []

    def counted() -> bool:
        commits.append(1)
        return False

    writer, connection = opened_writer(graph_file, TickingClock(step))
    connection.set_commit_hook(counted)
    other = WaitingWriters(graph_file)
    with closing(writer), closing(other), other.announced() if is_awaited else nullcontext():
        records = [FollowRecord("a", f"f{n}", 1_000_000 + n, NOW) for n in range(3_500)]
        verdicts = asyncio.run(writer.add_follows(records))

    assert {"accepted"} == {verdict.value for verdict in verdicts}
    assert (3_500, count) == (len(verdicts), len(commits))


def test_a_waiting_writer_is_seen_until_it_has_its_turn(graph_file: Path) -> None:
    """The holder of the lock sees the others only, and those of other stores of the folder not at all."""
    beside = graph_file.with_name("beside.db")
    beside.touch()
    with closing(WaitingWriters(graph_file)) as one, closing(WaitingWriters(graph_file)) as other:
        with one.announced(), closing(WaitingWriters(beside)) as stranger:
            assert (one.is_any(), other.is_any(), stranger.is_any()) == (False, True, False)
            with other.announced():
                assert one.is_any()
        assert not other.is_any()


def test_a_writer_that_is_never_closed_keeps_no_folder_open(graph_file: Path) -> None:
    """Nor does closing one twice close what another has opened since."""

    def open_folders() -> int:
        targets = [str(each.readlink()) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
        return targets.count(str(graph_file.parent.resolve()))

    one = WaitingWriters(graph_file)
    assert open_folders() == 1
    one.close()
    with closing(WaitingWriters(graph_file)):
        one.close()
        assert (open_folders(), one.is_any()) == (1, True)
    other = WaitingWriters(graph_file)
    del other
    gc.collect()
    assert open_folders() == 0


def test_units_of_work_stay_short_for_a_while_after_a_wait(graph_file: Path) -> None:
    """A writer that often has little to write does not meet a long unit each time."""
    with closing(SqliteEngine(graph_file, graph_file.with_name("rows"))) as opened:
        with closing(WaitingWriters(graph_file)) as other, other.announced():
            short = opened.group_seconds()
        seconds = [opened.group_seconds() for _ in range(engine._SHORT_UNITS)]

    assert seconds[:-1] == [short] * (engine._SHORT_UNITS - 1)
    assert seconds[-1] > short


def test_an_error_inside_a_batch_is_rolled_back(graph_file: Path) -> None:
    """A failing transaction is rolled back, and the writer goes on afterwards as if it had not been."""
    writer, _ = opened_writer(graph_file, FrozenClock())
    bad = FollowRecord("a", "c", 5, "soon")  # type: ignore[arg-type]  # a fault of a caller

    with pytest.raises(errors.StoreUnavailable):
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW), bad]))

    verdicts = asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW), FollowRecord("a", "c", 5, NOW)]))
    assert [verdict.value for verdict in verdicts] == ["accepted", "accepted"]
    writer.close()


def test_waiting_for_another_writer_ends_in_a_clear_error(graph_file: Path) -> None:
    """A lock that is never given back is `StoreUnavailable`, not a foreign exception."""
    writer, connection = opened_writer(graph_file, FrozenClock())
    connection.set_busy_timeout(1)
    hog = apsw.Connection(str(graph_file))
    hog.execute("BEGIN IMMEDIATE")

    with pytest.raises(errors.StoreUnavailable):
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))

    hog.close()
    writer.close()


def test_pages_are_read_while_another_connection_writes(graph_file: Path, clock: FrozenClock) -> None:
    """A reader sees the state before an open write transaction, without waiting."""
    writer, connection = opened_writer(graph_file, clock)
    asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))
    reader = open_store(str(graph_file)).graph(clock)
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("DELETE FROM following")

    account = asyncio.run(reader.find_account("a"))
    assert account is not None
    assert [
        row.username for row in asyncio.run(reader.read(PageRequest(account.id, Direction.FOLLOWING, NOW, 5))).rows
    ] == ["b"]

    connection.execute("ROLLBACK")
    reader.close()
    writer.close()


def test_only_the_owner_may_read_a_store(graph_file: Path) -> None:
    """Both files have mode 0600 from their first byte."""
    for path in (graph_file, files.access_path(graph_file)):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_settling_does_not_wait_for_readers(graph_file: Path) -> None:
    """A reader that stays where it is holds up neither the end of an import nor what it promises."""
    waits: list[int] = []
    writer, connection = opened_writer(graph_file, FrozenClock())

    def wait(times: int) -> bool:
        """SQLite's question whether to go on waiting for others."""
        waits.append(times)
        return False

    connection.set_busy_handler(wait)
    with closing(apsw.Connection(str(graph_file))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM account").fetchall()
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))
        asyncio.run(writer.settle())

        assert [] == waits
        connection.execute("PRAGMA wal_checkpoint(RESTART)")  # which would wait for this reader
        assert [] != waits
    writer.close()


def test_an_unknown_account_is_damage(graph_file: Path, clock: FrozenClock) -> None:
    """Accounts are never removed, so a list that names one without a row is damaged, and not a shorter list."""
    with (
        closing(SqliteGraph(graph_file, clock, Row)) as graph,
        pytest.raises(errors.StoreUnavailable, match="table account, row 12345"),
    ):
        asyncio.run(graph.reader.cache.rows([12345]))


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
