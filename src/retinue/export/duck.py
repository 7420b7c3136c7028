"""Tables of DuckDB on disk: filled by columns, read by rows, copied into files. It knows no table by name."""

import errno
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from retinue.errors import StoreError
from retinue.export.spreadsheets import GUARDED

THREADS = 2
# Kinds of tables by the endings of their files, as options of SQL's COPY.
FORMATS = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": "FORMAT csv, HEADER true",
    "jsonl": "FORMAT json",
}
_ROWS_AT_ONCE = 10_000
_APOSTROPHE = "''''"

_T = TypeVar("_T")


class Duck:
    """A database in a folder of which nothing else is expected to stay. `memory` is as DuckDB writes it: 900MB.

    With `spreadsheet_safe` no text in CSV is a formula.

    Its calls are made in a thread of their own, where no signal comes: in the middle of one, what Python makes of
    Ctrl-C ends the process. Here it ends the call.
    """

    def __init__(self, folder: Path, memory: str, *, spreadsheet_safe: bool = False) -> None:
        self._spreadsheet_safe = spreadsheet_safe
        self._calls = ThreadPoolExecutor(1, "duckdb")
        self._duck = duckdb.connect(folder / "tables.duckdb")
        for setting, value in (("memory_limit", memory), ("threads", THREADS), ("temp_directory", folder / "spilled")):
            self.run(f"SET {setting} = {_quoted(value)}")

    def close(self) -> None:
        """Close the database."""
        self._calls.shutdown()
        self._duck.close()

    def run(self, statement: str) -> None:
        """Run a statement that has no result."""
        self._call(self._duck, lambda: self._duck.execute(statement))

    def add(self, table: str, columns: Mapping[str, Any], casts: str = "*") -> None:
        """Add rows to a table; `columns` are arrays by name, in the table's order, `casts` what SQL makes of them."""

        def add() -> None:
            self._duck.register("chunk", columns)
            self._duck.execute(f"INSERT INTO {table} SELECT {casts} FROM chunk")  # noqa: S608 - names of ours
            self._duck.unregister("chunk")

        self._call(self._duck, add)

    def count(self, query: str) -> int:
        """How many rows a query has."""
        counting = f"SELECT count(*) FROM ({query})"  # noqa: S608 - queries of ours
        return int(self._call(self._duck, lambda: self._duck.execute(counting).fetchall())[0][0])

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query."""
        reading = self._duck.cursor()
        self._call(reading, lambda: reading.execute(query))
        while batch := self._call(reading, lambda: reading.fetchmany(_ROWS_AT_ONCE)):
            yield from batch

    def copy(self, query: str, path: Path, kind: str) -> None:
        """Write the rows of a query into a file, in one of `FORMATS`."""
        rows = self._guarded(query) if self._spreadsheet_safe and kind == "csv" else query
        self.run(f"COPY ({rows}) TO {_quoted(path)} ({FORMATS[kind]})")

    def _guarded(self, query: str) -> str:
        """Return a query for the same rows with texts that are no formulas."""
        described = self._call(self._duck, lambda: self._duck.execute(f"DESCRIBE {query}").fetchall())
        guarded = ", ".join(
            f"if(regexp_matches({name}, {_quoted(GUARDED)}), {_APOSTROPHE} || {name}, {name}) AS {name}"
            for name, kind, *_ in described
            if kind == "VARCHAR"
        )
        return f"SELECT * REPLACE ({guarded}) FROM ({query})"  # noqa: S608 - queries of ours

    def _call(self, connection: duckdb.DuckDBPyConnection, call: Callable[[], _T]) -> _T:
        calling = self._calls.submit(call)
        try:
            return calling.result()
        except KeyboardInterrupt:
            connection.interrupt()
            wait([calling])
            raise


@contextmanager
def translated(what: Path) -> Iterator[None]:
    """Turn errors of DuckDB and of the disk into ours."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except duckdb.Error as error:
        reason = "the disk is full" if os.strerror(errno.ENOSPC) in str(error) else error
        raise StoreError(f"{what}: cannot be written: {reason}") from error
    except OSError as error:
        raise StoreError(f"{what}: cannot be written: {error.strerror or error}") from error


def numbered(number: int) -> str:
    """A name for a column that has none, by its place."""
    return f"column{number:02}"


def _quoted(text: object) -> str:
    return "'" + str(text).replace("'", "''") + "'"
