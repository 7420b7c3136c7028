"""Files to raw rows: CSV, JSON lines and Parquet, plain or gzip, streamed.

A table is opened and its columns are checked before anything of it is used. A row that cannot be read comes out as
a fault with its line number; rows around it are not affected.
"""

import csv
import gzip
import shutil
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb
import msgspec

from retinue.errors import InputError
from retinue.ingest.lines import Line, LineFile
from retinue.ingest.records import Columns

# A quoted CSV field may hold line breaks, but a quote that is never closed must not swallow the file.
MAX_RECORD_LINES = 10_000
_PARQUET_BATCH = 10_000


class RawRow(NamedTuple):
    """One row as the file has it; with a `fault` its values cannot be read. `line` is a row number in Parquet."""

    line: int
    values: dict[str, Any]
    text: str
    fault: str = ""


class Table(Protocol):
    """An opened file."""

    size: int

    @property
    def position(self) -> int:
        """How far reading is, of `size`."""
        ...

    def __iter__(self) -> Iterator[RawRow]: ...

    def close(self) -> None:
        """Give the file back."""
        ...


def open_table(path: Path, columns: Columns) -> Table:
    """Open a file by its suffix. Raises `InputError` for what is no table with these columns."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    kind = (suffixes[:-1] if packed else suffixes)[-1:]
    readers: dict[str, Callable[[Path, Columns], Table]] = {
        ".csv": CsvTable,
        ".jsonl": JsonLinesTable,
        ".parquet": ParquetTable,
    }
    if not kind or kind[0] not in readers:
        raise InputError(f"{path}: unknown kind of file; expected {', '.join(readers)}, each also with .gz")
    return readers[kind[0]](path, columns)


class CsvTable:
    """Comma-separated values with a header line."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self.path = path
        self._lines = LineFile(path)
        self.size = self._lines.size
        self._csv = _CsvRecords(iter(self._lines))
        self._records = iter(self._csv)
        try:
            self.names = self._header(path)
            _check_columns(path, self.names, columns)
            self._csv.width = len(self.names)
        except InputError:
            self.close()
            raise

    @property
    def position(self) -> int:
        """Bytes consumed."""
        return self._lines.position

    def close(self) -> None:
        """Give the file back."""
        self._lines.close()

    def _header(self, path: Path) -> list[str]:
        header = next(self._records, None)
        if header is None or header.fault:
            raise InputError(f"{path}: {header.fault if header else 'is empty'}: expected a header line")
        return [name.strip() for name in header.fields]

    def __iter__(self) -> Iterator[RawRow]:
        names = self.names
        for line, text, fields, fault in self._records:
            if fault:
                yield RawRow(line, {}, text, fault)
            elif len(fields) != len(names):
                yield RawRow(line, {}, text, f"expected {len(names)} columns, got {len(fields)}")
            else:
                yield RawRow(line, dict(zip(names, fields, strict=True)), text)

    def rows_at(self, numbers: Iterable[int]) -> Iterator[RawRow]:
        """Rows by number, ascending, the first being 1; empty lines are none."""
        wanted = iter(numbers)
        following = next(wanted, None)
        for number, row in enumerate(self, start=1):
            if number == following:
                yield row
                following = next(wanted, None)


class JsonLinesTable:
    """One JSON object a line."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._lines = LineFile(path)
        self.size = self._lines.size
        self._known = columns.known
        self._decode = msgspec.json.Decoder(dict[str, Any]).decode

    @property
    def position(self) -> int:
        """Bytes consumed."""
        return self._lines.position

    def close(self) -> None:
        """Give the file back."""
        self._lines.close()

    def __iter__(self) -> Iterator[RawRow]:
        for line in self._lines:
            if line.fault or line.text.strip():
                yield self._row(line)

    def _row(self, line: Line) -> RawRow:
        if line.fault:
            return RawRow(line.number, {}, line.text, line.fault)
        try:
            values = self._decode(line.text)
        except (msgspec.DecodeError, RecursionError) as error:
            return RawRow(line.number, {}, line.text, f"expected a JSON object: {error}")
        unknown = values.keys() - self._known
        fault = f"unknown field {min(unknown)!r}" if unknown else ""
        return RawRow(line.number, values, line.text, fault)


class ParquetTable:
    """A Parquet file, read a batch at a time. A packed one is unpacked into a temporary file first."""

    def __init__(self, path: Path, columns: Columns) -> None:
        # DuckDB would take signs in a path for patterns; it gets to see a neutral name only.
        self._folder = tempfile.TemporaryDirectory(prefix="retinue-")
        self._connection = duckdb.connect()
        self.path = path
        self.position = 0
        try:
            self._open(columns)
        except (OSError, EOFError, zlib.error, duckdb.Error) as error:
            self.close()
            raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
        except InputError:
            self.close()
            raise

    def __iter__(self) -> Iterator[RawRow]:
        try:
            self._connection.execute(f"SELECT {self._picked} FROM {self.source()}")  # noqa: S608 - known columns
            while batch := self._connection.fetchmany(_PARQUET_BATCH):
                for values in batch:
                    self.position += 1
                    yield RawRow(self.position, dict(zip(self._names, values, strict=True)), repr(values))
        except duckdb.Error as error:
            raise InputError(f"{self.path}: damaged after row {self.position}: {error}") from error

    def rows_at(self, numbers: Iterable[int]) -> Iterator[RawRow]:
        """Rows by number, ascending, the first being 1."""
        wanted = [number - 1 for number in numbers]
        self._connection.execute(
            f"SELECT file_row_number, {self._picked} FROM {self.source(numbered=True)}"  # noqa: S608 - known columns
            " WHERE file_row_number IN (SELECT unnest(?)) ORDER BY file_row_number",
            (wanted,),
        )
        while batch := self._connection.fetchmany(_PARQUET_BATCH):
            for number, *values in batch:
                yield RawRow(number + 1, dict(zip(self._names, values, strict=True)), repr(tuple(values)))

    def source(self, *, numbered: bool = False) -> str:
        """The file in SQL, if wanted with the column `file_row_number`."""
        return f"read_parquet({quoted(self._name)}, hive_partitioning = false, file_row_number = {numbered})"

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
        self._folder.cleanup()

    def _open(self, columns: Columns) -> None:
        self._name = self._neutral_name()
        source = self.source()
        described = self._connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608 - a name of ours
        self._names = [name for name, *_ in described]
        _check_columns(self.path, self._names, columns)
        count = self._connection.execute(f"SELECT count(*) FROM {source}").fetchone()  # noqa: S608 - a name of ours
        self.size = int(count[0]) if count else 0
        self.kinds = {name: kind for name, kind, *_ in described}
        self._picked = ", ".join(_plain_column(name, kind) for name, kind in self.kinds.items())

    def _neutral_name(self) -> Path:
        name = Path(self._folder.name) / "table.parquet"
        if self.path.suffix.lower() != ".gz":
            name.symlink_to(self.path.resolve(strict=True))
            return name
        with gzip.open(self.path, "rb") as packed, name.open("wb") as unpacked:
            shutil.copyfileobj(packed, unpacked)
        return name


def _plain_column(name: str, kind: str) -> str:
    """A column as SQL, times as Unix seconds and decimals as text: types that need no library to be read."""
    if kind.startswith("TIMESTAMP"):
        return f"CAST(floor(epoch({name})) AS BIGINT)"
    return f"CAST({name} AS VARCHAR)" if kind.startswith(("DECIMAL", "HUGEINT", "UHUGEINT")) else name


class _Record(NamedTuple):
    line: int
    text: str
    fields: list[str]
    fault: str = ""


class _CsvRecords:
    """Lines to records. `width` is how many fields a record has to have, 0 before the header is known."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self.width = 0
        self._lines = lines
        self._waiting: deque[Line] = deque()

    def __iter__(self) -> Iterator[_Record]:
        while (line := self._next()) is not None:
            if line.fault:
                yield _Record(line.number, line.text, [], line.fault)
            elif '"' in line.text:
                yield self._quoted(line)
            elif line.text:
                yield _Record(line.number, line.text, line.text.split(","))

    def _next(self) -> Line | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _quoted(self, first: Line) -> _Record:
        """A record with quotes, which may go on in the next lines. If those do not fit, only the first is lost."""
        taken = [first]
        quotes = first.text.count('"')
        while quotes % 2 and len(taken) < MAX_RECORD_LINES:
            line = self._next()
            if line is None:
                break
            taken.append(line)
            quotes += line.text.count('"')
        record = _parsed(taken)
        if len(taken) == 1 or (not record.fault and self.width in (0, len(record.fields))):
            return record
        self._waiting.extendleft(reversed(taken[1:]))
        return _Record(first.number, first.text, [], "a quote is never closed")


def _parsed(lines: list[Line]) -> _Record:
    text = "".join(line.text + line.end for line in lines).removesuffix(lines[-1].end)
    fault = next((line.fault for line in lines if line.fault), "")
    try:
        return _Record(lines[0].number, text, next(csv.reader([text], strict=True)), fault)
    except csv.Error as error:
        return _Record(lines[0].number, text, [], f"not CSV: {error}")


def _check_columns(path: Path, found: list[str], columns: Columns) -> None:
    for wrong, names in (
        ("lacks the column", [name for name in columns.required if name not in found]),
        ("has the unknown column", [name for name in found if name not in columns.known]),
        ("has more than one column", [name for name in found if found.count(name) > 1]),
    ):
        if names:
            known = ", ".join(columns.required + columns.optional)
            raise InputError(f"{path}: {wrong} {names[0]!r}; columns are {known}; found: {', '.join(found)[:200]}")


def quoted(text: object) -> str:
    """A text as it stands in SQL."""
    return "'" + str(text).replace("'", "''") + "'"
