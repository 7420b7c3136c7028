"""Exports: what is written, and that importing it gives an equal graph, in a store of either kind."""

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import duckdb
import networkx as nx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from retinue.errors import InputError
from retinue.export import files
from retinue.ingest.importer import Import, import_accounts, import_follows
from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS
from retinue.ingest.rejects import RejectsFile
from retinue.ingest.tables import open_table
from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    FollowRecord,
    PageRequest,
    Row,
    Visibility,
)
from retinue.store.contract import GraphReader
from retinue.store.open import open_store
from running import retinue
from support.backends import CLUSTER, Backend, BackendFactory, FolderBackend, backend_factory
from support.frozen_clock import FrozenClock
from support.stories import ACCOUNTS, ALL_NAMES, FOLLOWS, Told, pages
from support.waiting import waiting_for

NOW = 100
TABLES = ("parquet", "csv", "jsonl")
STORIES = st.lists(st.builds(Told, FOLLOWS | FOLLOWS | FOLLOWS | ACCOUNTS, st.integers(0, 12)), max_size=60)


@pytest.fixture(params=["folder", CLUSTER])
def new_other_backend(request: pytest.FixtureRequest) -> BackendFactory:
    """Return a factory of stores that an export is imported into."""
    return backend_factory(request.param, request)


@contextmanager
def exported(backend: Backend, kind: str, *, with_ended: bool = True) -> Iterator[Path]:
    """The folder of an export."""
    with tempfile.TemporaryDirectory() as parent, closing(backend.open_whole()) as graph:
        folder = Path(parent) / "exported"
        files.export(graph, folder, files.ExportOptions(kind, with_ended), lambda _: None)
        yield folder


def told(backend: Backend, events: list[Event], rows: list[FollowRecord] = []) -> None:  # noqa: B006 - is not changed
    """Tell a store some events, and rows of a file."""
    with closing(backend.open_writer(FrozenClock(NOW))) as writer:
        asyncio.run(writer.apply(events, NOW))
        asyncio.run(writer.add_follows(rows))


def imported(backend: Backend, folder: Path, kind: str) -> None:
    """Import an export, of which nothing may be rejected."""

    async def load() -> None:
        with (
            closing(backend.open_writer(FrozenClock(NOW))) as writer,
            closing(RejectsFile(folder / "rejects.jsonl")) as rejects,
            closing(open_table(folder / f"accounts.{kind}", ACCOUNT_COLUMNS)) as accounts,
            closing(open_table(folder / f"follows.{kind}", FOLLOW_COLUMNS)) as follows,
        ):
            run = Import(writer, NOW, rejects, {})
            await import_accounts(run, "accounts", accounts, lambda _: None)
            await import_follows(run, "follows", follows, lambda _: None)
            assert rejects.count == 0

    asyncio.run(load())


def shown_by(backend: Backend) -> dict[str, Any]:
    """All that a store shows, with positions: today's lists and those as of the seconds before."""
    with closing(backend.open_graph(FrozenClock(NOW))) as graph:
        return asyncio.run(_shown_by(graph))


async def _shown_by(graph: GraphReader[Row]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name in ALL_NAMES:
        account = await graph.find_account(name)
        if account is not None:
            lists = [
                await pages(graph, PageRequest(account.id, direction, NOW, 1, as_of))
                for direction in Direction
                for as_of in (None, *range(NOW - 12, NOW + 1, 3))
            ]
            found[name] = account.visibility, await graph.profile(account.id), lists
    return found


def rows_in(folder: Path, kind: str = "parquet") -> dict[str, list[tuple[Any, ...]]]:
    """The rows of both tables; what was never said is the same as what is empty."""
    found = {}
    for table in ("accounts", "follows"):
        rows = duckdb.execute(f"FROM '{folder / table}.{kind}'").fetchall()
        found[table] = [tuple(None if value == "" else value for value in row) for row in rows]
    return found


def test_an_export_gives_an_equal_graph(new_backend: BackendFactory, new_other_backend: BackendFactory) -> None:
    """For every history, from each kind of store into each: the same accounts, rows, order, cursors and past."""

    @settings(max_examples=min(new_backend.times(60), new_other_backend.times(60)))
    @given(story=STORIES, kind=st.sampled_from(TABLES))
    @example(story=[Told(FollowEvent(key, "3 3", 0), 0) for key in ("1", "2", "ann")], kind="csv")
    def holds(story: list[Told], kind: str) -> None:
        backend = new_backend()
        told(backend, [one.at(NOW) for one in story])
        expected = shown_by(backend)
        with exported(backend, kind) as folder, exported(backend, "parquet") as written:
            backend.close()
            other = new_other_backend()
            imported(other, folder, kind)
            assert expected == shown_by(other)
            with exported(other, "parquet") as again:
                assert rows_in(written) == rows_in(again)
        assert other.problems() == []
        other.close()

    holds()


def test_an_import_keeps_free_positions(new_backend: BackendFactory) -> None:
    """One that is taken, or later than now, is as if it were not there."""
    backend = new_backend()
    rows = [
        FollowRecord("a", "b", 50, NOW, None, 40, 41),
        FollowRecord("a", "c", 50, NOW, None, 40, NOW + 1),
        FollowRecord("a", "d", 50, NOW, 60, 39, 60),
    ]
    told(backend, [], rows)

    with exported(backend, "parquet") as folder:
        assert rows_in(folder)["follows"] == [
            ("a", "c", 50, None, 50, 50),
            ("a", "b", 50, None, 40, 41),
            ("a", "d", 50, 60, 39, 60),
        ]
    assert backend.problems() == []
    backend.close()


def test_ended_follows_are_exported_only_with_history(new_backend: BackendFactory) -> None:
    """Without history an export has present follows, hidden ones included, and no erased account."""
    backend = new_backend()
    told(
        backend,
        [
            *(FollowEvent("1", key, at) for at, key in enumerate(("2", "3 3", "ann", "Ann"), start=1)),
            FollowEvent("1", "2", 50, is_follow=False),
            AccountEvent(AccountRecord(key="3 3", username="2", display_name="Zoë", visibility=Visibility.PRIVATE), 50),
            ErasureEvent("Ann", NOW),
        ],
    )
    with exported(backend, "parquet", with_ended=False) as folder:
        current = rows_in(folder)
    with exported(backend, "parquet") as folder:
        history = rows_in(folder)
    backend.close()

    assert current["follows"] == [("1", "ann", 3, None, 3, 3), ("1", "3 3", 2, None, 2, 2)]
    assert history["follows"] == [*current["follows"], ("1", "2", 1, 50, 1, 1)]
    assert [row[:4] for row in current["accounts"]] == [
        ("1", "1", None, "public"),
        ("2", None, None, "public"),
        ("3 3", "2", "Zoë", "private"),
        ("ann", "ann", None, "public"),
    ]


def test_every_text_survives_every_format(new_backend: BackendFactory) -> None:
    """For every display name: quotes, line ends, commas and whatever else there is."""

    @settings(max_examples=new_backend.times(40))
    @given(name=st.text(), kind=st.sampled_from(TABLES))
    @example(name='a "b", c\r\nd\n\r e', kind="csv")
    @example(name="\n" * 1_000, kind="csv")
    @example(name="NULL", kind="csv")
    @example(name="\\N", kind="csv")
    def holds(name: str, kind: str) -> None:
        name = name.replace("\0", "")
        backend = new_backend()
        told(backend, [AccountEvent(AccountRecord(key="1", display_name=name, bio_description=name), 1)])
        with exported(backend, kind) as folder, exported(backend, "parquet") as written:
            backend.close()
            other = new_backend()
            imported(other, folder, kind)
            with exported(other, "parquet") as again:
                assert rows_in(written) == rows_in(again)
        other.close()

    holds()


def test_networkx_reads_exported_graphml(new_backend: BackendFactory) -> None:
    """Nodes by key with what is said of them, an edge for each interval; what XML cannot carry is marked."""
    backend = new_backend()
    told(
        backend,
        [
            AccountEvent(AccountRecord(key="1", display_name="<a&b>\x01\r\n", is_verified=True, likes_count=7), 1),
            FollowEvent("1", "2", 5),
            FollowEvent("1", "2", 7, is_follow=False),
            FollowEvent("1", "2", 9),
        ],
    )
    with exported(backend, "graphml") as folder:
        graph = nx.read_graphml(folder / "graph.graphml", force_multigraph=True)
    backend.close()

    assert graph.is_directed()
    assert graph.nodes["1"] == {
        "username": "1",
        "display_name": "<a&b>\ufffd\r\n",
        "visibility": "public",
        "is_verified": True,
        "likes_count": 7,
    }
    assert [data for _, _, data in graph.edges(data=True)] == [
        {"followed_at": 9, "following_position": 9, "followers_position": 9},
        {"followed_at": 5, "ended_at": 7, "following_position": 5, "followers_position": 5},
    ]


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A store with a small graph."""
    retinue("generate", "--accounts", "50", "--follows", "500", "-o", tmp_path / "sample")
    tables = tmp_path / "sample"
    store = tmp_path / "graph.db"
    retinue("import", "--store", str(store), "--accounts", str(tables / "accounts.csv"), str(tables / "follows.csv"))
    return store


@pytest.mark.parametrize("kind", TABLES)
def test_an_exported_graph_can_be_imported(sample: Path, tmp_path: Path, kind: str) -> None:
    """`retinue export` says what it wrote, and `retinue import` reads all of it; only the owner can look into it."""
    folder, other = tmp_path / "exported", tmp_path / "other.db"
    said = retinue("export", str(folder), "--store", str(sample), "--format", kind, "--history")
    assert said == f"Exported 50 accounts and 500 follows to {folder} (accounts.{kind}, follows.{kind}).\n"
    assert folder.stat().st_mode & 0o777 == 0o700

    tables = ("--accounts", str(folder / f"accounts.{kind}"), str(folder / f"follows.{kind}"))
    tallies = json.loads(retinue("import", "--store", str(other), *tables, "--json"))
    assert [tally["accepted"] for tally in tallies.values()] == [50, 500]
    retinue("export", str(tmp_path / "again"), "--store", str(other), "--format", kind, "--history")
    assert rows_in(folder, kind) == rows_in(tmp_path / "again", kind)


def test_an_export_replaces_nothing(sample: Path, tmp_path: Path) -> None:
    """Existing files and folders stay, and a failed attempt leaves nothing."""
    (tmp_path / "there").write_text("precious")
    for folder, reason in (
        (tmp_path / "there", "already exists"),
        (tmp_path / "no" / "folder", "does not exist"),
    ):
        before = sorted(tmp_path.iterdir())
        with (
            closing(FolderBackend()) as backend,
            closing(backend.open_whole()) as graph,
            pytest.raises(InputError, match=reason),
        ):
            files.export(graph, folder, files.ExportOptions("csv"), lambda _: None)
        assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there").read_text() == "precious"


def test_a_stopped_export_leaves_no_files(sample: Path, tmp_path: Path) -> None:
    """Stopped while it reads, it has made no folder."""

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    before = sorted(tmp_path.iterdir())
    with closing(open_store(str(sample)).scan()) as graph, pytest.raises(KeyboardInterrupt):
        files.export(graph, tmp_path / "exported", files.ExportOptions("csv"), stop)
    assert sorted(path for path in tmp_path.iterdir() if ".db-" not in path.name) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_interrupted_export_leaves_no_files(tmp_path: Path, number: signal.Signals) -> None:
    """The command removes what it has begun, and says by its exit code what stopped it."""
    retinue("generate", "--accounts", "5000", "--follows", "200000", "-o", tmp_path / "sample")
    retinue("import", "--store", str(tmp_path / "graph.db"), str(tmp_path / "sample" / "follows.csv"))
    folder = tmp_path / "exports"
    folder.mkdir()
    command = [sys.executable, "-m", "retinue", "export", str(folder / "x"), "--store", str(tmp_path / "graph.db")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        waiting_for(lambda: list(folder.iterdir()))
        process.send_signal(number)

    assert (process.returncode, list(folder.iterdir())) == (128 + number, [])
