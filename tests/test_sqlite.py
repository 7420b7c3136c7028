"""Promises of the embedded store: query plans, transactions and files."""

import asyncio
import os
import stat
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from retinue import errors
from retinue.model import Direction, FollowRecord, PageRequest, Row
from retinue.store.open import open_store
from retinue.store.sqlite import files
from support.frozen_clock import FrozenClock, TickingClock
from support.service import problems_of

NOW = 1_700_000_000


@pytest.fixture
def graph_file(store_path: Path) -> Path:
    """An empty store's graph file."""
    open_store(str(store_path)).create()
    return store_path


def plan_of(graph_file: Path, query: str) -> list[str]:
    """Return SQLite's plan of a query."""
    connection = apsw.Connection(str(graph_file))
    steps = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", (1,) * query.count("?"))]
    connection.close()
    return steps


def test_write_transactions_are_limited_in_time(graph_file: Path) -> None:
    """A batch that would hold the write lock too long is committed in parts, in order and whole."""
    writer = open_store(str(graph_file)).writer(TickingClock(step=0.03))
    commits: list[int] = []

    def counted() -> bool:
        commits.append(1)
        return False

    writer._engine._connection.set_commit_hook(counted)
    verdicts = asyncio.run(writer.add_follows([FollowRecord("a", f"f{n}", 100 + n, NOW) for n in range(30)]))

    assert len(verdicts) == 30
    assert 8 <= len(commits) <= 15
    writer.close()


def test_an_error_inside_a_batch_is_rolled_back(graph_file: Path) -> None:
    """A failing transaction is rolled back, and the writer goes on afterwards as if it had not been."""
    writer = open_store(str(graph_file)).writer(FrozenClock())
    bad = FollowRecord("a", "c", 5, "soon")  # type: ignore[arg-type]  # a fault of a caller

    with pytest.raises(errors.StoreUnavailable):
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW), bad]))

    verdicts = asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW), FollowRecord("a", "c", 5, NOW)]))
    assert [verdict.value for verdict in verdicts] == ["accepted", "accepted"]
    writer.close()


def test_waiting_for_another_writer_ends_in_a_clear_error(graph_file: Path) -> None:
    """A lock that is never given back is `StoreUnavailable`, not a foreign exception."""
    writer = open_store(str(graph_file)).writer(FrozenClock())
    writer._engine._connection.set_busy_timeout(1)
    hog = apsw.Connection(str(graph_file))
    hog.execute("BEGIN IMMEDIATE")

    with pytest.raises(errors.StoreUnavailable):
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))

    hog.close()
    writer.close()


def test_pages_are_read_while_another_connection_writes(graph_file: Path, clock: FrozenClock) -> None:
    """A reader sees the state before an open write transaction, without waiting."""
    writer = open_store(str(graph_file)).writer(clock)
    asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))
    reader = open_store(str(graph_file)).graph(clock)
    writer._engine._connection.execute("BEGIN IMMEDIATE")
    writer._engine._connection.execute("DELETE FROM following")

    account = asyncio.run(reader.find_account("a"))
    assert account is not None
    assert [
        row.username for row in asyncio.run(reader.read(PageRequest(account.id, Direction.FOLLOWING, NOW, 5))).rows
    ] == ["b"]

    writer._engine._connection.execute("ROLLBACK")
    reader.close()
    writer.close()


def test_only_the_owner_may_read_a_store(graph_file: Path) -> None:
    """Both files have mode 0600 from their first byte."""
    for path in (graph_file, files.access_path(graph_file)):
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)


def test_settling_does_not_wait_for_readers(graph_file: Path) -> None:
    """A reader that stays where it is holds up neither the end of an import nor what it promises."""
    waits: list[int] = []
    writer = open_store(str(graph_file)).writer(FrozenClock())

    def wait(times: int) -> bool:
        """SQLite's question whether to go on waiting for others."""
        waits.append(times)
        return False

    writer._engine._connection.set_busy_handler(wait)
    with closing(apsw.Connection(str(graph_file))) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM account").fetchall()
        asyncio.run(writer.add_follows([FollowRecord("a", "b", 5, NOW)]))
        asyncio.run(writer.settle())

        assert [] == waits
        writer._engine._connection.execute("PRAGMA wal_checkpoint(RESTART)")  # which would wait for this reader
        assert [] != waits
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
