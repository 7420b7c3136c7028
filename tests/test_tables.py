"""Files to raw rows: every kind of file, every kind of damage."""

import csv
import gzip
import io
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.errors import InputError
from retinue.ingest.lines import MAX_LINE_BYTES
from retinue.ingest.records import FOLLOW_COLUMNS, RawRow, follow_record
from retinue.ingest.tables import open_table

ROWS = [("a", "b", "5"), ("ä", "名前", "6")]


def read(path: Path, content: bytes) -> list[RawRow]:
    """The rows of a follows table with this content."""
    path.write_bytes(gzip.compress(content) if path.suffix.lower() == ".gz" else content)
    with closing(open_table(path, FOLLOW_COLUMNS)) as table:
        return list(table)


def parquet(path: Path) -> bytes:
    """The rows as a Parquet file's bytes."""
    source = path / "source.parquet"
    values = ", ".join(f"('{a}', '{b}', {at})" for a, b, at in ROWS)
    duckdb.execute(f"COPY (SELECT * FROM (VALUES {values}) t(follower, followee, followed_at)) TO '{source}'")
    return source.read_bytes()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize("packing", ["", ".gz", ".GZ"])
def test_all_kinds_of_files_give_the_same_rows(tmp_path: Path, kind: str, packing: str) -> None:
    """CSV, JSON lines and Parquet, plain and gzip."""
    names = ("follower", "followee", "followed_at")
    content = {
        "csv": "\n".join(",".join(row) for row in (names, *ROWS)).encode(),
        "jsonl": "\n".join(json.dumps(dict(zip(names, row, strict=True))) for row in ROWS).encode(),
        "parquet": parquet(tmp_path) if kind == "parquet" else b"",
    }[kind]
    table_path = tmp_path / f"follows.{kind}{packing}"

    rows = read(table_path, content)

    assert [list(map(str, row.values.values())) for row in rows] == [list(row) for row in ROWS]
    assert not any(row.fault for row in rows)
    with closing(open_table(table_path, FOLLOW_COLUMNS)) as table:
        assert len(list(table)) == 2
        assert table.position == table.size


def test_columns_may_stand_in_any_order_and_times_may_be_absent(tmp_path: Path) -> None:
    """The header decides; a byte order mark and Windows line ends do not matter."""
    rows = read(tmp_path / "f.csv", b"\xef\xbb\xbffollowee, follower\r\nb,a\r\n\r\nd,c\r\n")

    assert [row.values for row in rows] == [{"followee": "b", "follower": "a"}, {"followee": "d", "follower": "c"}]
    assert [row.line for row in rows] == [2, 4]


def test_only_the_bad_line_is_rejected(tmp_path: Path) -> None:
    """Each kind of damage is a fault with its line number; the lines around it are read."""
    lines = [
        b"follower,followee,followed_at",
        b"a,b,1",
        b"a,b",
        b"a,b,c,d",
        b"a,\xff\xfe,3",
        b'a,"never closed,4',
        b'"a","b ""quoted"" \xf0\x9f\x8e\x89",5',
        b'"two',
        b'lines","b",6',
        b'"a"x,"b",7',
        b"x" * (MAX_LINE_BYTES + 5),
        b"c,d,8",
    ]

    rows = read(tmp_path / "f.csv", b"\n".join(lines))

    assert [
        (2, ""),
        (3, "expected 3 columns, got 2"),
        (4, "expected 3 columns, got 4"),
        (5, "broken UTF-8"),
        (6, "a quote is never closed"),
        (7, ""),
        (8, ""),
        (10, "not CSV: ',' expected after '\"'"),
        (11, f"longer than {MAX_LINE_BYTES} bytes"),
        (12, ""),
    ] == [(row.line, str(row.fault or "")) for row in rows]
    assert rows[5].values["followee"] == 'b "quoted" 🎉'
    assert rows[6].values["follower"] == "two\nlines"
    assert rows[3].text == "a,\\xff\\xfe,3"


def test_only_bad_json_lines_are_rejected(tmp_path: Path) -> None:
    """Each kind of damage is a fault with its line number."""
    lines = [
        b'{"follower":"a","followee":"b"}',
        b"{",
        b"[1]",
        b"",
        b'{"follower":"a","who":1}',
        b'{"a":"\xff"}',
        b"[" * 9999,
    ]

    rows = read(tmp_path / "f.jsonl", b"\n".join(lines))

    assert [row.line for row in rows] == [1, 2, 3, 5, 6, 7]
    assert [str(row.fault or "").partition(":")[0] for row in rows[:5]] == [
        "",
        "expected a JSON object",
        "expected a JSON object",
        "unknown field 'who'",
        "broken UTF-8",
    ]
    assert str(rows[5].fault).startswith("expected a JSON object")


def write_parquet(path: Path, select: str) -> Path:
    """A Parquet file with the rows of a query."""
    path.parent.mkdir(exist_ok=True)
    neutral = path.with_name("neutral.parquet")
    duckdb.execute(f"COPY ({select}) TO '{neutral}'")
    return neutral.rename(path)


def parquet_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a follows table."""
    with closing(open_table(path, FOLLOW_COLUMNS)) as table:
        return [row.values for row in table]


@pytest.mark.parametrize("name", ["f[1].parquet", "f*.parquet", "it's ?.parquet", "year=2024/f.parquet"])
def test_wildcards_in_a_path_are_literal(tmp_path: Path, name: str) -> None:
    """Exactly the named file is read."""
    write_parquet(tmp_path / "f1.parquet", "SELECT 'wrong' AS follower, 'wrong' AS followee")
    path = write_parquet(tmp_path / name, "SELECT 'a' AS follower, 'b' AS followee")

    assert [{"follower": "a", "followee": "b"}] == parquet_rows(path)


@pytest.mark.parametrize(
    ("value", "second"),
    [
        ("to_timestamp(1700000000)", 1700000000),
        ("TIMESTAMP '2023-11-14 22:13:20'", 1700000000),
        ("TIMESTAMP_NS '2023-11-14 22:13:20.999'", 1700000000),
        ("TIMESTAMP_S '2023-11-14 22:13:20'", 1700000000),
        ("DATE '2023-11-14'", 1699920000),
        ("1700000000::DECIMAL(18, 0)", 1700000000),
        ("1700000000::DOUBLE", 1700000000),
        ("1700000000::UBIGINT", 1700000000),
        ("'1700000000'", 1700000000),
        ("NULL", None),
    ],
)
def test_all_types_that_hold_a_time_are_read(tmp_path: Path, value: str, second: int | None) -> None:
    """As other programs write them."""
    path = write_parquet(tmp_path / "f.parquet", f"SELECT 'a' AS follower, 'b' AS followee, {value} AS followed_at")

    (row,) = parquet_rows(path)

    assert second == follow_record(row, 1_800_000_000).followed_at


def test_a_parquet_file_damaged_further_back_is_read_up_to_there(tmp_path: Path) -> None:
    """The rows before the damage come out; the error says after which row it is."""
    many = "SELECT 'a' || range AS follower, md5(range::VARCHAR) AS followee FROM range(300000)"
    path = write_parquet(tmp_path / "f.parquet", many)
    content = bytearray(path.read_bytes())
    place = int(len(content) * 0.85)
    content[place : place + 3000] = b"\xa5" * 3000
    path.write_bytes(content)
    rows: list[RawRow] = []

    with (
        closing(open_table(path, FOLLOW_COLUMNS)) as table,
        pytest.raises(InputError, match=f"{path}: damaged after row") as caught,
    ):
        rows.extend(table)

    assert f"damaged after row {len(rows)}:" in str(caught.value)


def damaged(whole: bytes) -> Iterator[bytes]:
    """A Parquet file cut off, and with some bytes of it replaced."""
    yield from (whole[:length] for length in range(0, len(whole), 37))
    yield from (whole[:place] + b"\x0e\xff'\n" + whole[place + 4 :] for place in range(0, len(whole), 29))
    yield b"PAR1" + b"x" * 500 + b"PAR1"


def test_any_damage_to_a_parquet_file_is_told_in_one_line(tmp_path: Path) -> None:
    """Nothing of SQL, of temporary names or of lines is in the error, wherever the damage is."""
    path = tmp_path / "f.parquet"
    errors = []
    for content in damaged(parquet(tmp_path)):
        try:
            read(path, content)
        except InputError as error:
            errors.append(str(error))

    assert len(errors) > 20
    for told in errors:
        assert told.startswith(f"{path}: ")
        assert told.isprintable()
        assert not any(word in told for word in ("SELECT", "LINE 1", "read_parquet", "table.parquet", "retinue-"))
    assert any("its end is missing; it was cut off" in told for told in errors)
    assert any("it does not begin as such a file does" in told for told in errors)


CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=8),
    st.text(st.sampled_from(' ",a\n'), max_size=8),
)


@given(st.lists(st.lists(CELLS, min_size=3, max_size=3), max_size=20))
def test_csv_is_read_as_the_csv_module_writes_it(
    tmp_path_factory: pytest.TempPathFactory, cells: list[list[str]]
) -> None:
    """Quotes, commas and line breaks inside cells come back as they were."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writerows([["follower", "followee", "followed_at"], *cells])

    rows = read(tmp_path_factory.mktemp("csv") / "f.csv", text.getvalue().encode())

    assert cells == [list(row.values.values()) for row in rows]


@given(st.binary(max_size=300))
def test_any_bytes_are_rows_or_a_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """No content makes reading fail in any other way."""
    folder = tmp_path_factory.mktemp("any")
    for name in ("f.csv", "f.jsonl"):
        try:
            read(folder / name, content)
            read(folder / name, b"follower,followee\n" + content)
        except InputError as error:
            assert name in str(error)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("f.txt", b"", "unknown kind of file"),
        ("f", b"", "unknown kind of file"),
        ("f.gz", b"", "unknown kind of file"),
        ("f.csv", b"", "is empty: expected a header line"),
        ("f.csv", b"\xff\n", "broken UTF-8"),
        ("f.csv", b"follower,followed_at\n", "lacks the column 'followee'"),
        ("f.csv", b"follower,followee,when\n", "has the unknown column 'when'"),
        ("f.csv", b"follower,followee,follower\n", "more than one column 'follower'"),
        ("f.csv.gz", b"", ""),
        ("f.parquet", b"no parquet", "cannot be read as Parquet"),
        ("f.parquet.gz", b"no parquet", "cannot be read as Parquet"),
    ],
)
def test_files_without_the_columns_are_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """The error names the file and what is wrong with it."""
    with pytest.raises(InputError) as caught:
        read(tmp_path / name, content)

    assert str(tmp_path / name) in str(caught.value)
    assert words in str(caught.value)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    """The error names the file."""
    for name in ("none.csv", "none.parquet", "none.jsonl.gz"):
        with pytest.raises(InputError, match=name):
            open_table(tmp_path / name, FOLLOW_COLUMNS)


def test_a_torn_gzip_file_gives_its_rows_and_then_an_error(tmp_path: Path) -> None:
    """The rows before the damage come out; the error says after which line it is."""
    path = tmp_path / "f.csv.gz"
    whole = gzip.compress(b"follower,followee\n" + b"".join(b"a%d,b%d\n" % (n, n * 7919) for n in range(5000)))
    path.write_bytes(whole[: len(whole) // 2])
    rows: list[RawRow] = []

    with pytest.raises(InputError, match="damaged after line") as caught:
        with closing(open_table(path, FOLLOW_COLUMNS)) as table:
            rows.extend(table)

    assert f"damaged after line {len(rows) + 1}:" in str(caught.value)
    assert [f"a{n}" for n in range(100)] == [row.values["follower"] for row in rows[:100]]
