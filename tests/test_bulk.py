"""Large imports: loading at once and storing row by row are twins, whatever was there before."""

import asyncio
import csv
import gzip
import io
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import apsw
import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retinue.clock import SystemClock
from retinue.errors import InputError
from retinue.export.files import ExportOptions, export
from retinue.ingest import bulk, staging
from retinue.ingest.importer import Import, ImportCounts, import_accounts, import_follows
from retinue.ingest.parquet import ParquetTable
from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS
from retinue.ingest.rejects import RejectsFile
from retinue.ingest.tables import open_table
from retinue.model import Direction, ErasureEvent, FollowEvent, PageRequest
from retinue.names import fault_in_username, fold
from retinue.store.open import open_store
from retinue.store.sqlite import check_lists, files, inserting, loading, placing
from retinue.store.sqlite.check_lists import TABLES, entries_of
from retinue.store.sqlite.writer import SqliteGraphWriter
from running import Refused, Session, fresh_token, running_server
from support.frozen_clock import FrozenClock
from support.service import problems_of

NOW = 1_700_000_000
EARLY = 1_600_000_000
SECONDS = range(60, 100)

Row = tuple[str, ...]


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sets(st.sampled_from(SECONDS)), st.lists(st.sampled_from(SECONDS), max_size=20)), max_size=4)
)
def test_bulk_positions_equal_those_found_one_by_one(lists: list[tuple[set[int], list[int]]]) -> None:
    """For every list with occupied seconds, and follows from newest to oldest."""
    wanted, taken, expected = [], [], []
    for number, (occupied, seconds) in enumerate(lists):
        taken += [(number << 33) + second for second in sorted(occupied)]
        found = set(occupied)
        places = []
        for second in sorted(seconds, reverse=True):
            place = next(place for place in range(second, 0, -1) if place not in found)
            found.add(place)
            places.append(place)
        wanted += [(number, second) for second in sorted(seconds)]
        expected += places[::-1]
    table = np.array(wanted, np.int64).reshape(-1, 2)

    assert expected == placing.place(table[:, 0], table[:, 1], np.array(taken, np.int64)).tolist()


@settings(max_examples=200)
@given(st.lists(st.dictionaries(st.sampled_from(SECONDS), st.booleans()), max_size=4))
def test_slot_runs_are_as_long_as_possible(lists: list[dict[int, bool]]) -> None:
    """For every set of occupied seconds, seen or not."""
    rows = [(number, second, seen[second]) for number, seen in enumerate(lists) for second in sorted(seen)]
    expected = []
    for number, seen in enumerate(lists):
        for first in sorted(second for second in seen if second - 1 not in seen):
            last = next(second for second in count(first) if second + 1 not in seen)
            if last > first or not seen[first]:
                expected.append((number, first, last))
    table = np.array(rows, np.int64).reshape(-1, 3)
    found = placing.stretches(table[:, 0], table[:, 1], table[:, 2].astype(bool))

    assert expected == list(zip(*(column.tolist() for column in found), strict=True))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, inserting.ROWS_AT_ONCE + 1])
def test_any_number_of_rows_is_inserted(count: int) -> None:
    """Many in one statement, and the rest one by one, each with its constant."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE made (one, constant, other)")
    numbers = np.arange(count)
    inserting.insert(connection, "made", (numbers, 2 * numbers), "(?, 'x', ?)")

    assert [(n, "x", 2 * n) for n in range(count)] == connection.execute("SELECT * FROM made ORDER BY rowid").fetchall()
    connection.close()


# --- whole imports --------------------------------------------------------------------------------------------------

ACCOUNTS = [("a", "public"), ("b", "private"), ("c", "withheld"), ("d", "following_hidden"), ("e", "public")]
NAMES = [name for name, _ in ACCOUNTS] + ["f", "g", "новое"]


def write(path: Path, rows: Sequence[Row], columns: str) -> Path:
    """A CSV file, or a Parquet file with the very same texts."""
    text = "".join(",".join(row) + "\n" for row in [tuple(columns.split(",")), *rows])
    table = path.with_suffix(".csv")
    table.write_text(text)
    if path.suffix == ".parquet":
        names = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in columns.split(",")) + "}"
        source = f"read_csv('{table}', auto_detect = false, header = true, columns = {names})"
        duckdb.sql(f"COPY (FROM {source}) TO '{path}' (FORMAT parquet)")
    return path


class Site:
    """A store that is filled one way or the other."""

    def __init__(self, folder: Path, *, at_once: bool) -> None:
        folder.mkdir()
        self.store = str(folder / "graph.db")
        self._at_once = at_once
        open_store(self.store).create()
        self._clock = FrozenClock(NOW)
        self.writer = SqliteGraphWriter(Path(self.store), self._clock)
        self.rejects = folder / "rejects.jsonl"

    def load(self, path: Path, columns: Any = FOLLOW_COLUMNS) -> ImportCounts:
        """Import a file; what came of it."""
        rejects = RejectsFile(self.rejects)
        run = Import(self.writer, NOW, rejects, {}, None, self.writer if self._at_once else None)
        importing = import_follows if columns is FOLLOW_COLUMNS else import_accounts
        with closing(open_table(path, columns)) as table, closing(rejects):
            asyncio.run(importing(run, "file", table, lambda _position: None))
        return run.counts["file"]

    def rejected(self) -> list[str]:
        """The lines of the rejects file, if there is one."""
        return self.rejects.read_text().split("\n")[:-1] if self.rejects.exists() else []

    def contents(self) -> dict[str, list[Any]]:
        """All that is said of follows, accounts by key."""
        with closing(files.open_for_reading(Path(self.store), files.GRAPH)) as connection:
            execute = files.executor(connection)
            keys = dict(execute("SELECT id, ifnull(key, '') FROM account").fetchall())
            found: dict[str, list[Any]] = {
                table: sorted(
                    (keys[owner], entry.position, keys[entry.account], entry.second)
                    for owner, entry in entries_of(execute, table)
                )
                for table in TABLES
            }
            for table in ("pair", "ended"):
                rows = execute(f"SELECT * FROM {table}").fetchall()
                found[table] = sorted((keys[one], keys[other], *map(repr, rest)) for one, other, *rest in rows)
            for table in ("following_taken", "followers_taken"):
                rows = execute(f"SELECT * FROM {table}").fetchall()
                found[table] = sorted((keys[owner], first, last) for owner, first, last in rows)
            found["account"] = sorted(keys.values())
        return found


@pytest.fixture
def both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes two stores with the same accounts and history; every file is large for the second."""
    monkeypatch.setattr(bulk, "LARGE_ROWS", 0)
    monkeypatch.setattr(staging, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(staging, "NAMES_AT_ONCE", 3)
    monkeypatch.setattr(staging, "NAMES_IN_MEMORY", 5)
    monkeypatch.setattr(staging, "SAMPLED_ROWS", 4)
    numbers = count()

    def make(history: list[FollowEvent]) -> tuple[Site, Site, Path]:
        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        accounts = write(folder / "accounts.csv", ACCOUNTS, "username,visibility")
        sites = []
        for name, at_once in (("slow", False), ("quick", True)):
            site = Site(folder / name, at_once=at_once)
            site.load(accounts, ACCOUNT_COLUMNS)
            asyncio.run(site.writer.apply(history, NOW))
            sites.append(site)
        return sites[0], sites[1], folder

    return make


PAIRS = st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda pair: pair[0] != pair[1])
HISTORY = st.lists(
    st.builds(
        lambda pair, at, is_follow: FollowEvent(pair[0], pair[1], at, is_follow),
        PAIRS,
        st.integers(EARLY, EARLY + 12),
        st.booleans(),
    ),
    max_size=12,
)
SECONDS_AND_NONE = st.one_of(st.integers(EARLY, EARLY + 12), st.just(NOW))
USUAL = st.lists(st.tuples(PAIRS, SECONDS_AND_NONE), unique_by=lambda row: row[0], max_size=40).map(
    lambda rows: [(*pair, "" if at == NOW else str(at)) for pair, at in sorted(rows, key=lambda row: -row[1])]
)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY, rows=USUAL, kind=st.sampled_from([".csv", ".parquet"]), long=st.booleans())
def test_ordinary_rows_are_stored_alike(
    both: Any, monkeypatch: pytest.MonkeyPatch, history: list[FollowEvent], rows: list[Row], kind: str, long: bool
) -> None:
    """Lists, positions, pairs, slot runs and counts are the same as row by row, for every history."""
    monkeypatch.setattr(loading, "_LONG", 0 if long else 10_000)
    monkeypatch.setattr(loading, "MUCH_LONGER", 1)
    known = {(event.follower, event.followee) for event in history}
    rows = [row for row in rows if row[:2] not in known]
    slow, quick, folder = both(history)
    path = write(folder / f"follows{kind}", rows, "follower,followee,followed_at")

    assert slow.load(path) == quick.load(path)
    assert slow.contents() == quick.contents()
    assert [] == problems_of(quick.store)


UNUSUAL = st.sampled_from(
    [
        ("a", "a", str(EARLY)),
        ("", "a", str(EARLY)),
        ("two words", "a", str(EARLY)),
        ("@e", "E", ""),
        ("a", "f", "yesterday"),
        ("a", "f", "0"),
        ("a", "f", "-5"),
        ("a", "f", "1.6e9"),
        ("a", "f", str(NOW + 5)),
        ("a", "f", str(NOW)),
        ("a", "g", "99999999999"),
        ("a", "g", "1600000000000"),
        ("a", "g", "9999-12-31T00:00:00Z"),
        ("a", "g", "1970-01-01T00:00:00Z"),
        ("a", "g", "2020-09-13T24:00:00Z"),
        ("a", "g", "2020-09-13T23:59:60Z"),
        (" a", "g ", f" {EARLY} "),
        ("\ta", "\u00a0g", f"{EARLY}\t"),
        (" ", "g", " "),
        ("a", "f", " "),
        ("erased", "g", str(EARLY)),
        ("b", "новое", "7"),
    ]
)
FORMS = st.sampled_from(["{}", "{}.0", "{}.", "0{}", " {}", "", "iso", "iso+00:00", "isoZ"])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=HISTORY,
    rows=st.lists(st.one_of(st.tuples(PAIRS, st.integers(0, 300), FORMS), UNUSUAL), max_size=40),
    kind=st.sampled_from([".csv", ".parquet"]),
    again=st.booleans(),
)
@example(history=[FollowEvent("a", "f", EARLY, True)], rows=[("a", "f", str(NOW))], kind=".csv", again=False)
def test_any_rows_are_counted_alike(
    both: Any, history: list[FollowEvent], rows: list[Any], kind: str, again: bool
) -> None:
    """Counts, rejects and history are the same as row by row for every mixture, also the second time."""
    slow, quick, folder = both(history)
    for site in (slow, quick):
        site.load(write(folder / "erased.csv", [("erased", "public")], "username,visibility"), ACCOUNT_COLUMNS)
        asyncio.run(site.writer.apply([ErasureEvent("erased", NOW)], NOW))
    spelled = [row if len(row) == 3 and isinstance(row[0], str) else spell(*row) for row in rows]
    path = write(folder / f"follows{kind}", spelled, "follower,followee,followed_at")
    for _ in range(1 + again):
        assert slow.load(path) == quick.load(path)
        assert slow.rejected() == quick.rejected()
        first, second = slow.contents(), quick.contents()
        for table in ("following", "followers", "following_aside", "followers_aside"):
            assert follows_in(first[table]) == follows_in(second[table])
        assert [row[:3] for row in first["pair"] if row[2] != "None"] == [
            row[:3] for row in second["pair"] if row[2] != "None"
        ]
        assert first["account"] == second["account"]
        assert [] == problems_of(quick.store)


MORE = st.sampled_from(["", "", "same", str(EARLY + 4), str(EARLY + 1001), str(NOW), str(NOW + 1), "x"])


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.tuples(PAIRS, st.integers(0, 5), FORMS, MORE, MORE, MORE), max_size=40),
    kind=st.sampled_from([".csv", ".parquet"]),
    columns=st.sets(st.integers(0, 2)),
)
def test_rows_with_ends_and_positions_are_counted_alike(
    both: Any, rows: list[Any], kind: str, columns: set[int]
) -> None:
    """For every mixture, whichever of these columns a file has."""
    slow, quick, folder = both([])
    names = ["ended_at", "following_position", "followers_position"]
    head = ",".join(["follower", "followee", "followed_at", *(names[column] for column in sorted(columns))])
    spelled = []
    for *row, end, following, followers in rows:
        first = spell(*row)
        more = [first[2] if text == "same" else text for text in (end, following, followers)]
        spelled.append((*first, *(more[column] for column in sorted(columns))))
    path = write(folder / f"follows{kind}", spelled, head)

    assert slow.load(path) == quick.load(path)
    assert slow.rejected() == quick.rejected()
    first, second = slow.contents(), quick.contents()
    for table in ("following", "followers", "following_aside", "followers_aside"):
        assert follows_in(first[table]) == follows_in(second[table])
    assert [row[:4] for row in first["ended"]] == [row[:4] for row in second["ended"]]
    assert [] == problems_of(quick.store)


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY, rows=USUAL, kind=st.sampled_from(["csv", "parquet"]))
def test_an_export_is_loaded_alike(both: Any, history: list[FollowEvent], rows: list[Row], kind: str) -> None:
    """For every graph: each follow gets the places that it had, whichever way its row goes."""
    original, _, folder = both(history)
    original.load(write(folder / "follows.csv", rows, "follower,followee,followed_at"))
    with closing(open_store(original.store).scan()) as graph:
        export(graph, folder / "exported", ExportOptions(kind, with_ended=True), lambda _rows: None)
    slow, quick, _ = both([])
    for site in (slow, quick):
        site.load(folder / "exported" / f"accounts.{kind}", ACCOUNT_COLUMNS)

    path = folder / "exported" / f"follows.{kind}"
    assert slow.load(path) == quick.load(path)
    assert slow.contents() == quick.contents()
    for table in (*TABLES, "following_taken", "followers_taken"):
        assert original.contents()[table] == quick.contents()[table]
    assert [] == problems_of(quick.store)


ANY_NAME = st.one_of(
    st.text(max_size=5),
    st.text(st.sampled_from("aA@ \t\u00a0\u3000\x1f\x85\u0131İßé\u0301"), max_size=5),
    st.sampled_from(["x" * 255, "x" * 256, "ä" * 40, " " + "x" * 255, "a,b", '"a"']),
).filter(lambda name: not set(name) & set("\r\n\0"))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(ANY_NAME, ANY_NAME), max_size=30), kind=st.sampled_from([".csv", ".parquet", ".csv.gz"]))
def test_any_names_are_taken_or_rejected_alike(both: Any, rows: list[Row], kind: str) -> None:
    """For every text as a name: the rule of names decides, whichever way a row goes."""
    slow, quick, folder = both([])
    path = write_quoted(folder / f"follows{kind}", rows)

    tallies = slow.load(path), quick.load(path)

    assert tallies[0] == tallies[1]
    assert slow.rejected() == quick.rejected()
    assert slow.contents()["account"] == quick.contents()["account"]
    refused = sum(any(fault_in_username(name.strip()) for name in row) or is_one(*row) for row in rows)
    reasons = [json.loads(line)["reason"] for line in quick.rejected()]
    assert refused == len(reasons)
    for reason in reasons:
        assert reason.startswith(("follower", "followee"))


def is_one(follower: str, followee: str) -> bool:
    """Whether both names mean one account."""
    return fold(follower.strip()) == fold(followee.strip())


SPELLINGS = st.sampled_from(["anna", "Anna", "@ANNA", "straße", "STRASSE", "\u00c9mile", "e\u0301mile", "ben", "zoe"])
SPELLED_PAIRS = st.tuples(SPELLINGS, SPELLINGS).filter(lambda pair: fold(pair[0]) != fold(pair[1]))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(SPELLED_PAIRS, max_size=12), kind=st.sampled_from([".csv", ".parquet"]))
@example(rows=[("anna", "ben"), ("Anna", "carl"), ("zoe", "ANNA")], kind=".csv")
def test_the_first_spelling_of_a_name_is_its_key_alike(both: Any, rows: list[Row], kind: str) -> None:
    """For every order of rows: what a new account is called does not depend on the way it was loaded."""
    slow, quick, folder = both([])
    timed = [(*row, str(EARLY)) for row in rows]
    path = write(folder / f"follows{kind}", timed, "follower,followee,followed_at")

    assert slow.load(path) == quick.load(path)
    names = [name for row in rows for name in row]
    slow_keys, quick_keys = (asyncio.run(site.writer.keys_of(names)) for site in (slow, quick))
    assert slow_keys == quick_keys


@pytest.mark.parametrize("kind", [".csv", ".csv.gz"])
def test_spaces_around_cells_are_ignored_alike(both: Any, kind: str) -> None:
    """Padded names and times are ordinary in a large file, too; a quote after a space is a quote."""
    slow, quick, folder = both([])
    lines = [f"p{n}, q{n} , {EARLY + n} " for n in range(50)] + [
        f'r,"s" ,{EARLY}',
        f'a, "b", "{EARLY}"',
        f'a, "b,c",{EARLY}',
    ]
    text = "follower, followee,followed_at\n" + "".join(f"{line}\n" for line in lines)
    path = folder / f"follows{kind}"
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())

    assert slow.load(path) == quick.load(path)
    assert slow.contents() == quick.contents()
    assert {"a", "b", "p0", "q0", "q49"} <= set(quick.contents()["account"])
    assert not any('"' in key or " " in key.strip('"') for key in quick.contents()["account"] if key != "b,c")


@pytest.mark.parametrize("hour", ["24:00:00", "23:59:60", "23:60:00", "23:59:59"])
def test_the_last_hour_of_a_day_is_read_alike(both: Any, hour: str) -> None:
    """A time of day that is rejected row by row is rejected in a large file."""
    slow, quick, folder = both([])
    path = write(folder / "follows.csv", [("a", "x", f"2020-09-13T{hour}Z")], "follower,followee,followed_at")

    assert slow.load(path) == quick.load(path)
    assert slow.rejected() == quick.rejected()
    assert (hour != "23:59:59") == bool(quick.rejected())


def test_times_of_a_parquet_file_are_read_alike(both: Any) -> None:
    """Far futures, infinities, the first second, none at all: as text and as every type that holds a time."""
    slow, quick, folder = both([])
    values = [
        "'9999-12-31'",
        "'infinity'",
        "'-infinity'",
        "'1970-01-01'",
        "'1969-12-31'",
        "'2020-09-13 12:26:40'",
        "NULL",
    ]
    for kind in ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMPTZ", "DATE"):
        rows = ", ".join(f"('a', '{kind}{n}', {value}::{kind})" for n, value in enumerate(values))
        path = folder / f"{kind}.parquet"
        duckdb.sql(f"COPY (SELECT * FROM (VALUES {rows}) t(follower, followee, followed_at)) TO '{path}'")

        tallies = slow.load(path), quick.load(path)

        assert tallies[0] == tallies[1]
        assert (4, 3) == (tallies[0].accepted, tallies[0].rejected)
        assert slow.rejected() == quick.rejected()
        assert slow.contents() == quick.contents()


def write_quoted(path: Path, rows: Sequence[Row]) -> Path:
    """A file of follows whose names may be any text."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([("follower", "followee"), *rows])
    content = text.getvalue().encode()
    if path.suffix == ".parquet":
        connection = duckdb.connect()
        connection.execute("CREATE TABLE follows (follower VARCHAR, followee VARCHAR)")
        if rows:
            connection.executemany("INSERT INTO follows VALUES (?, ?)", rows)
        connection.execute(f"COPY follows TO '{path}' (FORMAT parquet)")
        connection.close()
    else:
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def follows_in(entries: list[Any]) -> list[Any]:
    """Entries without the positions, which may depend on the order of rows that claim one second."""
    return sorted((owner, account, second) for owner, _, account, second in entries)


def spell(pair: tuple[str, str], offset: int, form: str) -> Row:
    """A row whose time is written in some form."""
    at = EARLY + 1000 + offset
    if form.startswith("iso"):
        return (*pair, datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S") + form[3:])
    return (*pair, form.format(at))


# --- as a command ---------------------------------------------------------------------------------------------------

MANY = 240_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Parquet file that is large by itself, with numbers for names and times."""
    path = tmp_path_factory.mktemp("many") / "follows.parquet"
    columns = f"n % 600 AS follower, 1000 + n // 600 AS followee, {EARLY} + n % 1000 AS followed_at"
    duckdb.sql(f"COPY (SELECT {columns} FROM range({MANY}) r(n)) TO '{path}' (FORMAT parquet)")
    return path


def imported(store: Path, table: Path) -> subprocess.Popen[str]:
    """A running import."""
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store), str(table), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def follows_of(store: Path) -> int:
    """How many follows a store has, after a look at all its invariants."""
    assert [] == problems_of(store)
    with closing(files.open_for_reading(store, files.GRAPH)) as connection:
        return check_lists.follows(files.executor(connection))


def test_a_killed_load_leaves_a_sound_store(many: Path, tmp_path: Path) -> None:
    """Killed at any instant: none or all of the file is there, lists are whole, and the same import completes it."""
    store = tmp_path / "graph.db"
    chance = random.Random(1)
    for _ in range(2):
        with imported(store, many) as importing:
            time.sleep(chance.uniform(0.3, 3))
            importing.kill()
        if store.exists():
            assert follows_of(store) in (0, MANY)
    with imported(store, many) as importing:
        output = importing.communicate()[0]
    assert 0 == importing.returncode
    assert MANY == sum(json.loads(output)[str(many)][kind] for kind in ("accepted", "duplicate"))
    assert MANY == follows_of(store)


def test_a_load_into_a_running_service_becomes_visible_at_once(many: Path, tmp_path: Path) -> None:
    """Readers see nothing of it, or all; a second load of the same is all duplicates."""
    store = tmp_path / "graph.db"
    open_store(str(store)).create()
    with running_server(store) as server, Session(server.base_url, fresh_token(server, store)) as session:
        with imported(store, many) as importing:
            seen = set()
            while importing.poll() is None:
                with suppress(Refused):  # the account is not there yet
                    seen.add(len(session.following({"username": "7", "max_count": 100})["user_following"]))
        assert 0 == importing.returncode
        assert seen <= {0, 100}
        assert 100 == len(session.following({"username": "7", "max_count": 100})["user_following"])
        with imported(store, many) as importing:
            tally = json.loads(importing.communicate()[0])[str(many)]
    assert (0, MANY) == (tally["accepted"], tally["duplicate"])


def test_rows_without_a_time_are_ordinary(tmp_path: Path) -> None:
    """A large file without times is loaded in bulk; its first row is the newest."""
    table, folder = tmp_path / "follows.parquet", tmp_path / "it's 'here'"
    folder.mkdir()
    columns = "n // 300 AS follower, 1000 + n % 300 AS followee"
    duckdb.sql(f"COPY (SELECT {columns} FROM range({MANY}) r(n)) TO '{table}' (FORMAT parquet)")
    command = [sys.executable, "-m", "retinue", "import", "--store", str(tmp_path / "graph.db"), str(table)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "TMPDIR": str(folder)})

    with closing(open_store(str(tmp_path / "graph.db")).graph(SystemClock())) as graph:
        account = asyncio.run(graph.find_account("7"))
        assert account is not None
        page = asyncio.run(graph.read(PageRequest(account.id, Direction.FOLLOWING, int(time.time()), 100)))
    assert [str(1000 + n) for n in range(100)] == [row.username for row in page.rows]
    assert [] == list(folder.iterdir())


def test_unusual_files_are_imported_row_by_row(many: Path, tmp_path: Path) -> None:
    """A bulk load of a file with hardly an ordinary row would only cost time."""
    table = tmp_path / "odd.parquet"
    duckdb.sql(f"COPY (SELECT follower, '@' || followee AS followee FROM '{many}') TO '{table}' (FORMAT parquet)")
    with closing(open_table(table, FOLLOW_COLUMNS)) as opened, closing(staging.Staging(MANY, NOW)) as staged:
        assert isinstance(opened, ParquetTable)
        staged.stage(opened)
        staged.leave_out([name for names in staged.names() for name in names if name.startswith("@")])
        assert [] == list(staged.names())
        with pytest.raises(staging.CannotStage, match="usual"):
            staged.set_account_ids([])


def test_a_slow_import_says_why(many: Path, tmp_path: Path) -> None:
    """The reason is printed if a large file cannot be loaded in bulk."""
    table = tmp_path / "odd.parquet"
    duckdb.sql(f"COPY (SELECT follower, '@@' || followee AS followee FROM '{many}') TO '{table}' (FORMAT parquet)")
    done = subprocess.run(
        [sys.executable, "-m", "retinue", "import", "--store", str(tmp_path / "graph.db"), str(table)],
        capture_output=True,
        text=True,
        check=False,  # all rows are rejected
    )

    assert f"{table.name}: is loaded row by row" in done.stderr.replace("\n", "")
    assert "too few usual rows" in done.stderr.replace("\n", " ")


def test_an_import_larger_than_the_disk_does_not_begin(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how much is needed and how much there is."""
    monkeypatch.setattr(staging, "BYTES_PER_ROW", 1 << 40)

    with closing(open_table(many, FOLLOW_COLUMNS)) as table, pytest.raises(InputError) as refusal:
        staging.Staging(table.size, NOW)
    assert str(refusal.value).startswith("loading 240,000 rows may need 263882790.7 GB of disk, and ")


@pytest.mark.parametrize(
    "text",
    [
        "follower,followee,followed_at\n" + "a,b,1600000000\n" * 3 + "\n\n" + "c,d,x\n",
        "follower,followee,followed_at\r\n" + "a,b,1600000000\r\n" + "c,d,1600000001\r\n",
        "follower,followee,followed_at\n" + '"a","b",1600000000\n' + '"c""x",d,\n' + 'e"e,f,\n',
        "follower,followee,followed_at\n" + "a,b,1600000000\n" + "c,d\n" + "e,f,1600000000\n",
        "follower,followee,followed_at\n" + '"a\nb",c,1600000000\n' + "e,f,yesterday\n",
        "followee,follower\n" + "a,b\n" + "a,b\n" + "b,a\n",
        "\ufefffollower,followee\na,b\n",
        "follower,followee\n",
        "follower,followee,followed_at\n" + '"never closed,b,1600000000\nc,d,\n',
        "follower,followee,followed_at\na,b,1600000000\rc,d,\n",
    ],
)
def test_any_csv_file_is_read_alike(both: Any, text: str) -> None:
    """Quotes, line ends, empty lines and missing columns give the same counts, lists and rejects."""
    slow, quick, folder = both([])
    path = folder / "follows.csv"
    path.write_bytes(text.encode())

    assert slow.load(path) == quick.load(path)
    assert slow.rejected() == quick.rejected()
    assert slow.contents() == quick.contents()


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_damaged_parquet_file_is_read_up_to_the_damage(both: Any, kept: float) -> None:
    """The error and the rows before the damage are the same as row by row."""
    slow, quick, folder = both([])
    rows = [(f"x{n % 50}", f"y{n}", str(EARLY + n)) for n in range(30_000)]
    path = write(folder / "follows.parquet", rows, "follower,followee,followed_at")
    content = bytearray(path.read_bytes())
    place = int(len(content) * kept)
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    errors = []
    for site in (slow, quick):
        try:
            site.load(path)
        except InputError as error:
            errors.append(re.sub(r"/\S+/", "", str(error)))  # it names a temporary file

    assert 2 == len(errors)
    assert errors[0] == errors[1]
    assert slow.contents() == quick.contents()
