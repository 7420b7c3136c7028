"""The command line as its users see it: what it prints, what it leaves behind, how it ends."""

import gzip
import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest

from retinue.store.open import open_store
from support.commands import imported, list_of, retinue, size_of, tally

FOLLOWS = b"follower,followee,followed_at\nanna,ben,100\nanna,carla,200\nben,anna,2024-09-26T07:39:53Z\n"
ACCOUNTS = "username,id,display_name,visibility\nanna,17,Anna 👩‍👩‍👧,public\nben,18,B\0en,withheld\n".encode()


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Small import files."""
    accounts, follows = tmp_path / "accounts.csv", tmp_path / "follows.csv"
    accounts.write_bytes(ACCOUNTS)
    follows.write_bytes(FOLLOWS)
    return accounts, follows


def test_import_reports_and_repeats_without_change(store_path: Path, files: tuple[Path, Path]) -> None:
    """Accounts first, then follows; running the same import twice changes nothing."""
    accounts, follows = files

    first = imported(store_path, "--accounts", accounts, follows)
    rows = list_of(store_path, "anna")
    second = imported(store_path, "--accounts", accounts, follows)

    assert (0, {"accounts.csv": tally(accepted=2, nuls_removed=1), "follows.csv": tally(accepted=3)}) == first
    assert (0, {"accounts.csv": tally(duplicate=2, nuls_removed=1), "follows.csv": tally(duplicate=3)}) == second
    assert [("carla", "")] == rows == list_of(store_path, "anna")
    assert [("anna", "Anna 👩‍👩‍👧")] == list_of(store_path, "ben")


def test_the_import_report_is_a_table_by_default(store_path: Path, files: tuple[Path, Path]) -> None:
    """Without --json the closing report names file, new, updated, known and rejected rows, the rate and the time."""
    done = retinue("import", "--store", store_path, files[1], COLUMNS="200")

    assert 0 == done.returncode
    for word in ("follows.csv", "new", "updated", "known", "rejected", "rows/s", "3", "in 0."):
        assert word in done.stdout


def test_rejected_rows_go_to_a_file_and_the_rest_is_loaded(store_path: Path, tmp_path: Path) -> None:
    """Each rejected row is kept with file, line number and reason; the exit code says so."""
    follows = tmp_path / "bad.csv"
    lines = [
        b"follower,followee,followed_at",
        b"a,b,100",
        b"a,A,100",
        b"a,b,soon",
        b",b,100",
        b"%s,b,100" % (b"x" * 256),
        b"a,b",
        b"a,\xff,100",
        b"a,c,100",
        b"a,d,1727336393000",
    ]
    follows.write_bytes(b"\n".join(lines))

    code, report = imported(store_path, follows)

    assert (1, {"bad.csv": tally(accepted=2, rejected=7)}) == (code, report)
    assert ["b", "c"] == [username for username, _ in list_of(store_path, "a")]
    rejects = tmp_path / "graph.rejects.jsonl"
    entries = [json.loads(line) for line in rejects.read_text().splitlines()]
    assert 0o600 == rejects.stat().st_mode & 0o777
    assert {str(follows)} == {entry["file"] for entry in entries}
    assert {
        3: "followee: 'A' is the follower, and an account cannot follow itself",
        4: "followed_at: expected Unix seconds or an ISO 8601 time, got 'soon'",
        5: "follower: is empty",
        6: f"follower: '{'x' * 56}... is longer than 255 characters",
        7: "expected 3 columns, got 2",
        8: "broken UTF-8",
        10: "followed_at: '1727336393000' is too large for a Unix second (milliseconds?)",
    } == {entry["line"]: entry["reason"] for entry in entries}
    assert "a,\\xff,100" in [entry["text"] for entry in entries]

    follows.write_bytes(b"\n".join(lines[:2]))
    assert (0, {"bad.csv": tally(duplicate=1)}) == imported(store_path, follows)
    assert 7 == len(rejects.read_text().splitlines())
    assert [rejects] == list(tmp_path.glob("graph.rejects*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give tables of follows"),
        (["none.csv"], "none.csv: cannot be read: No such file or directory"),
        (["--accounts", "follows.csv"], "lacks the column 'username'"),
        (["accounts.csv"], "lacks the column 'follower'"),
        (["follows.csv", "follows.txt"], "follows.txt: cannot be read: No such file or directory"),
        (["follows.csv", "--store", "no/where.db"], "no/where.db: cannot be created: the folder no does not exist"),
        (["follows.csv", "--store", "mongodb://x"], "--store mongodb://...: there is no such kind of store"),
        (["follows.csv", "--store", "follows.csv"], "follows.csv: not a Retinue follow graph"),
    ],
)
def test_an_import_that_cannot_start_changes_nothing(
    tmp_path: Path, files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    """Wrong names, columns and places are one clear line, exit code 2, and no store is made."""
    monkeypatch.chdir(tmp_path)

    done = retinue("import", *arguments)

    assert 2 == done.returncode
    assert done.stderr.startswith("retinue: ")
    assert words in done.stderr
    assert 1 == done.stderr.count("\n")
    assert {path.name for path in files} == {path.name for path in tmp_path.iterdir()}


def test_a_damaged_file_is_loaded_up_to_the_damage(store_path: Path, tmp_path: Path) -> None:
    """Rows before the damage are loaded and reported; the error names file and line."""
    packed = gzip.compress(b"follower,followee\n" + b"".join(b"a,b%d\n" % (n * 7919) for n in range(20_000)))
    follows = tmp_path / "f.csv.gz"
    follows.write_bytes(packed[: len(packed) // 2])

    done = retinue("import", "--store", store_path, "--json", follows)

    assert 2 == done.returncode
    assert "damaged after line" in done.stderr
    accepted = json.loads(done.stdout)[str(follows)]["accepted"]
    assert f"damaged after line {accepted + 1}:" in done.stderr
    assert accepted == len(list_of(store_path, "a"))


def test_a_killed_import_leaves_a_good_store_that_a_second_run_completes(store_path: Path, tmp_path: Path) -> None:
    """SIGKILL at several instants; `check` accepts what is there, and the same import makes it whole."""
    follows = tmp_path / "f.csv"
    rows = [(f"a{n % 7}", f"b{n}", 1_700_000_000 - n // 50) for n in range(40_000)]
    follows.write_text("follower,followee,followed_at\n" + "".join(f"{a},{b},{at}\n" for a, b, at in rows))
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), str(follows)]
    sizes = set()
    for _ in range(4):
        importing = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        before = size_of(store_path)
        while size_of(store_path) <= before + 150_000 and importing.poll() is None:
            time.sleep(0.005)
        importing.send_signal(signal.SIGKILL)
        importing.wait()
        seen = json.loads(retinue("check", "--store", store_path, "--json").stdout)
        assert [] == seen["problems"]
        sizes.add(seen["facts"]["follows"])
    assert min(sizes) < 40_000

    code, report = imported(store_path, follows)

    assert 0 == code
    assert 40_000 == report["f.csv"]["accepted"] + report["f.csv"]["duplicate"]
    for number in range(7):
        expected = [b for a, b, _ in rows if a == f"a{number}"]
        assert expected == [username for username, _ in list_of(store_path, f"a{number}")]


def test_clients_are_created_listed_and_revoked(store_path: Path) -> None:
    """Secrets are shown once and stored nowhere; a revoked client is shown as such."""
    open_store(str(store_path)).create()
    created = json.loads(retinue("client", "create", "--store", store_path, "--name", "One", "--json").stdout)
    shown = retinue("client", "create", "--store", store_path, "--name", "Two", "--scope", "other.scope").stdout

    assert {"client_key", "client_secret"} == created.keys()
    assert "Keep the secret: it is not shown again." in shown
    done = retinue("client", "revoke", created["client_key"], "--store", store_path)
    assert (0, f"client {created['client_key']} is revoked\n") == (done.returncode, done.stdout)
    clients = json.loads(retinue("client", "list", "--store", store_path, "--json").stdout)
    assert [("One", ["research.data.basic"]), ("Two", ["other.scope"])] == [
        (client["name"], client["scopes"]) for client in clients
    ]
    assert [False, True] == [client["revoked_at"] is None for client in clients]
    table = retinue("client", "list", "--store", store_path, COLUMNS="80").stdout
    (line,) = [line for line in table.splitlines() if created["client_key"] in line]
    for word in ("One", "revoked", "0 of 20,000", str(datetime.now(UTC).year)):
        assert word in line
    for path in store_path.parent.iterdir():
        assert created["client_secret"].encode() not in path.read_bytes()


def test_an_unknown_client_cannot_be_revoked(store_path: Path) -> None:
    """The error names the key."""
    open_store(str(store_path)).create()

    done = retinue("client", "revoke", "awnobody", "--store", store_path)

    assert (2, "retinue: client awnobody: does not exist\n") == (done.returncode, done.stderr)


@pytest.mark.parametrize("command", [["serve"], ["check"], ["client", "list"], ["client", "create", "--name", "x"]])
def test_commands_without_a_store_say_how_to_create_one(tmp_path: Path, command: list[str]) -> None:
    """A missing store is an error, never silently an empty one."""
    done = retinue(*command, "--store", tmp_path / "none.db")

    assert 2 == done.returncode
    assert "there is no" in done.stderr
    assert "`retinue import` makes a store" in done.stderr
    assert [] == list(tmp_path.iterdir())


def test_every_flag_has_an_environment_variable(store_path: Path, files: tuple[Path, Path]) -> None:
    """RETINUE_STORE and the others stand in for flags."""
    done = retinue("import", str(files[1]), RETINUE_STORE=str(store_path), RETINUE_JSON="1")

    assert (0, 3) == (done.returncode, json.loads(done.stdout)[str(files[1])]["accepted"])
    assert 0 == retinue("check", RETINUE_STORE=str(store_path)).returncode


def test_check_reports_the_examined_rows(store_path: Path, files: tuple[Path, Path]) -> None:
    """A good store is counted, for people and for programs."""
    imported(store_path, files[1])

    done = retinue("check", "--store", store_path)
    as_json = json.loads(retinue("check", "--store", store_path, "--json").stdout)

    assert 0 == done.returncode
    assert "accounts 3, follows 3, ended follows 0, largest displacement 0, clients 0" in done.stdout
    assert "every invariant holds" in done.stdout
    counts = {"accounts": 3, "follows": 3, "ended_follows": 0, "largest_displacement": 0, "clients": 0, "tokens": 0}
    assert counts == as_json["facts"]


def test_check_counts_follows_of_accounts_that_lists_do_not_show(store_path: Path, tmp_path: Path) -> None:
    """The number of follows is that of the import, and of an export."""
    accounts, follows = tmp_path / "a.csv", tmp_path / "f.csv"
    accounts.write_text("username,visibility\na,public\nb,private\n")
    follows.write_text("follower,followee,followed_at,ended_at\na,b,1,\nb,a,2,\na,c,3,\nc,b,4,5\n")
    imported(store_path, "--accounts", accounts, follows)

    facts = json.loads(retinue("check", "--store", store_path, "--json").stdout)["facts"]

    assert (3, 1) == (facts["follows"], facts["ended_follows"])


def test_an_interrupted_import_stops_at_once_and_can_be_resumed(store_path: Path, tmp_path: Path) -> None:
    """Ctrl-C ends it after the batch at hand, with a report and exit code 130."""
    follows = tmp_path / "f.csv"
    follows.write_text("follower,followee\n" + "".join(f"a{n % 99},b{n}\n" for n in range(200_000)))
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), "--json", str(follows)]
    importing = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while size_of(store_path) < 200_000:
        time.sleep(0.01)
    importing.send_signal(signal.SIGINT)
    output, errors = importing.communicate()

    assert 130 == importing.returncode
    assert "retinue: Interrupted. Run the same import again to resume.\n" == errors
    assert 0 < json.loads(output)[str(follows)]["accepted"] < 200_000


def test_version_prints_the_version() -> None:
    """For reports of faults."""
    assert "retinue 0." in retinue("--version").stdout


def test_a_client_needs_a_name(store_path: Path) -> None:
    """An empty one says nothing."""
    open_store(str(store_path)).create()

    done = retinue("client", "create", "--store", store_path, "--name", " ")

    assert (2, "retinue: name: is empty\n") == (done.returncode, done.stderr)


def test_a_command_names_its_missing_extra(tmp_path: Path) -> None:
    """The base package alone explains itself."""
    for library in ("typer", "apsw"):
        broken = tmp_path / library
        broken.mkdir()
        (broken / f"{library}.py").write_text(f"raise ModuleNotFoundError('No module', name={library!r})")
        done = retinue("check", "--store", tmp_path / "x.db", PYTHONPATH=str(broken))

        assert 2 == done.returncode
        assert f"pip install 'retinue[server]' (missing: {library})" in done.stderr
