"""Raw rows of Parquet files, read by DuckDB."""

import os
import shutil
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import duckdb

from retinue.duck import connect
from retinue.errors import InputError
from retinue.escaping import sql_name, sql_text
from retinue.ingest import plain_accounts
from retinue.ingest.records import Columns, RawRow
from retinue.ingest.sources import PARQUET_MAGIC, InputFile
from retinue.ingest.values import FIRST_MILLISECONDS
from retinue.temporary import TemporaryFolder

_BATCH = 10_000
_TIMES = ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "TIMESTAMP WITH TIME ZONE")


class ParquetTable:
    """A Parquet file. A packed one is first unpacked to a temporary file."""

    def __init__(self, source: InputFile, columns: Columns) -> None:
        # DuckDB would treat some characters of a path as patterns, so it reads through a neutral name.
        self._folder = TemporaryFolder()
        self._connection = connect(None, self._folder.path)
        self._source = source
        self.position = 0
        try:
            self._open(columns)
        except duckdb.OutOfMemoryException as error:
            self.close()
            raise MemoryError from error
        except (OSError, EOFError, zlib.error, duckdb.Error) as error:
            self.close()
            raise InputError(f"{source.name}: cannot be read as Parquet: {self._cause(error)}") from error
        except InputError:
            self.close()
            raise

    def __iter__(self) -> Iterator[RawRow]:
        self.position = 0
        try:
            self._connection.execute(
                f"SELECT {self._picked}, NULL, {self._is_plain} FROM {self.rows()}"  # noqa: S608 - known columns
            )
            while batch := self._connection.fetchmany(_BATCH):
                accounts = self._accounts([values for values in batch if values[-1]])
                for values in batch:
                    self.position += 1
                    if values[-1]:
                        yield RawRow(self.position, {}, "", account=next(accounts))
                    else:
                        yield self._row(self.position, values[:-2])
        except duckdb.OutOfMemoryException as error:
            raise MemoryError from error
        except duckdb.Error as error:
            raise InputError(f"{self._source.name}: damaged after row {self.position}: {self._cause(error)}") from error

    def rows_at(self, numbers: Iterable[int]) -> Iterator[RawRow]:
        """Yield rows by ascending number from 1."""
        self._connection.execute(
            f"SELECT file_row_number, {self._picked} FROM {self.rows(numbered=True)}"  # noqa: S608 - known columns
            " WHERE file_row_number IN (SELECT unnest(?)) ORDER BY file_row_number",
            ([number - 1 for number in numbers],),
        )
        while batch := self._connection.fetchmany(_BATCH):
            for number, *values in batch:
                yield self._row(number + 1, values)

    def _row(self, number: int, values: Sequence[Any]) -> RawRow:
        return RawRow(number, dict(zip(self._names, values, strict=True)), repr(tuple(values)))

    def rows(self, *, numbered: bool = False) -> str:
        """Return the file in SQL, with the column `file_row_number` if `numbered`."""
        return f"read_parquet({sql_text(self._name)}, hive_partitioning = false, file_row_number = {numbered})"

    def close(self) -> None:
        """Close the file."""
        self._connection.close()
        self._folder.close()
        self._source.close()

    def _open(self, columns: Columns) -> None:
        self._name = self._neutral_name()
        self._check_ends()
        rows = self.rows()
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {rows}").fetchall()  # noqa: S608 - a name of ours
        self._names = [name for name, *_ in described]
        columns.check(self._source.name, self._names)
        count = self._connection.execute(f"SELECT count(*) FROM {rows}").fetchone()  # noqa: S608 - a name of ours
        self.size = int(count[0]) if count else 0
        self.kinds = {name: kind for name, kind, *_ in described}
        self._picked = ", ".join(_plain_column(name, kind) for name, kind in self.kinds.items())
        self._is_plain = plain_accounts.condition(self.kinds)
        self._accounts = plain_accounts.reader(self._names)

    def _neutral_name(self) -> Path:
        name = self._folder.path / "table.parquet"
        if not self._source.is_packed:
            name.symlink_to(self._source.path.absolute())
            return name
        with self._source.open() as packed, name.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        return name

    def _check_ends(self) -> None:
        with self._name.open("rb") as file:
            beginning = file.read(len(PARQUET_MAGIC))
            file.seek(-min(len(PARQUET_MAGIC), len(beginning)), os.SEEK_END)
            end = file.read()
        if beginning != PARQUET_MAGIC:
            raise InputError(f"{self._source.name}: cannot be read as Parquet: it does not begin as such a file does")
        if end != PARQUET_MAGIC:
            raise InputError(f"{self._source.name}: cannot be read as Parquet: its end is missing; it was cut off")

    def _cause(self, error: Exception) -> str:
        # The first line has no SQL in it.
        line = next(iter(str(error).splitlines()), type(error).__name__)
        line = line.replace(str(self._folder.path / "table.parquet"), Path(self._source.name).name)
        return "".join(each if each.isprintable() else "\ufffd" for each in line)


def plain_time(name: str, kind: str) -> str:
    """Return the SQL for a time as a Unix second below `FIRST_MILLISECONDS`."""
    if kind not in _TIMES:
        return name
    second, last = f"CAST(floor(epoch({name})) AS BIGINT)", FIRST_MILLISECONDS - 1
    return (
        f"CASE WHEN {name} IS NULL THEN NULL WHEN {name} < TIMESTAMP '1970-01-01' THEN coalesce({second}, -1)"
        f" ELSE least({second}, {last}) END"  # infinity, which has no second, becomes the last one
    )


def _plain_column(name: str, kind: str) -> str:
    # Decimals become text, which needs no library; integers of ids too, as they are stored.
    column = sql_name(name)
    if kind in _TIMES:
        return plain_time(column, kind)
    return (
        f"CAST({column} AS VARCHAR)"
        if kind.startswith(("DECIMAL", "HUGEINT", "UHUGEINT")) or (name == "id" and kind in plain_accounts.INTEGERS)
        else column
    )
