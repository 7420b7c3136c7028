"""Standard output and standard error of a command: everything printed is written, or the command fails.

Python's own streams can lose output without an error. Unbuffered (`PYTHONUNBUFFERED`), they ignore a short write, which
is usual on a pipe that does not block. If a descriptor is closed, they are None, and what is printed goes nowhere.
"""

import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from retinue.errors import ClosedPipe, UnwritableOutput

_INPUT, _OUTPUT, _ERRORS = 0, 1, 2


class _StandardOutput(io.FileIO):
    """Descriptor 1: a write is complete when it returns. Raises `UnwritableOutput`."""

    def write(self, data: Any) -> int:
        """Write all bytes, waiting for a slow reader."""
        try:
            return _write_all(_OUTPUT, data)
        except BrokenPipeError:
            raise ClosedPipe("standard output cannot be written: its reader has closed it") from None
        except OSError as error:
            reason = "it is closed" if error.errno == errno.EBADF else error.strerror
            raise UnwritableOutput(f"standard output cannot be written: {reason}") from None


class _StandardError(io.FileIO):
    """Descriptor 2: a message that cannot be written changes neither the work nor the exit code."""

    def write(self, data: Any) -> int:
        """Write all bytes if that is possible."""
        with suppress(OSError):
            _write_all(_ERRORS, data)
        return memoryview(data).nbytes


def install() -> None:
    """Replace Python's own streams in this process."""
    _reserve_descriptors()
    sys.stdout = _text(_StandardOutput(_OUTPUT, "wb", closefd=False), "surrogateescape")
    sys.stderr = _text(_StandardError(_ERRORS, "wb", closefd=False), "backslashreplace")


def greet(text: str) -> None:
    """Print a line that is no result: if it cannot be written, the work goes on."""
    with suppress(UnwritableOutput):
        sys.stdout.write(f"{text}\n")


def print_json(value: Any) -> None:
    """Print a value as one line of JSON."""
    from msgspec import json

    sys.stdout.write(json.encode(value).decode() + "\n")


def csv_encoder(*heading: str) -> Callable[[Iterable[Iterable[Any]]], bytes]:
    """Return a function from rows to CSV; its first result begins with the heading."""
    import csv

    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heading)

    def encode(rows: Iterable[Iterable[Any]]) -> bytes:
        writer.writerows(rows)
        encoded = buffer.getvalue().encode()
        buffer.seek(0)
        buffer.truncate()
        return encoded

    return encode


def _reserve_descriptors() -> None:
    """Occupy closed standard descriptors, so that no file of ours is opened as one of them and printed into.

    Reading standard input and writing standard output still fail; messages vanish.
    """
    for descriptor, flags in ((_INPUT, os.O_WRONLY), (_OUTPUT, os.O_RDONLY), (_ERRORS, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free descriptor is this one
            os.set_inheritable(descriptor, True)  # libuv ends a child whose sockets get such a number


def _text(raw: io.FileIO, errors: str) -> io.TextIOWrapper:
    # Typed as buffered streams, but a raw one serves: nothing is held back in which an error could come too late.
    return io.TextIOWrapper(raw, "utf-8", errors, write_through=True)


def _write_all(descriptor: int, data: Any) -> int:
    remaining = whole = memoryview(data).cast("B")
    while remaining:
        try:
            remaining = remaining[os.write(descriptor, remaining) :]
        except BlockingIOError:
            _wait_until_writable(descriptor)
    return whole.nbytes


def _wait_until_writable(descriptor: int) -> None:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    poll.poll()
