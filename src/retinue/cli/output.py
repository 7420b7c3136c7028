"""The output of commands: lines and tables for people on either stream, JSON and CSV for programs.

A line is one line, whatever the names and messages in it hold. JSON keeps its value: the stream writes control
characters as the escapes that JSON has for them. CSV has none, so its bytes are exact, except on a terminal.
"""

import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from retinue.errors import UnwritableOutput
from retinue.escaping import printable, spreadsheet_cell

_CRLF = "\r\n"


def greet(text: str) -> None:
    """Print a line that is no result: if it cannot be written, the work goes on."""
    with suppress(UnwritableOutput):
        print_line(text)


def print_line(text: str) -> None:
    """Print a line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def print_lines(text: str) -> None:
    """Print text of several lines, such as a document; line breaks in values of others would forge lines of it."""
    sys.stdout.write(text)


def warn(text: str, source: str = "retinue") -> None:
    """Write a line to standard error."""
    sys.stderr.write(printable(f"{source}: {text}") + "\n")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    from msgspec import json

    sys.stdout.write(json.encode(value).decode() + "\n")


def print_exactly(data: bytes) -> None:
    """Print rows for programs: as they are, but as printable text on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(data.decode())
    else:
        sys.stdout.buffer.write(data)


def csv_encoder(*heading: str, spreadsheet_safe: bool = False) -> Callable[[Iterable[Iterable[Any]]], bytes]:
    """Return a function from rows to CSV; its first result begins with the heading."""
    import csv

    lines = _Lines([])
    writer = csv.writer(lines, lineterminator=_CRLF)  # before Python 3.13, only then a lone CR is quoted
    writer.writerow(heading)

    def encode(rows: Iterable[Iterable[Any]]) -> bytes:
        writer.writerows(map(spreadsheet_cell, row) if spreadsheet_safe else row for row in rows)
        encoded = "".join(lines.written).encode()
        lines.written.clear()
        return encoded

    return encode


@dataclass(frozen=True)
class _Lines:
    """A file of rows for `csv`, which writes each at once; here they end with LF alone."""

    written: list[str]

    def write(self, row: str) -> None:
        self.written.append(row.removesuffix(_CRLF) + "\n")
