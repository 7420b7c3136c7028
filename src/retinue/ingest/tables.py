"""Files to raw rows: CSV, JSON lines and Parquet, plain or gzip, streamed.

A table is opened and its columns are checked before anything of it is used. Each iteration begins at its first row. A
row that cannot be read comes out as a fault with its line number; rows around it are not affected.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from retinue.errors import InputError
from retinue.ingest import surrogates
from retinue.ingest.lines import Line, LineFile
from retinue.ingest.parquet import ParquetTable
from retinue.ingest.records import Columns
from retinue.ingest.rows import RawRow, Table, check_columns
from retinue.ingest.sources import Source, open_source

# A quoted CSV field may hold line breaks, but a quote that is never closed must not swallow the file.
MAX_RECORD_LINES = 10_000
_PADDED_FIELD = re.compile(r'(?: *"((?:[^"]|"")*)" *|((?! *")[^,]*))(,|\Z)')


def open_table(path: Path, columns: Columns, *, is_whole: bool = False) -> Table:
    """Open a file by its kind. Raises `InputError` for what is no table with these columns.

    With `is_whole` also for a pipe that may have been cut off unnoticed.
    """
    readers: dict[str, Callable[[Source, Columns], Table]] = {
        ".csv": CsvTable,
        ".jsonl": JsonLinesTable,
        ".parquet": ParquetTable,
    }
    source = open_source(path, is_whole=is_whole)
    try:
        return readers[source.kind](source, columns)
    except BaseException:
        source.close()
        raise


class CsvTable:
    """Comma-separated values with a header line."""

    def __init__(self, source: Source, columns: Columns) -> None:
        self.source = source
        self._lines = LineFile(source)
        self.size = self._lines.size
        try:
            self.names = self._header()
            check_columns(source.name, self.names, columns)
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

    def _header(self) -> list[str]:
        header = next(iter(_CsvRecords(iter(self._lines), 0)), None)
        if header is None or header.fault:
            fault = header.fault if header else "is empty"
            raise InputError(f"{self.source.name}: {fault}: expected a header line")
        return [name.strip() for name in header.fields]

    def __iter__(self) -> Iterator[RawRow]:
        names = self.names
        records = iter(_CsvRecords(iter(self._lines), len(names)))
        next(records)
        for line, text, fields, fault in records:
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

    def __init__(self, source: Source, columns: Columns) -> None:
        self._lines = LineFile(source)
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
        original = line.text.encode()
        content, replaced = surrogates.replaced(original)
        try:
            values = self._decode(content)
        except (msgspec.DecodeError, RecursionError) as error:
            return RawRow(line.number, {}, line.text, f"expected a JSON object: {error}")
        unknown = values.keys() - self._known
        fault = f"unknown field {min(unknown)!r}" if unknown else ""
        changed = surrogates.changed_fields(original) if replaced else frozenset[str]()
        return RawRow(line.number, values, line.text, fault, replaced, changed)


class _Record(NamedTuple):
    line: int
    text: str
    fields: list[str]
    fault: str = ""


class _CsvRecords:
    """Lines to records. `width` is how many fields a record has to have, 0 before the header is known."""

    def __init__(self, lines: Iterator[Line], width: int) -> None:
        self._width = width
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
        if len(taken) == 1 or (not record.fault and self._width in (0, len(record.fields))):
            return record
        self._waiting.extendleft(reversed(taken[1:]))
        return _Record(first.number, first.text, [], "a quote is never closed")


def _parsed(lines: list[Line]) -> _Record:
    text = "".join(line.text + line.end for line in lines).removesuffix(lines[-1].end)
    fault = next((line.fault for line in lines if line.fault), "")
    try:
        fields = _padded_fields(text) if ' "' in text or '" ' in text else next(csv.reader([text], strict=True))
        return _Record(lines[0].number, text, fields, fault)
    except csv.Error as error:
        return _Record(lines[0].number, text, [], f"not CSV: {error}")


def _padded_fields(text: str) -> list[str]:
    """The fields of a record with spaces around its quotes, which the csv module takes for text or for an error."""
    fields = []
    place = 0
    end = ","
    while end:
        field = _PADDED_FIELD.match(text, place)
        if field is None:
            raise csv.Error("',' expected after '\"'")
        quoted, plain, end = field.groups()
        fields.append(plain if quoted is None else quoted.replace('""', '"'))
        place = field.end()
    return fields
