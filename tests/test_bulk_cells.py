"""Names, times and quotes of a large file are read as row by row."""

import asyncio
import csv
import gzip
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from retinue.errors import InputError
from retinue.names import fault_in_username, fold
from support.bulk_twins import EARLY, Row, write
from support.thorough import examples

ANY_NAME = st.one_of(
    st.text(max_size=5),
    st.text(st.sampled_from("aA@ \t\u00a0\u3000\x1f\x85\u0131İßé\u0301"), max_size=5),
    st.sampled_from(["x" * 255, "x" * 256, "ä" * 40, " " + "x" * 255, "a,b", '"a"']),
).filter(lambda name: not set(name) & set("\r\n\0"))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.tuples(ANY_NAME, ANY_NAME), max_size=30), kind=st.sampled_from([".csv", ".parquet", ".csv.gz"]))
def test_any_names_are_taken_or_rejected_alike(new_twins: Any, rows: list[Row], kind: str) -> None:
    """For every text as a name: the rule of names decides, whichever way a row goes."""
    by_row, in_bulk, folder = new_twins([])
    path = write_quoted(folder / f"follows{kind}", rows)

    counts = by_row.load(path), in_bulk.load(path)

    assert counts[0] == counts[1]
    assert by_row.rejected() == in_bulk.rejected()
    assert by_row.contents()["account"] == in_bulk.contents()["account"]
    refused = sum(any(fault_in_username(name.strip()) for name in row) or is_one(*row) for row in rows)
    reasons = [json.loads(line)["reason"] for line in in_bulk.rejected()]
    assert refused == len(reasons)
    for reason in reasons:
        assert reason.startswith(("follower", "followee"))


def is_one(follower: str, followee: str) -> bool:
    """Whether both names mean one account."""
    return fold(follower.strip()) == fold(followee.strip())


SPELLINGS = st.sampled_from(["anna", "Anna", "@ANNA", "straße", "STRASSE", "\u00c9mile", "e\u0301mile", "ben", "zoe"])
SPELLED_PAIRS = st.tuples(SPELLINGS, SPELLINGS).filter(lambda pair: fold(pair[0]) != fold(pair[1]))


@settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(SPELLED_PAIRS, max_size=12), kind=st.sampled_from([".csv", ".parquet"]))
@example(rows=[("anna", "ben"), ("Anna", "carl"), ("zoe", "ANNA")], kind=".csv")
def test_the_first_spelling_of_a_name_is_its_key_alike(new_twins: Any, rows: list[Row], kind: str) -> None:
    """For every order of rows: what a new account is called does not depend on the way it was loaded."""
    by_row, in_bulk, folder = new_twins([])
    timed = [(*row, str(EARLY)) for row in rows]
    path = write(folder / f"follows{kind}", timed, "follower,followee,followed_at")

    assert by_row.load(path) == in_bulk.load(path)
    names = [name for row in rows for name in row]
    by_row_keys, in_bulk_keys = (asyncio.run(twin.writer.keys_of(names)) for twin in (by_row, in_bulk))
    assert by_row_keys == in_bulk_keys


@pytest.mark.parametrize("kind", [".csv", ".csv.gz"])
def test_spaces_around_cells_are_ignored_alike(new_twins: Any, kind: str) -> None:
    """Padded names and times are ordinary in a large file, too; a quote after a space is a quote."""
    by_row, in_bulk, folder = new_twins([])
    lines = [f"p{n}, q{n} , {EARLY + n} " for n in range(50)] + [
        f'r,"s" ,{EARLY}',
        f'a, "b", "{EARLY}"',
        f'a, "b,c",{EARLY}',
    ]
    text = "follower, followee,followed_at\n" + "".join(f"{line}\n" for line in lines)
    path = folder / f"follows{kind}"
    path.write_bytes(gzip.compress(text.encode()) if kind.endswith(".gz") else text.encode())

    assert by_row.load(path) == in_bulk.load(path)
    assert by_row.contents() == in_bulk.contents()
    assert {"a", "b", "p0", "q0", "q49"} <= set(in_bulk.contents()["account"])
    assert not any('"' in key or " " in key.strip('"') for key in in_bulk.contents()["account"] if key != "b,c")


@pytest.mark.parametrize("hour", ["24:00:00", "23:59:60", "23:60:00", "23:59:59"])
def test_the_last_hour_of_a_day_is_read_alike(new_twins: Any, hour: str) -> None:
    """A time of day that is rejected row by row is rejected in a large file."""
    by_row, in_bulk, folder = new_twins([])
    path = write(folder / "follows.csv", [("a", "x", f"2020-09-13T{hour}Z")], "follower,followee,followed_at")

    assert by_row.load(path) == in_bulk.load(path)
    assert by_row.rejected() == in_bulk.rejected()
    assert (hour != "23:59:59") == bool(in_bulk.rejected())


def test_times_of_a_parquet_file_are_read_alike(new_twins: Any) -> None:
    """Far futures, infinities, the first second, none at all: as text and as every type that holds a time."""
    by_row, in_bulk, folder = new_twins([])
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

        counts = by_row.load(path), in_bulk.load(path)

        assert counts[0] == counts[1]
        assert (4, 3) == (counts[0].accepted, counts[0].rejected)
        assert by_row.rejected() == in_bulk.rejected()
        assert by_row.contents() == in_bulk.contents()


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
def test_any_csv_file_is_read_alike(new_twins: Any, text: str) -> None:
    """Quotes, line ends, empty lines and missing columns give the same counts, lists and rejects."""
    by_row, in_bulk, folder = new_twins([])
    path = folder / "follows.csv"
    path.write_bytes(text.encode())

    assert by_row.load(path) == in_bulk.load(path)
    assert by_row.rejected() == in_bulk.rejected()
    assert by_row.contents() == in_bulk.contents()


@pytest.mark.parametrize("kept", [0.3, 0.6, 0.9])
def test_a_damaged_parquet_file_is_read_up_to_the_damage(new_twins: Any, kept: float) -> None:
    """The error and the rows before the damage are the same as row by row."""
    by_row, in_bulk, folder = new_twins([])
    rows = [(f"x{n % 50}", f"y{n}", str(EARLY + n)) for n in range(30_000)]
    path = write(folder / "follows.parquet", rows, "follower,followee,followed_at")
    content = bytearray(path.read_bytes())
    place = int(len(content) * kept)
    content[place : place + 200] = bytes(200)
    path.write_bytes(content)
    errors = []
    for twin in (by_row, in_bulk):
        try:
            twin.load(path)
        except InputError as error:
            errors.append(re.sub(r"/\S+/", "", str(error)))  # it names a temporary file

    assert 2 == len(errors)
    assert errors[0] == errors[1]
    assert by_row.contents() == in_bulk.contents()
