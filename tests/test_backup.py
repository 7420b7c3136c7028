"""`retinue backup`, which copies a store whole while others write, and stores with another schema."""

import asyncio
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from retinue.model import (
    AccountRecord,
)
from retinue.store.open import open_store
from retinue.store.sqlite import files
from support.commands import list_of, retinue, size_of
from support.service import Service, problems_of
from support.waiting import waiting_for

NOW = 1_700_000_000


def ignored(_done: int, _total: int) -> None:
    """Ignore the progress."""


# Backup


def test_a_backup_is_complete_and_private(service: Service, tmp_path: Path) -> None:
    """Graph, clients and tokens, in files of mode 0600, while the store is open and its log is full."""
    service.follow("a", *((f"b{n}", NOW - n) for n in range(300)))
    copy = tmp_path / "copies" / "monday.db"
    copy.parent.mkdir()

    done = retinue("backup", copy, "--store", service.store)

    log = open_store(str(service.store)).paths.audit_folder()
    told = f"Copied {service.store} to {copy}. Copy its audit log now: {log} is not in it.\n"
    assert (0, told, "") == (done.returncode, done.stdout, done.stderr)
    assert ["monday.access.db", "monday.db"] == sorted(path.name for path in copy.parent.iterdir())
    assert {0o600} == {path.stat().st_mode & 0o777 for path in copy.parent.iterdir()}
    assert [] == problems_of(copy)
    assert list_of(Path(service.store), "a") == list_of(copy, "a")
    assert "test" in retinue("client", "list", "--store", copy, "--json").stdout


def test_a_backup_excludes_concurrent_writes(service: Service, tmp_path: Path) -> None:
    """A backup shows the instant at which copying began, and is not restarted."""
    bios = (AccountRecord(f"bio{n}", bio_description="x" * 4000) for n in range(2500))
    asyncio.run(service.writer.add_accounts(list(bios), NOW))
    service.follow("a", ("before", NOW - 50))
    pages: list[tuple[int, int]] = []

    def write(done: int, total: int) -> None:
        pages.append((done, total))
        if len(pages) < 9:  # a copy that every write restarts would never end
            service.follow("a", (f"meanwhile{len(pages)}", NOW - 40 + len(pages)))

    open_store(service.store).back_up(tmp_path / "copy.db", write)

    assert [] == problems_of(tmp_path / "copy.db")
    assert [("before", "")] == list_of(tmp_path / "copy.db", "a")
    assert len(list_of(Path(service.store), "a")) > 1
    assert sorted(set(pages)) == pages


def test_a_backup_during_an_import_is_consistent(store_path: Path, tmp_path: Path) -> None:
    """It holds the first rows of the file, all up to some row and none after it."""
    follows = tmp_path / "f.csv"
    follows.write_text("follower,followee,followed_at\n" + "".join(f"a,b{n},{NOW - n}\n" for n in range(60_000)))
    copies = [tmp_path / f"copy{number}.db" for number in range(3)]
    open_store(str(store_path)).create()
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), str(follows)]
    with subprocess.Popen(command) as importing:
        waiting_for(lambda: size_of(store_path) > 200_000)
        for copy in copies:
            open_store(str(store_path)).back_up(copy, ignored)
        importing.kill()

    for copy in copies:
        names = [username for username, _ in list_of(copy, "a")]
        assert 0 < len(names) < 60_000
        assert [f"b{n}" for n in range(len(names))] == names
        assert [] == problems_of(copy)


@pytest.mark.parametrize("taken", ["copy.db", "copy.access.db"])
def test_a_backup_never_replaces_a_file(service: Service, tmp_path: Path, taken: str) -> None:
    """Not even half of it: where one of the two files is there, nothing is copied."""
    (tmp_path / taken).write_text("precious")
    before = sorted(tmp_path.iterdir())

    done = retinue("backup", tmp_path / "copy.db", "--store", service.store)

    assert 2 == done.returncode
    assert f"retinue: already exists: {tmp_path / taken}; a backup replaces nothing" in done.stderr
    assert "precious" == (tmp_path / taken).read_text()
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("target", "store", "words"),
    [
        ("no/copy.db", "graph.db", "no/copy.db: cannot be created: the folder no does not exist"),
        ("copy.db", "none.db", "none.db: there is no follow graph here"),
        ("copy.db", "notes.txt", "notes.txt: not a Retinue follow graph"),
    ],
)
def test_an_impossible_backup_is_reported(
    store_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, store: str, words: str
) -> None:
    """One clear line, exit code 2, and nothing is made."""
    monkeypatch.chdir(store_path.parent)
    open_store(store_path.name).create()
    Path("notes.txt").write_text("x" * 5000)

    done = retinue("backup", target, "--store", store)

    assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
    assert done.stderr.startswith(f"retinue: {words}")
    assert [] == list(Path().rglob("copy*"))


# Other schemas

COMMANDS = ["check", "serve", "import f.csv", "apply f.csv", "following anna", "erase 17", "backup copy"]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_store_with_another_schema_is_refused_and_not_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """Every command names the remedy, and makes and changes nothing."""
    monkeypatch.chdir(tmp_path)
    open_store("old.db").create()
    Path("f.csv").write_text("follower,followee\na,b\n")
    ours = files.GRAPH.version
    schemas = ((ours - 1, "an older", "export it with that version"), (ours + 1, "a newer", "update Retinue"))
    for schema, age, remedy in schemas:
        for path in (Path("old.db"), files.access_path(Path("old.db"))):
            with closing(apsw.Connection(str(path))) as connection:
                connection.execute(f"PRAGMA user_version = {schema}")
        before = {path: path.read_bytes() for path in tmp_path.glob("*.db")}

        done = retinue(*command.split(), "--store", "old.db")

        assert (2, "", 1) == (done.returncode, done.stdout, done.stderr.count("\n"))
        assert f"written by {age} Retinue (schema {schema}, this version needs {ours}); {remedy}" in done.stderr
        assert before == {path: path.read_bytes() for path in tmp_path.glob("*.db")}
