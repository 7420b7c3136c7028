"""Standard output and standard error: their text is printable, and lost output is an error.

Python's streams can lose output without an error. Unbuffered (`PYTHONUNBUFFERED`), they ignore short writes, which are
usual on non-blocking pipes. If a descriptor is closed, they are None, and output vanishes. They also pass control
characters in untrusted names and messages to the terminal. Here text gets escapes for them (`printable.py`); bytes are
written as they are.
"""

import errno
import io
import os
import select
import sys
from contextlib import suppress
from typing import Any, TextIO

from retinue.errors import ClosedPipe, UnwritableOutput
from retinue.escaping import printable_lines

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
    """Descriptor 2: a failed write changes neither the work nor the exit code."""

    def write(self, data: Any) -> int:
        """Write all bytes if possible."""
        with suppress(OSError):
            _write_all(_ERRORS, data)
        return memoryview(data).nbytes


class _PrintableText(io.TextIOWrapper):
    """A text stream that escapes control characters but line breaks and tabs."""

    def write(self, text: str) -> int:
        """Write text. Return the number of its characters."""
        super().write(printable_lines(text))
        return len(text)


def install() -> None:
    """Replace Python's streams in this process."""
    _reserve_descriptors()
    sys.stdout = _PrintableText(_output(), "utf-8", "backslashreplace", write_through=True)
    sys.stderr = _PrintableText(_errors(), "utf-8", "backslashreplace", write_through=True)


def controlling_output() -> TextIO:
    """Return standard output without escapes, for printable text."""
    return io.TextIOWrapper(_output(), "utf-8", write_through=True)


def controlling_errors() -> TextIO:
    """Return standard error without escapes, for printable text."""
    return io.TextIOWrapper(_errors(), "utf-8", write_through=True)


# These are raw, though text streams are typed for buffered ones: errors of a buffer would come too late.


def _output() -> Any:
    return _StandardOutput(_OUTPUT, "wb", closefd=False)


def _errors() -> Any:
    return _StandardError(_ERRORS, "wb", closefd=False)


def _reserve_descriptors() -> None:
    """Occupy closed standard descriptors, so that no other file gets their numbers.

    Reading standard input and writing standard output still fail; messages vanish.
    """
    for descriptor, flags in ((_INPUT, os.O_WRONLY), (_OUTPUT, os.O_RDONLY), (_ERRORS, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # the lowest free descriptor is this one
            os.set_inheritable(descriptor, True)  # libuv ends a child whose sockets get such a number


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
