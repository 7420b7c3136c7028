"""File systems that cannot lock files or sync folders, and disks that fill up."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.collecting import arguments_of
from support.commands import retinue, retinue_after
from support.scripted_service import Said, page, scripted
from support.service import problems_of

# Each runs in the process of a command, before the command.
WITHOUT_LOCKS = """
import errno, fcntl, os
def flock(descriptor, operation): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
fcntl.flock = flock
"""
WITHOUT_FOLDER_SYNC = """
import errno, os, stat
fsync = os.fsync
def sync(file):
    if stat.S_ISDIR(os.fstat(file).st_mode): raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
    fsync(file)
os.fsync = sync
"""
BROKEN = """
import os
def link(*arguments, **named): raise RuntimeError("two\\nlines")
os.link = link
"""


def answer(path: str, sent: dict[str, Any]) -> Said:
    """Answer every list with one row."""
    return page([{"username": "ben", "display_name": ""}])


def retinue_on_full_disk(size: int, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command to its end whose files may have so many bytes and no more."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))"
    return retinue_after(limit, *words)


@pytest.fixture
def store(tmp_path: Path, store_path: Path) -> Path:
    """A store with a follow, made on an ordinary file system."""
    follows = tmp_path / "follows.csv"
    follows.write_text("follower,followee,followed_at\nanna,ben,100\n")
    assert 0 == retinue("import", follows, "--store", store_path).returncode
    return store_path


def test_a_server_refuses_a_file_system_without_locks(tmp_path: Path, store: Path) -> None:
    """One line with a remedy."""
    done = retinue_after(WITHOUT_LOCKS, "serve", "--store", store, "--port", "0", "--management-port", "0")

    place = store.with_suffix(".audit")
    message = f"retinue: {place}: cannot be locked: No locks available; put it on a local disk\n"
    assert (2, message) == (done.returncode, done.stderr)


def test_a_collection_refuses_a_file_system_without_locks(tmp_path: Path) -> None:
    """One line with a remedy, before anything is asked."""
    arguments = arguments_of("http://127.0.0.1:9", tmp_path / "found", ["anna"])
    done = retinue_after(WITHOUT_LOCKS, *arguments)

    message = f"retinue: {tmp_path}/found: cannot be locked: No locks available; put it on a local disk\n"
    assert (2, message) == (done.returncode, done.stderr)


def test_commands_that_need_no_lock_work_without_locks(tmp_path: Path, store: Path) -> None:
    """Reading a store, and showing its clients, works on such a file system."""
    for words in (["following", "anna"], ["client", "create", "--name", "x"], ["client", "list"], ["check"]):
        done = retinue_after(WITHOUT_LOCKS, *words, "--store", store)
        assert (0, "") == (done.returncode, done.stderr)


def test_folders_that_cannot_be_synced_are_used(tmp_path: Path, store: Path) -> None:
    """Exports, backups and collections are whole on a file system that syncs files only."""
    export = retinue_after(WITHOUT_FOLDER_SYNC, "export", tmp_path / "exported", "--store", store)
    backup = retinue_after(WITHOUT_FOLDER_SYNC, "backup", tmp_path / "copy.db", "--store", store)
    with scripted(answer) as url:
        collect = retinue_after(WITHOUT_FOLDER_SYNC, *arguments_of(url, tmp_path / "found", ["anna"]))
    verify = retinue("collect", "verify", tmp_path / "found")

    assert [(0, "")] * 4 == [(done.returncode, done.stderr) for done in (export, backup, collect, verify)]


def test_only_a_held_lock_is_reported_as_one(tmp_path: Path) -> None:
    """A `BlockingIOError` of another call is told as what it is."""
    fault = """
import errno, os
whole = os.link
def link(source, target, **named):
    if ".unfinished" not in str(target): raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
    whole(source, target, **named)
os.link = link
"""
    with scripted(answer) as url:
        arguments = arguments_of(url, tmp_path / "found", ["anna"], "--into", str(tmp_path / "mirror.db"))
        done = retinue_after(fault, *arguments)

    assert 2 == done.returncode
    assert "Resource temporarily unavailable" in done.stderr
    assert "another process" not in done.stderr


def test_an_unexpected_error_is_one_line(tmp_path: Path, store: Path) -> None:
    """Exit code 2, since 1 has a meaning; Python's development mode shows the traceback as well."""
    words = ("backup", tmp_path / "copy.db", "--store", store)
    plain = retinue_after(BROKEN, *words)
    developing = subprocess.run(
        [sys.executable, "-c", f"{BROKEN}\nfrom retinue.__main__ import main\nmain()", *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDEVMODE": "1"},
    )

    line = "retinue: unexpected error (PYTHONDEVMODE=1 shows where): RuntimeError: two lines\n"
    assert (2, line) == (plain.returncode, plain.stderr)
    assert (2, True) == (developing.returncode, "Traceback" in developing.stderr)
    assert developing.stderr.endswith(line)


# --- a disk that fills up ---------------------------------------------------------------------------------------------

SIZE = 100_000
SAMPLE = ("generate", "--accounts", "3000", "--follows", "60000")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A store that has no room on the disk a second time."""
    folder = tmp_path_factory.mktemp("large")
    assert 0 == retinue(*SAMPLE, "-o", folder / "sample").returncode
    tables = ("--accounts", folder / "sample" / "accounts.csv", folder / "sample" / "follows.csv")
    store = folder / "graph.db"
    assert 0 == retinue("import", *tables, "--store", store).returncode
    yield store
    assert problems_of(store) == []


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_sample_replaces_good_files_with_whole_ones_only(tmp_path: Path, kind: str) -> None:
    """On a full disk the earlier files stay as they are, and nothing else is left."""
    folder = tmp_path / "sample"
    assert 0 == retinue(*SAMPLE, "-o", folder, "--format", kind).returncode
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = retinue_on_full_disk(SIZE, *SAMPLE, "--seed", "2", "-o", folder, "--format", kind)

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert "File too large" in done.stderr
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["parquet", "csv", "jsonl", "graphml", "backup"])
def test_no_half_copy_of_a_store_is_left_on_a_full_disk(tmp_path: Path, large: Path, kind: str) -> None:
    """One line, exit code 2, and nothing beside the store that was not there."""
    copies = tmp_path / "copies"
    copies.mkdir()
    words = ("backup", copies / "copy.db") if kind == "backup" else ("export", copies / "copy", "--format", kind)
    done = retinue_on_full_disk(SIZE, *words, "--store", large)

    assert (2, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
    assert done.stderr.startswith(f"retinue: {copies}/copy")
    assert [] == list(copies.iterdir())


def test_unwritable_rejected_rows_are_reported(tmp_path: Path, store: Path) -> None:
    """One line that names the file, and the rejected rows of an earlier import stay."""
    rejects, table = store.with_suffix(".rejects.jsonl"), tmp_path / "bad.csv"
    rejects.write_text("{}\n")
    table.write_text("follower,followee,followed_at\n" + "a,,1\n" * 5_000)
    done = retinue_on_full_disk(SIZE, "import", table, "--store", store)

    assert (2, 1) == (done.returncode, done.stderr.count("\n")), done.stderr
    assert done.stderr == f"retinue: {rejects}: rejected rows cannot be written: File too large\n"
    assert "{}\n" == rejects.read_text()
