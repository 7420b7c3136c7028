"""The tables of a collection hold any names and numbers, in the order of the lists."""

import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.collect import collection, journal
from retinue.collect.progress import Item
from running import retinue
from support.collecting import ODD_ROWS, arguments_of, asked, odd, tables
from support.scripted_service import Said, enveloped, page, scripted
from support.thorough import examples

ALL_FORMATS = ("parquet", "csv", "jsonl", "graphml")


def test_unusual_rows_and_numbers_are_stored_unchanged(tmp_path: Path) -> None:
    """Every format and the mirror have them; rows without a possible name are not in graphs."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"
    more = ("--lists", "following,info", "--format", ",".join(ALL_FORMATS), "--into", str(mirror))
    with scripted(odd) as url:
        done = asked(url, folder, ["anna"], *more)
    assert (done.returncode, done.stderr) == (0, "")
    assert [(len(ODD_ROWS),)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")
    counts = "SELECT likes_count, video_count FROM {}%s.parquet' WHERE username = 'anna'"
    assert [(None, None)] == tables(folder, counts % "accounts")
    assert [(None, -5)] == tables(folder, counts % "profiles")
    graph = nx.read_graphml(folder / "graph.graphml")
    assert {"anna", "ben", "cut", "dora", "@eve"} == set(graph.nodes)
    assert graph.nodes["cut"]["display_name"] == "half an emoji \ufffd"
    assert "every invariant holds" in retinue("check", "--store", str(mirror))
    assert "complete" in retinue("collect", "verify", str(folder))


@settings(max_examples=examples(60))
@given(names=st.lists(st.tuples(st.text(max_size=8), st.text(max_size=8)), min_size=1, max_size=8))
def test_tables_can_be_read_with_any_names(
    tmp_path_factory: pytest.TempPathFactory, names: list[tuple[str, str]]
) -> None:
    """For every text: all rows are there, GraphML is well-formed, and its nodes are the accounts of the tables."""
    folder = tmp_path_factory.mktemp("names")
    rows = [{"username": username, "display_name": display_name} for username, display_name in names]
    progress = collection.open_collection(folder, "x", 1)
    read = journal.PageRecord("anna", "following", 0, None, 5, "", "", page(rows).body.decode())
    with closing(journal.Journal(folder / "pages.jsonl")) as writing:
        writing.add(read)
    progress.add(read)
    collection.write_tables(folder, ALL_FORMATS, [Item("anna", "following")], 9, lambda _: None)

    assert [(len(names),)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")
    accounts = {name for (name,) in tables(folder, "SELECT username FROM {}accounts.parquet'")}
    assert accounts == set(nx.read_graphml(folder / "graph.graphml").nodes)
    follows = tables(folder, "SELECT follower, followee FROM {}follows.jsonl'") if len(accounts) > 1 else []
    assert {name for pair in follows for name in pair} == (accounts if follows else set())


def test_two_spellings_of_a_name_are_one_account(tmp_path: Path) -> None:
    """As asked for and as answered, in two lists: one account in the graph, with the spelling that came last."""
    folder, mirror = tmp_path / "found", tmp_path / "mirror.db"

    def answer(_path: str, body: dict[str, Any]) -> Said:
        return page([{"username": "ÉMILE" if body["username"] == "anna" else "anna", "display_name": "x"}])

    with scripted(answer) as url:
        done = asked(url, folder, ["émile", "anna"], "--into", str(mirror), "--concurrency", "1")
    assert (done.returncode, done.stderr) == (0, "")
    assert [("ÉMILE", "anna"), ("anna", "ÉMILE")] == sorted(
        tables(folder, "SELECT follower, followee FROM {}follows.parquet'"), reverse=False
    )[::-1]


NAMES = st.sampled_from([f"p{number}" for number in range(8)])
READ = st.tuples(
    NAMES, st.sampled_from(["following", "followers"]), st.lists(NAMES, unique=True, max_size=6), st.booleans()
)


@settings(max_examples=examples(60))
@given(lists=st.lists(READ, min_size=1, max_size=8, unique_by=lambda read: read[:2]))
def test_graph_formats_keep_the_order_of_lists(tmp_path_factory: pytest.TempPathFactory, lists: list[Any]) -> None:
    """Lists that contradict each other keep their order too."""
    folder = tmp_path_factory.mktemp("lists")
    collection.open_collection(folder, "x", 1)
    with closing(journal.Journal(folder / "pages.jsonl")) as writing:
        for owner, direction, people, is_later in lists:
            data = {"cursor": 1, "has_more": False, f"user_{direction}": [{"username": name} for name in people]}
            body = enveloped(data).body.decode()
            writing.add(journal.PageRecord(owner, direction, 0, None, 1_000 + is_later, "", "", body))
    collection.write_tables(folder, ["parquet"], [], 2_000, lambda _: None)

    for owner, direction, people, _ in lists:
        ours, theirs = ("follower", "followee") if direction == "following" else ("followee", "follower")
        query = (
            f"SELECT {theirs}, {direction}_position FROM {{}}follows.parquet' WHERE {ours} = '{owner}' ORDER BY 2 DESC"
        )
        found = tables(folder, query)
        assert len({place for _, place in found}) == len(found)
        assert [name for name, _ in found if name in people] == [name for name in people if name != owner]


@pytest.mark.parametrize("kilobytes", [1, 40])
def test_a_full_disk_is_reported_and_loses_nothing(tmp_path: Path, kilobytes: int) -> None:
    """Whether in the middle of a page or while tables are written; afterwards the same command goes on."""
    folder = tmp_path / "found"

    def answer(_path: str, body: dict[str, Any]) -> Said:
        below = body.get("cursor") or 9
        rows = [{"username": f"u{below}.{number}", "display_name": ""} for number in range(100)]
        return page(rows, below - 1, has_more=below > 2)

    with scripted(answer) as url:
        arguments = arguments_of(url, folder, ["a", "b"])
        limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "-", sys.executable, "-m", "retinue", *arguments]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
        assert "File too large" in done.stderr
        assert asked(url, folder, ["a", "b"]).returncode == 0
    assert "complete" in retinue("collect", "verify", str(folder))
    assert [(1_600,)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")


def test_another_spelling_resumes_the_same_list(tmp_path: Path) -> None:
    """A second run that spells a name differently asks nothing again."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        asked(url, folder, ["émile"])
        asked(url, folder, ["ÉMILE"])
    assert [(len(ODD_ROWS),)] == tables(folder, "SELECT count(*) FROM {}rows.parquet'")


def test_tables_are_written_if_standard_output_fails(tmp_path: Path) -> None:
    """The tables are complete although the progress cannot be printed."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        command = [sys.executable, "-m", "retinue", *arguments_of(url, folder, ["anna"])]
        subprocess.run(["bash", "-c", '"$@" > /dev/full', "-", *command], capture_output=True, check=False)
    assert "complete" in retinue("collect", "verify", str(folder))


def test_no_table_is_older_than_the_manifest(tmp_path: Path) -> None:
    """Formats that a later run does not name are rewritten; leftovers of a kill are removed."""
    folder = tmp_path / "found"
    with scripted(odd) as url:
        asked(url, folder, ["anna"], "--format", "csv,graphml")
        (folder / "tables.new").mkdir()
        (folder / "tables.new" / "tables.duckdb").write_text("half")
        asked(url, folder, ["anna", "ben"])
    assert not (folder / "tables.new").exists()
    assert "complete" in retinue("collect", "verify", str(folder))
    assert [(2,)] == tables(folder, "SELECT count(DISTINCT owner) FROM {}rows.csv'")
    assert "ben" in nx.read_graphml(folder / "graph.graphml")
    assert {"rows.csv", "rows.parquet", "graph.graphml"} <= set(
        json.loads((folder / "manifest.json").read_text())["files"]
    )
