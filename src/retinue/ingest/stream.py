"""Numbered lines of files, open pipes and request bodies, as they arrive. Only lines that are ready are grouped."""

import gzip
import os
import select
import sys
import zlib
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import NamedTuple, cast

from retinue.errors import InputError
from retinue.ingest.lines import MAX_LINE_BYTES
from retinue.ingest.sources import BOM, unreadable

GROUP = 5_000
STANDARD_INPUT = "-"

_CHUNK = 1 << 18
_MOST_READS = 100  # limit for one group, so that a slow feed of single bytes cannot delay complete lines


class RawLine(NamedTuple):
    """A line without its end. With a `fault` its content cannot be read."""

    number: int
    content: bytes
    fault: str = ""


class LineSplitter:
    """Splits pieces of bytes into lines."""

    def __init__(self) -> None:
        self._number = 0
        self._rest = bytearray()
        self._is_too_long = False

    def feed(self, piece: bytes) -> Iterator[RawLine]:
        """Yield the lines that end in a piece."""
        first, *others = piece.split(b"\n")
        self._rest += first
        if others:
            yield self._line(bytes(self._rest))
            self._rest = bytearray(others.pop())
            for other in others:
                yield self._line(other)
        if len(self._rest) > MAX_LINE_BYTES:
            self._rest.clear()
            self._is_too_long = True

    def finish(self) -> Iterator[RawLine]:
        """Yield the last line if it has no end."""
        if self._rest or self._is_too_long:
            yield self._line(bytes(self._rest))
            self._rest.clear()

    def _line(self, content: bytes) -> RawLine:
        self._number += 1
        is_too_long = self._is_too_long or len(content) > MAX_LINE_BYTES
        self._is_too_long = False
        if is_too_long:
            return RawLine(self._number, b"", f"longer than {MAX_LINE_BYTES} bytes")
        return RawLine(self._number, content.removeprefix(BOM) if self._number == 1 else content)


class LineStream:
    """The lines of a file or pipe. The descriptor `stop` ends them if it is readable."""

    def __init__(self, name: str, raw: FileIO, read: Callable[[int], bytes | None], stop: int) -> None:
        self.name = name
        self._raw = raw
        self._read = read
        self._splitter = LineSplitter()
        self._lines: list[RawLine] = []
        self._has_ended = False
        self._damage: Exception | None = None
        self._stop = stop
        self._poll = select.poll()
        self._poll.register(stop, select.POLLIN)
        self._poll.register(raw, select.POLLIN)

    def groups(self) -> Iterator[list[RawLine]]:
        """Yield lines as they arrive, at most `GROUP` at once. Raises `InputError` at damage."""
        number = 0
        while self._gather():
            group, self._lines = self._lines[:GROUP], self._lines[GROUP:]
            number = group[-1].number
            yield group
        if self._damage:
            raise InputError(f"{self.name}: damaged after line {number}: {self._damage}") from self._damage

    def close(self) -> None:
        """Close the file."""
        self._raw.close()

    def _gather(self) -> bool:
        reads = 0
        while not self._has_ended and len(self._lines) < GROUP and not (self._lines and reads > _MOST_READS):
            ready = {descriptor for descriptor, _ in self._poll.poll(0 if self._lines else None)}
            if self._stop in ready:
                return False
            if not ready:
                break
            self._take()
            reads += 1
        return bool(self._lines)

    def _take(self) -> None:
        try:
            piece = self._read(_CHUNK)
        except (OSError, EOFError, zlib.error) as error:
            self._damage = error
            self._has_ended = True
            return
        if piece:
            self._lines += self._splitter.feed(piece)
        elif piece is not None:  # None: no bytes were ready
            self._lines += self._splitter.finish()
            self._has_ended = True


def open_stream(name: str, stop: int) -> LineStream:
    """Open a file, a pipe or standard input (`-`); unpack `.gz`. Raises `InputError`."""
    if name == STANDARD_INPUT:
        if sys.stdin is None:
            raise InputError("standard input is closed")
        raw = FileIO(0, closefd=False)
        return LineStream("standard input", raw, raw.read, stop)
    is_packed = Path(name).suffix.lower() == ".gz"
    try:
        raw = FileIO(name, opener=None if is_packed else _open_at_once)
    except OSError as error:
        raise unreadable(name, error) from error
    return LineStream(name, raw, _unpacked(raw) if is_packed else raw.read, stop)


def _open_at_once(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)  # a named pipe would wait for its writer


def _unpacked(raw: FileIO) -> Callable[[int], bytes]:
    return cast("Callable[[int], bytes]", gzip.GzipFile(fileobj=raw).read1)
