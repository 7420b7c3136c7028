"""The output of commands: lines for people on either stream, JSON and CSV for programs.

A line stays one line, whatever names and messages contain. In JSON, control characters become escapes. CSV does not
have escapes, so its bytes are exact, except on a terminal.
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
    """Print a line; ignore a failure to write it."""
    with suppress(UnwritableOutput):
        print_line(text)


def print_line(text: str) -> None:
    """Print a line of a result."""
    sys.stdout.write(f"{printable(text)}\n")


def print_lines(text: str) -> None:
    """Print trusted text of several lines, such as a document."""
    sys.stdout.write(text)


def warn(text: str, source: str = "retinue") -> None:
    """Write a line to standard error."""
    sys.stderr.write(printable(f"{source}: {text}") + "\n")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    from msgspec import json

    sys.stdout.write(json.encode(value).decode() + "\n")


def print_document(value: Any) -> None:
    """Print a trusted value as indented JSON."""
    from msgspec import json

    sys.stdout.write(json.format(json.encode(value), indent=2).decode() + "\n")


def print_exactly(data: bytes) -> None:
    """Print bytes for programs exactly, or as printable text on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(data.decode())
    else:
        sys.stdout.buffer.write(data)


def csv_encoder(*heading: str, spreadsheet_safe: bool = False) -> Callable[[Iterable[Iterable[Any]]], bytes]:
    """Return a function from rows to CSV. The first result starts with the heading."""
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
    """A file for `csv`, whose rows end with LF alone."""

    written: list[str]

    def write(self, row: str) -> None:
        self.written.append(row.removesuffix(_CRLF) + "\n")
