"""Numbered lines of text files, plain or gzip.

A line that is not UTF-8 or is too long has a fault, and reading goes on after it.
"""

import gzip
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple, cast

from retinue.errors import InputError
from retinue.ingest.sources import BOM, InputFile, unreadable
from retinue.ingest.values import BadRecord

MAX_LINE_BYTES = 1 << 20


class TextLine(NamedTuple):
    """A line and its end. With a `fault` its text cannot be trusted."""

    number: int
    text: str
    fault: BadRecord | None = None
    end: str = "\n"


class LineFile:
    """A text file. Each iteration begins at its first line."""

    def __init__(self, source: InputFile) -> None:
        try:
            self._raw = source.path.open("rb")
            self.size = source.path.stat().st_size
        except OSError as error:
            raise unreadable(source.name, error) from error
        self._source = source
        self._bytes: BinaryIO = self._raw

    @property
    def position(self) -> int:
        """Bytes read of `size`."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._raw.close()
        self._source.close()

    def __iter__(self) -> Iterator[TextLine]:
        number = 0
        self._raw.seek(0)
        self._bytes = cast("BinaryIO", gzip.GzipFile(fileobj=self._raw)) if self._source.is_packed else self._raw
        try:
            while line := self._bytes.readline(MAX_LINE_BYTES):
                number += 1
                if number == 1:
                    line = line.removeprefix(BOM)
                yield self._too_long(number, line) if len(line) >= MAX_LINE_BYTES else _decoded(number, line)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{self._source.name}: damaged after line {number}: {error}") from error

    def _too_long(self, number: int, beginning: bytes) -> TextLine:
        rest = beginning
        while rest and not rest.endswith(b"\n"):
            rest = self._bytes.readline(MAX_LINE_BYTES)
        return TextLine(number, _escaped(beginning[:1000]), BadRecord(f"longer than {MAX_LINE_BYTES} bytes"))


def _decoded(number: int, line: bytes) -> TextLine:
    try:
        whole = line.decode()
        text = whole.rstrip("\r\n")
        return TextLine(number, text, end=whole[len(text) :])
    except UnicodeDecodeError:
        return TextLine(number, _escaped(line).rstrip("\r\n"), BadRecord("broken UTF-8"))


def _escaped(line: bytes) -> str:
    return line.decode(errors="backslashreplace")
