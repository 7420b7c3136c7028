"""Files to raw rows: CSV, JSON lines and Parquet, plain or gzip, streamed.

A table is opened and its columns are checked before anything of it is used. A row that cannot be read comes out as
a fault with its line number; rows around it are not affected.
"""

import csv
import gzip
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb
import msgspec

from retinue.errors import InputError
from retinue.ingest.lines import Line, LineFile
from retinue.ingest.records import Columns

# A quoted CSV field may hold line breaks, but a quote that is never closed must not swallow the file.
MAX_RECORD_LINES = 100
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
        self._lines = LineFile(path)
        self.size = self._lines.size
        self._records = _csv_records(iter(self._lines))
        header = next(self._records, None)
        if header is None or header.fault:
            raise InputError(f"{path}: {header.fault if header else 'is empty'}: expected a header line")
        self._names = [name.strip() for name in header.fields]
        _check_columns(path, self._names, columns)

    @property
    def position(self) -> int:
        """Bytes consumed."""
        return self._lines.position

    def __iter__(self) -> Iterator[RawRow]:
        names = self._names
        for line, text, fields, fault in self._records:
            if fault:
                yield RawRow(line, {}, text, fault)
            elif len(fields) != len(names):
                yield RawRow(line, {}, text, f"expected {len(names)} columns, got {len(fields)}")
            else:
                yield RawRow(line, dict(zip(names, fields, strict=True)), text)


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
        self._unpacked = tempfile.NamedTemporaryFile(suffix=".parquet")  # noqa: SIM115 - lives as long as the table
        self.position = 0
        try:
            source = self._unpack(path) if path.suffix == ".gz" else path
            self._connection = duckdb.connect()
            self._result = self._connection.execute("SELECT * FROM read_parquet(?)", [str(source)])
            self._names = [column[0] for column in self._result.description or []]
            count = duckdb.connect().execute("SELECT count(*) FROM read_parquet(?)", [str(source)]).fetchone()
        except (OSError, EOFError, duckdb.Error) as error:
            raise InputError(f"{path}: cannot be read as Parquet: {error}") from error
        self.size = int(count[0]) if count else 0
        _check_columns(path, self._names, columns)

    def __iter__(self) -> Iterator[RawRow]:
        while batch := self._result.fetchmany(_PARQUET_BATCH):
            for values in batch:
                self.position += 1
                yield RawRow(self.position, dict(zip(self._names, values, strict=True)), repr(values))

    def _unpack(self, path: Path) -> Path:
        with gzip.open(path, "rb") as packed:
            shutil.copyfileobj(packed, self._unpacked)
        self._unpacked.flush()
        return Path(self._unpacked.name)


class _Record(NamedTuple):
    line: int
    text: str
    fields: list[str]
    fault: str = ""


def _csv_records(lines: Iterator[Line]) -> Iterator[_Record]:
    waiting: deque[Line] = deque()
    while (line := waiting.popleft() if waiting else next(lines, None)) is not None:
        if line.fault:
            yield _Record(line.number, line.text, [], line.fault)
        elif '"' in line.text:
            yield _quoted_record(line, waiting, lines)
        elif line.text:
            yield _Record(line.number, line.text, line.text.split(","))


def _quoted_record(first: Line, waiting: deque[Line], lines: Iterator[Line]) -> _Record:
    """A record that has quotes, and so may go on in the next lines. If it never ends only its first line is lost."""
    taken = [first]
    quotes = first.text.count('"')
    while quotes % 2:
        following = waiting.popleft() if waiting else next(lines, None)
        if following is not None:
            taken.append(following)
        if following is None or following.fault or len(taken) > MAX_RECORD_LINES:
            waiting.extendleft(reversed(taken[1:]))
            return _Record(first.number, first.text, [], "a quote is never closed")
        quotes += following.text.count('"')
    text = "\n".join(line.text for line in taken)
    try:
        return _Record(first.number, text, next(csv.reader([text], strict=True)))
    except csv.Error as error:
        return _Record(first.number, text, [], f"not CSV: {error}")


def _check_columns(path: Path, found: list[str], columns: Columns) -> None:
    for wrong, names in (
        ("lacks the column", [name for name in columns.required if name not in found]),
        ("has the unknown column", [name for name in found if name not in columns.known]),
        ("has more than one column", [name for name in found if found.count(name) > 1]),
    ):
        if names:
            known = ", ".join(columns.required + columns.optional)
            raise InputError(f"{path}: {wrong} {names[0]!r}; columns are {known}")
