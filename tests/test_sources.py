"""Inputs that can be read only once: named pipes, process substitutions and standard input are files like others."""

import gzip
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, suppress
from pathlib import Path

import duckdb
import pytest

from retinue.errors import InputError
from retinue.ingest.records import FOLLOW_COLUMNS
from retinue.ingest.tables import open_table
from support.commands import imported, list_of, tally
from support.waiting import waiting_for

CSV = b"follower,followee,followed_at\na,b,5\na,c,6\n"
JSON = (
    b'\xef\xbb\xbf {"follower":"a","followee":"b","followed_at":5}\n{"follower":"a","followee":"c","followed_at":6}\n'
)


def contents(folder: Path) -> dict[str, bytes]:
    """The same two follows as a file of each kind."""
    source = folder / "source.parquet"
    rows = "VALUES ('a', 'b', 5), ('a', 'c', 6)"
    duckdb.execute(f"COPY (SELECT * FROM ({rows}) t(follower, followee, followed_at)) TO '{source}'")
    plain = {"csv": CSV, "jsonl": JSON, "parquet": source.read_bytes()}
    return plain | {f"{kind}.gz": gzip.compress(content) for kind, content in plain.items()}


KINDS = ["csv", "jsonl", "parquet", "csv.gz", "jsonl.gz", "parquet.gz"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_pipe_is_imported_as_any_file(store_path: Path, tmp_path: Path, kind: str) -> None:
    """Of every kind: the same rows, report and exit code."""
    pipe = tmp_path / f"follows.{kind}"
    os.mkfifo(pipe)
    content = contents(tmp_path)[kind]
    writing = threading.Thread(target=pipe.write_bytes, args=(content,))
    writing.start()

    done = imported(store_path, pipe)

    writing.join()
    assert (0, {f"follows.{kind}": tally(accepted=2)}) == done
    assert [("c", ""), ("b", "")] == list_of(store_path, "a")


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("kind", KINDS)
def test_standard_input_is_imported_by_its_content(store_path: Path, tmp_path: Path, name: str, kind: str) -> None:
    """A pipe without a suffix, such as a process substitution: its beginning says what it is."""
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), name]

    done = subprocess.run(command, input=contents(tmp_path)[kind], capture_output=True, check=False)

    assert (0, b"") == (done.returncode, done.stderr)
    assert [("c", ""), ("b", "")] == list_of(store_path, "a")


@pytest.mark.parametrize("name", ["-", "/dev/stdin", "/dev/fd/0"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_dump_from_a_pipe_must_mark_its_end(store_path: Path, tmp_path: Path, name: str, kind: str) -> None:
    """A pipe of CSV or JSON lines ends alike if its producer died: it is refused, and no store is made."""
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), "--snapshot-at", "9", name]

    done = subprocess.run(command, input=contents(tmp_path)[kind], capture_output=True, check=False)

    is_refused = kind in ("csv", "jsonl")
    assert (2 if is_refused else 0, not is_refused) == (done.returncode, store_path.exists())
    assert is_refused == (b"is a pipe, whose end does not tell whether a full dump is complete; save" in done.stderr)


def test_a_killed_import_leaves_no_copy_of_a_pipe(store_path: Path, tmp_path: Path) -> None:
    """The copy has no name, even while the pipe is still being read."""
    pipe, folder = tmp_path / "pipe", tmp_path / "temporary"
    os.mkfifo(pipe)
    folder.mkdir()
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), str(pipe)]
    importing = subprocess.Popen(command, env=os.environ | {"TMPDIR": str(folder)})
    with pipe.open("wb") as writing:
        writing.write(CSV)
        writing.flush()
        waiting_for(lambda: len(CSV) in sizes_of_copies(importing.pid, folder))
        importing.kill()
        importing.wait()

    assert [] == list(folder.iterdir())


def sizes_of_copies(pid: int, folder: Path) -> list[int]:
    """The sizes of the files in a folder that a process has open, named or not."""
    sizes = []
    for opened in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # one that the process has closed meanwhile
            if opened.readlink().is_relative_to(folder):
                sizes.append(opened.stat().st_size)
    return sizes


def test_standard_input_may_be_a_file(store_path: Path, tmp_path: Path) -> None:
    """It is read as it is handed on."""
    path = tmp_path / "anything"
    path.write_bytes(CSV)
    command = [sys.executable, "-m", "retinue", "import", "--store", str(store_path), "/dev/stdin"]

    with path.open("rb") as file:
        done = subprocess.run(command, stdin=file, capture_output=True, check=False)

    assert (0, b"") == (done.returncode, done.stderr)
    assert [("c", ""), ("b", "")] == list_of(store_path, "a")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty: expected a header line"),
        (b"who,whom\n", "lacks the column 'follower'"),
        (gzip.compress(CSV, mtime=0)[:-9], "damaged after line"),
        (b"PAR1 and no more", "cannot be read as Parquet: its end is missing"),
    ],
)
def test_a_pipe_with_something_else_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    """The error names the pipe, and no copy is left behind."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writing = threading.Thread(target=pipe.write_bytes, args=(content,))
    writing.start()

    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path / "temporary"
        folder.mkdir()
        patch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(InputError, match=words) as refusal, closing(open_table(pipe, FOLLOW_COLUMNS)) as table:
            list(table)
        assert [] == list(folder.iterdir())

    writing.join()
    assert str(refusal.value).startswith(f"{pipe}: ")


def test_a_folder_is_refused(tmp_path: Path) -> None:
    """The name of the folder makes no difference."""
    folder = tmp_path / "follows.csv"
    folder.mkdir()

    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        open_table(folder, FOLLOW_COLUMNS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_is_read_from_its_beginning_each_time(tmp_path: Path, kind: str) -> None:
    """The rows come again, also after a reading that was left early."""
    path = tmp_path / f"follows.{kind}"
    path.write_bytes(contents(tmp_path)[kind])

    with closing(open_table(path, FOLLOW_COLUMNS)) as table:
        first = next(iter(table))
        rows = [list(table), list(table)]

    assert [first] == rows[0][:1]
    assert rows[0] == rows[1]
    assert ["b", "c"] == [row.values["followee"] for row in rows[0]]
