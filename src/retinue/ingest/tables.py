"""Raw rows of CSV, JSON lines and Parquet files, plain or gzip.

Each iteration begins at the first row. A row that cannot be read has a fault, and the rows around it are not affected.
"""

import csv
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from retinue.errors import InputError
from retinue.ingest.lines import LineFile, TextLine
from retinue.ingest.parquet import ParquetTable
from retinue.ingest.records import Columns, InputTable, RawRow
from retinue.ingest.sources import InputFile, open_source
from retinue.ingest.values import BadRecord, fields_with_surrogates, json_object, replace_surrogates

# A quoted CSV field may hold line breaks, but a quote that is never closed must not swallow the file.
MAX_RECORD_LINES = 10_000
_PADDED_FIELD = re.compile(r'(?: *"((?:[^"]|"")*)" *|((?! *")[^,]*))(,|\Z)')


def open_table(path: Path, columns: Columns, *, is_whole: bool = False) -> InputTable:
    """Open a table with these columns. Raises `InputError`.

    With `is_whole` a pipe is refused unless its format (gzip or Parquet) marks its end.
    """
    readers: dict[str, Callable[[InputFile, Columns], InputTable]] = {
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

    def __init__(self, source: InputFile, columns: Columns) -> None:
        self.source = source
        self._lines = LineFile(source)
        self.size = self._lines.size
        try:
            self.names = self._header()
            columns.check(source.name, self.names)
        except InputError:
            self.close()
            raise

    @property
    def position(self) -> int:
        """Bytes read."""
        return self._lines.position

    def close(self) -> None:
        """Close the file."""
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
                yield RawRow(line, {}, text, BadRecord(f"expected {len(names)} columns, got {len(fields)}"))
            else:
                yield RawRow(line, dict(zip(names, fields, strict=True)), text)

    def rows_at(self, numbers: Iterable[int]) -> Iterator[RawRow]:
        """Yield rows by ascending number from 1; empty lines are not counted."""
        wanted = iter(numbers)
        following = next(wanted, None)
        for number, row in enumerate(self, start=1):
            if number == following:
                yield row
                following = next(wanted, None)


class JsonLinesTable:
    """One JSON object a line."""

    def __init__(self, source: InputFile, columns: Columns) -> None:
        self._lines = LineFile(source)
        self.size = self._lines.size
        self._known = columns.known

    @property
    def position(self) -> int:
        """Bytes read."""
        return self._lines.position

    def close(self) -> None:
        """Close the file."""
        self._lines.close()

    def __iter__(self) -> Iterator[RawRow]:
        for line in self._lines:
            if line.fault or line.text.strip():
                yield self._row(line)

    def _row(self, line: TextLine) -> RawRow:
        if line.fault:
            return RawRow(line.number, {}, line.text, line.fault)
        original = line.text.encode()
        content, replaced = replace_surrogates(original)
        try:
            values = json_object(content)
        except BadRecord as bad:
            return RawRow(line.number, {}, line.text, bad)
        unknown = values.keys() - self._known
        fault = BadRecord("unknown field", f"unknown field {min(unknown)!r}") if unknown else None
        changed = fields_with_surrogates(original) if replaced else frozenset[str]()
        return RawRow(line.number, values, line.text, fault, replaced, changed)


class _Record(NamedTuple):
    line: int
    text: str
    fields: list[str]
    fault: BadRecord | None = None


class _CsvRecords:
    """The records of CSV lines. `width` is their number of fields, or 0."""

    def __init__(self, lines: Iterator[TextLine], width: int) -> None:
        self._width = width
        self._lines = lines
        self._waiting: deque[TextLine] = deque()

    def __iter__(self) -> Iterator[_Record]:
        while (line := self._next()) is not None:
            if line.fault:
                yield _Record(line.number, line.text, [], line.fault)
            elif '"' in line.text:
                yield self._quoted(line)
            elif line.text:
                yield _Record(line.number, line.text, line.text.split(","))

    def _next(self) -> TextLine | None:
        return self._waiting.popleft() if self._waiting else next(self._lines, None)

    def _quoted(self, first: TextLine) -> _Record:
        """Return a record that may span lines. If quotes do not fit, only its first line is lost."""
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
        return _Record(first.number, first.text, [], BadRecord("a quote is never closed"))


def _parsed(lines: list[TextLine]) -> _Record:
    text = "".join(line.text + line.end for line in lines).removesuffix(lines[-1].end)
    fault = next((line.fault for line in lines if line.fault), None)
    try:
        fields = _padded_fields(text) if ' "' in text or '" ' in text else next(csv.reader([text], strict=True))
        return _Record(lines[0].number, text, fields, fault)
    except csv.Error as error:
        return _Record(lines[0].number, text, [], BadRecord("not CSV", f"not CSV: {error}"))


def _padded_fields(text: str) -> list[str]:
    """Split a record with spaces around quotes, which the csv module misreads."""
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
