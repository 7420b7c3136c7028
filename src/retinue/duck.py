"""Tables of DuckDB on disk."""

import errno
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb

from retinue.errors import StoreError
from retinue.escaping import FORMULA, sql_name, sql_text

THREADS = 2
# The options of SQL's COPY for each kind of table, by the ending of its file.
FORMATS = {
    "parquet": "FORMAT parquet, COMPRESSION zstd",
    "csv": "FORMAT csv, HEADER true",
    "jsonl": "FORMAT json",
}
_ROWS_AT_ONCE = 10_000
_APOSTROPHE = "''''"

_T = TypeVar("_T")


def connect(database: Path | None, folder: Path, **settings: object) -> duckdb.DuckDBPyConnection:
    """Open a database, in memory for None, that spills into `folder`."""
    connection = duckdb.connect(database or ":memory:")
    for setting, value in ({"temp_directory": folder} | settings).items():
        connection.execute(f"SET {setting} = {sql_text(value)}")
    return connection


class Duck:
    """A database in a temporary folder. `memory` is its limit, such as 900MB.

    With `spreadsheet_safe` no text in CSV is a formula.
    """

    # Calls are made in another thread, so that Ctrl-C ends the call. In the main thread it would end the process.

    def __init__(self, folder: Path, memory: str, *, spreadsheet_safe: bool = False) -> None:
        self._spreadsheet_safe = spreadsheet_safe
        self._calls = ThreadPoolExecutor(1, "duckdb")
        self._duck = connect(folder / "tables.duckdb", folder / "spilled", memory_limit=memory, threads=THREADS)

    def close(self) -> None:
        """Close the database."""
        self._calls.shutdown()
        self._duck.close()

    def run(self, statement: str) -> None:
        """Run a statement without a result."""
        self._call(self._duck, lambda: self._duck.execute(statement))

    def add(self, table: str, columns: Iterable[Any], kinds: Iterable[str] = ()) -> None:
        """Insert arrays as the columns of a table. With `kinds`, values of other SQL types become NULL."""
        chunk = {f"column{number:02}": column for number, column in enumerate(columns)}
        casts = ", ".join(f"TRY_CAST({name} AS {kind})" for name, kind in zip(chunk, kinds, strict=False)) or "*"

        def add() -> None:
            self._duck.register("chunk", chunk)
            self._duck.execute(f"INSERT INTO {table} SELECT {casts} FROM chunk")  # noqa: S608 - names of ours
            self._duck.unregister("chunk")

        self._call(self._duck, add)

    def count(self, query: str) -> int:
        """Return the number of a query's rows."""
        counting = f"SELECT count(*) FROM ({query})"  # noqa: S608 - queries of ours
        return int(self._call(self._duck, lambda: self._duck.execute(counting).fetchall())[0][0])

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a query."""
        reading = self._duck.cursor()
        self._call(reading, lambda: reading.execute(query))
        while batch := self._call(reading, lambda: reading.fetchmany(_ROWS_AT_ONCE)):
            yield from batch

    def copy(self, query: str, path: Path, kind: str) -> None:
        """Write a query's rows to a file, in a kind of `FORMATS`."""
        rows = self._without_formulas(query) if self._spreadsheet_safe and kind == "csv" else query
        self.run(f"COPY ({rows}) TO {sql_text(path)} ({FORMATS[kind]})")

    def _without_formulas(self, query: str) -> str:
        described = self._call(self._duck, lambda: self._duck.execute(f"DESCRIBE {query}").fetchall())
        texts = [sql_name(name) for name, kind, *_ in described if kind == "VARCHAR"]
        escaped = ", ".join(
            f"if(regexp_matches({name}, {sql_text(FORMULA)}), {_APOSTROPHE} || {name}, {name}) AS {name}"
            for name in texts
        )
        return f"SELECT * REPLACE ({escaped}) FROM ({query})"  # noqa: S608 - queries of ours

    def _call(self, connection: duckdb.DuckDBPyConnection, call: Callable[[], _T]) -> _T:
        calling = self._calls.submit(call)
        try:
            return calling.result()
        except KeyboardInterrupt:
            connection.interrupt()
            wait([calling])
            raise


@contextmanager
def translated(target: Path) -> Iterator[None]:
    """Turn errors of DuckDB and the disk into `StoreError` or `MemoryError`."""
    try:
        yield
    except duckdb.OutOfMemoryException as error:
        raise MemoryError from error
    except duckdb.Error as error:
        reason = "the disk is full" if os.strerror(errno.ENOSPC) in str(error) else error
        raise StoreError(f"{target}: cannot be written: {reason}") from error
    except OSError as error:
        raise StoreError(f"{target}: cannot be written: {error.strerror or error}") from error
