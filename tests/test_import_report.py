"""The report of an import: reasons with an example, new and known rows, and why it stops early."""

import json
from pathlib import Path

import pytest

from retinue.cli.import_report import short_names, show
from retinue.ingest.import_run import ImportResults
from retinue.ingest.rejects import FIRST_ROWS, RejectsFile
from support.commands import imported, list_of, retinue, tally

T = 1_690_000_000


def csv(path: Path, *rows: str, columns: str = "follower,followee,followed_at") -> Path:
    """A table."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{columns}\n" + "".join(f"{row}\n" for row in rows))
    return path


def test_an_import_that_read_no_file_has_no_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error alone is shown then; programs get an empty object."""
    results = ImportResults(RejectsFile(tmp_path / "rejects.jsonl"))

    show(results, as_json=False)
    for_people = capsys.readouterr().out
    show(results, as_json=True)

    assert ("", "{}\n") == (for_people, capsys.readouterr().out)


def test_rejected_rows_are_grouped_by_reason(store_path: Path, tmp_path: Path) -> None:
    """Each reason once for each file, most frequent first, with its count and first row; long values are cut."""
    rows = [f"a,b{n},soon{n}" for n in range(20)] + ["a,a,1", "a,b c,1", f"a,{'x y' * 70},1", "a,b", "good,b,1"]
    one, other = csv(tmp_path / "one" / "f.csv", *rows), csv(tmp_path / "other" / "f.csv", "a,c,never")

    done = retinue("import", "--store", store_path, one, other, COLUMNS="200")
    again = retinue("import", "--store", store_path, one, other, "--json")

    assert (1, 1) == (done.returncode, again.returncode)
    expected = "followed_at: expected Unix seconds or an ISO 8601 time"
    unprintable = "has whitespace or characters that cannot be printed"
    (head, *groups) = done.stderr.splitlines()
    assert head == f"retinue: rejected rows: 25; all are in {tmp_path / 'graph.rejects.jsonl'}"
    assert groups[0] == f"retinue:   20 like one/f.csv line 2: {expected}, got 'soon0'"
    assert set(groups[1:]) == {
        f"retinue:   1 like one/f.csv line 23: followee: 'b c' {unprintable}, and is no account's key",
        f"retinue:   1 like one/f.csv line 24: followee: '{('x y' * 70)[:56]}... {unprintable}",
        "retinue:   1 like one/f.csv line 22: followee: 'a' is the follower, and an account cannot follow itself",
        "retinue:   1 like one/f.csv line 25: expected 3 columns, got 2",
        f"retinue:   1 like other/f.csv line 2: {expected}, got 'never'",
    }
    assert "one/f.csv" in done.stdout
    assert "other/f.csv" in done.stdout
    reasons = json.loads(again.stdout)[str(one)]["reasons"]
    assert {
        "reason": expected,
        "rows": 20,
        "first": {"line": 2, "reason": f"{expected}, got 'soon0'"},
    } in reasons
    assert 24 == sum(reason["rows"] for reason in reasons)
    assert all(len(reason["first"]["reason"]) < 200 for reason in reasons)


@pytest.mark.parametrize(
    ("rows", "columns", "words"),
    [
        ("a{n},b{n},1714564800000", "follower,followee,followed_at", "(milliseconds?); divide them by 1000"),
        ("a{n},b{n},Berlin", "follower,followee,followed_at", "got 'Berlin'; is followed_at the right column?"),
        ("a{n},b{n},1,extra", "follower,followee,followed_at", "expected 3 columns, got 4; is the file of the kind"),
        ("Anna Meier {n},b", "follower,followee", "and is no account's key; is follower the right column?"),
        ("a{n},a{n}", "follower,followee", "an account cannot follow itself; is followee the right column?"),
    ],
)
def test_an_import_stops_if_its_first_rows_fail_alike(
    store_path: Path, tmp_path: Path, rows: str, columns: str, words: str
) -> None:
    """Nothing is loaded, and one line says why and what is likely to be wrong."""
    good = "good,row" + ",1" * (columns.count(",") - 1)
    lines = [rows.format(n=n) for n in range(FIRST_ROWS)]
    path = csv(tmp_path / "f.csv", *lines, good, columns=columns)

    done = retinue("import", "--store", store_path, path)
    csv(path, *lines[1:], good, columns=columns)
    code, report = imported(store_path, path)

    assert 2 == done.returncode
    (last,) = [line for line in done.stderr.splitlines() if "the first 10,000 rows" in line]
    assert last.startswith(f"retinue: {path}: the first 10,000 rows are all rejected for one reason, so nothing of")
    assert words in last
    assert (1, {"f.csv": tally(accepted=1, rejected=FIRST_ROWS - 1)}) == (code, report)  # nothing was there before


def test_an_import_continues_if_its_first_rows_differ(store_path: Path, tmp_path: Path) -> None:
    """A row that is loaded, or rejected for another reason, is enough."""
    bad = ["a,b,soon"] * FIRST_ROWS
    path = csv(tmp_path / "f.csv", "a,a,1", *bad)

    assert (1, {"f.csv": tally(rejected=FIRST_ROWS + 1)}) == imported(store_path, path)


def test_an_import_continues_after_rows_of_erased_accounts(store_path: Path, tmp_path: Path) -> None:
    """They are rejected for what the store holds: the file is of the right kind."""
    imported(store_path, csv(tmp_path / "old.csv", "gone,b,1"))
    assert 0 == retinue("erase", "--store", store_path, "gone").returncode
    follows = csv(tmp_path / "f.csv", *["gone,b,1"] * FIRST_ROWS, "a,b,1")
    accounts = csv(tmp_path / "accounts.csv", *["gone"] * FIRST_ROWS, "a", columns="username")

    code, tallies = imported(store_path, "--accounts", accounts, follows)

    assert 1 == code
    assert [(FIRST_ROWS, 1), (FIRST_ROWS, 1)] == [(each["rejected"], each["accepted"]) for each in tallies.values()]


def test_existing_rows_are_reported_as_duplicates(store_path: Path, tmp_path: Path) -> None:
    """An earlier dump adds only follows to existing ones; follows it lacks are ended."""
    imported(store_path, csv(tmp_path / "old.csv", f"a,b,{T + 50}", f"a,c,{T + 50}", f"a,d,{T - 50}"))
    dump = csv(tmp_path / "d.csv", "a,b", "a,c", "a,e", columns="follower,followee")

    first = imported(store_path, "--snapshot-at", str(T), dump)
    second = imported(store_path, "--snapshot-at", str(T), dump)

    assert (0, {"d.csv": tally(accepted=1, updated=2, ended=1)}) == first
    assert (0, {"d.csv": tally(duplicate=3)}) == second
    assert {"b", "c", "e"} == {name for name, _ in list_of(store_path, "a")}


def test_files_are_named_by_their_shortest_unique_suffix() -> None:
    """As much of a path as needed; devices keep their names."""
    paths = ["x/a/f.csv", "y/a/f.csv", "y/b/f.csv", "g.csv", "/dev/fd/63"]

    assert {
        "x/a/f.csv": "x/a/f.csv",
        "y/a/f.csv": "y/a/f.csv",
        "y/b/f.csv": "b/f.csv",
        "g.csv": "g.csv",
        "/dev/fd/63": "/dev/fd/63",
    } == short_names(paths)
