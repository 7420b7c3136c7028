"""Importing in bulk and row by row give the same counts, lists, histories and rejects."""

import asyncio
from contextlib import closing
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retinue.export.files import ExportOptions, export
from retinue.ingest.records import ACCOUNT_COLUMNS
from retinue.model import ErasureEvent, FollowEvent
from retinue.store import writer
from retinue.store.load import loader
from retinue.store.open import open_store
from retinue.store.sqlite.engine import SqliteEngine
from support.bulk_twins import EARLY, ENTRY_TABLES, FORMS, NOW, PAIRS, Row, follows_in, spell, write
from support.service import problems_of
from support.thorough import examples


@pytest.fixture(autouse=True, params=["at once", "in groups"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store load at once, or in groups as a cluster does."""
    monkeypatch.setattr(SqliteEngine, "has_bulk", request.param == "at once")
    monkeypatch.setattr(writer, "GROUP_SIZE", 5)


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


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY, rows=USUAL, kind=st.sampled_from([".csv", ".parquet"]), long=st.booleans())
def test_ordinary_rows_are_stored_alike(
    new_twins: Any, monkeypatch: pytest.MonkeyPatch, history: list[FollowEvent], rows: list[Row], kind: str, long: bool
) -> None:
    """Lists, positions, histories, slot runs and counts are the same as row by row, for every history."""
    monkeypatch.setattr(loader, "ALWAYS_REWRITTEN", 0 if long else 10_000)
    monkeypatch.setattr(loader, "MUCH_LONGER", 1)
    known = {(event.follower, event.followee) for event in history}
    rows = [row for row in rows if row[:2] not in known]
    by_row, in_bulk, folder = new_twins(history)
    path = write(folder / f"follows{kind}", rows, "follower,followee,followed_at")

    assert by_row.load(path) == in_bulk.load(path)
    assert by_row.contents() == in_bulk.contents()
    assert [] == problems_of(in_bulk.store)


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


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    history=HISTORY,
    rows=st.lists(st.one_of(st.tuples(PAIRS, st.integers(0, 300), FORMS), UNUSUAL), max_size=40),
    kind=st.sampled_from([".csv", ".parquet"]),
    again=st.booleans(),
)
@example(history=[FollowEvent("a", "f", EARLY, True)], rows=[("a", "f", str(NOW))], kind=".csv", again=False)
def test_any_rows_are_counted_alike(
    new_twins: Any, history: list[FollowEvent], rows: list[Any], kind: str, again: bool
) -> None:
    """Counts, rejects and history are the same as row by row for every mixture, also the second time."""
    by_row, in_bulk, folder = new_twins(history)
    for twin in (by_row, in_bulk):
        twin.load(write(folder / "erased.csv", [("erased", "public")], "username,visibility"), ACCOUNT_COLUMNS)
        asyncio.run(twin.writer.apply([ErasureEvent("erased", NOW)], NOW))
    spelled = [row if len(row) == 3 and isinstance(row[0], str) else spell(*row) for row in rows]
    path = write(folder / f"follows{kind}", spelled, "follower,followee,followed_at")
    for _ in range(1 + again):
        assert by_row.load(path) == in_bulk.load(path)
        assert by_row.rejected() == in_bulk.rejected()
        first, second = by_row.contents(), in_bulk.contents()
        for table in ENTRY_TABLES:
            assert follows_in(first[table]) == follows_in(second[table])
        for table in ("following_history", "followers_history", "account"):
            assert first[table] == second[table]
        assert [] == problems_of(in_bulk.store)


MORE = st.sampled_from(["", "", "same", str(EARLY + 4), str(EARLY + 1001), str(NOW), str(NOW + 1), "x"])


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.tuples(PAIRS, st.integers(0, 5), FORMS, MORE, MORE, MORE), max_size=40),
    kind=st.sampled_from([".csv", ".parquet"]),
    columns=st.sets(st.integers(0, 2)),
)
def test_rows_with_ends_and_positions_are_counted_alike(
    new_twins: Any, rows: list[Any], kind: str, columns: set[int]
) -> None:
    """For every mixture, whichever of these columns a file has."""
    by_row, in_bulk, folder = new_twins([])
    names = ["ended_at", "following_position", "followers_position"]
    head = ",".join(["follower", "followee", "followed_at", *(names[column] for column in sorted(columns))])
    spelled = []
    for *row, end, following, followers in rows:
        first = spell(*row)
        more = [first[2] if text == "same" else text for text in (end, following, followers)]
        spelled.append((*first, *(more[column] for column in sorted(columns))))
    path = write(folder / f"follows{kind}", spelled, head)

    assert by_row.load(path) == in_bulk.load(path)
    assert by_row.rejected() == in_bulk.rejected()
    first, second = by_row.contents(), in_bulk.contents()
    for table in ENTRY_TABLES:
        assert follows_in(first[table]) == follows_in(second[table])
    for table in ("following_history", "followers_history"):
        assert first[table] == second[table]
    assert [] == problems_of(in_bulk.store)


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(history=HISTORY, rows=USUAL, kind=st.sampled_from(["csv", "parquet"]))
def test_an_export_is_loaded_alike(new_twins: Any, history: list[FollowEvent], rows: list[Row], kind: str) -> None:
    """For every graph: each follow gets the places that it had, whichever way its row goes."""
    original, _, folder = new_twins(history)
    original.load(write(folder / "follows.csv", rows, "follower,followee,followed_at"))
    with closing(open_store(original.store).scan()) as graph:
        export(graph, folder / "exported", ExportOptions(kind, with_ended=True), lambda _rows: None)
    by_row, in_bulk, _ = new_twins([])
    for twin in (by_row, in_bulk):
        twin.load(folder / "exported" / f"accounts.{kind}", ACCOUNT_COLUMNS)

    path = folder / "exported" / f"follows.{kind}"
    assert by_row.load(path) == in_bulk.load(path)
    assert by_row.contents() == in_bulk.contents()
    for table in (*ENTRY_TABLES, "following_run", "followers_run"):
        assert original.contents()[table] == in_bulk.contents()[table]
    assert [] == problems_of(in_bulk.store)
