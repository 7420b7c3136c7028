"""A command that has too little memory says so in one line and exits with 2, whichever library notices it."""

import errno
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import duckdb
import pytest

from retinue import __main__
from retinue.ingest.parquet import ParquetTable
from retinue.ingest.records import FOLLOW_COLUMNS
from retinue.ingest.tables import open_table
from retinue.store.open import open_store

# Run a command in a process that can allocate only a little more than it has when all libraries are loaded.
CONFINED = """
import duckdb, numpy, resource, sys
import retinue.cli.main, retinue.ingest.importer, retinue.ingest.staging, retinue.ingest.tables
import retinue.store.sqlite.backend
from retinue.__main__ import main
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv.pop(1))
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
main()
"""
LARGE = 32 << 20


def retinue_with(room: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a command with so many bytes of memory for its work."""
    command = [sys.executable, "-c", CONFINED, str(room), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


COMMANDS = [("import", "accounts.csv"), ("export", "out"), ("check",), ("generate",)]


@pytest.mark.parametrize("command", COMMANDS, ids=repr)
def test_a_command_without_memory_exits_with_2(tmp_path: Path, command: tuple[str, ...]) -> None:
    """And says so in one line."""
    store, table = tmp_path / "graph.db", tmp_path / "accounts.csv"
    open_store(str(store)).create()
    table.write_text("follower,followee,followed_at\n" + "".join(f"a{n},b,1\n" for n in range(20_000)))
    name, *rest = command
    where = ("-o", tmp_path) if name == "generate" else ("--store", store)
    done = retinue_with(0, name, *where, *(tmp_path / each for each in rest))

    assert 2 == done.returncode
    # DuckDB complains of modules that this test has imported.
    said = [
        line for line in done.stderr.splitlines() if not line.startswith((" - ", "nanobind:", "See https://nanobind"))
    ]
    assert [True] == [line.startswith("retinue: out of memory") for line in said]


def test_a_table_too_large_for_memory_is_not_reported_as_damaged(tmp_path: Path) -> None:
    """A Parquet file with one name that DuckDB has no room for."""
    path = tmp_path / "large.parquet"
    name = f"SELECT repeat('x', {LARGE}) AS follower, 'b' AS followee, 1 AS followed_at"
    with duckdb.connect() as duck:
        duck.execute(f"COPY ({name}) TO '{path}' (FORMAT parquet)")
    with closing(open_table(path, FOLLOW_COLUMNS)) as table:
        assert isinstance(table, ParquetTable)
        table._connection.execute("SET memory_limit = '10MB'")
        with pytest.raises(MemoryError):
            list(table)


def caused(error: Exception) -> Exception:
    """An error that came of another one."""
    outer = RuntimeError("cannot go on")
    outer.__cause__ = error
    return outer


ERRORS = [
    MemoryError(),
    OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
    duckdb.OutOfMemoryException("failed to allocate"),
    apsw.NoMemError("out of memory"),
    ImportError("library.so: failed to map segment from shared object"),
]


@pytest.mark.parametrize("error", [*ERRORS, *map(caused, ERRORS)], ids=repr)
def test_memory_errors_of_every_library_are_recognized(error: Exception) -> None:
    """Also behind an error that came of it; other errors are told as what they are."""
    assert __main__._message_of(error).startswith("out of memory")
    assert "memory" not in __main__._message_of(caused(ValueError("odd")))


def test_a_thread_that_cannot_start_is_reported_with_the_limits() -> None:
    """It may be for want of memory, or for a limit of processes."""
    assert "limit of memory or of processes" in __main__._message_of(RuntimeError("can't start new thread"))
