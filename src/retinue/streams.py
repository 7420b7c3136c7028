"""Standard output and standard error: their text is printable, and lost output is an error."""

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


# Python's own streams may lose output if they are unbuffered or closed.
class _StandardOutput(io.FileIO):
    """Descriptor 1. A write raises `UnwritableOutput` unless it is complete."""

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
    """Descriptor 2. Failed writes are ignored."""

    def write(self, data: Any) -> int:
        """Write all bytes if possible."""
        with suppress(OSError):
            _write_all(_ERRORS, data)
        return memoryview(data).nbytes


class _PrintableText(io.TextIOWrapper):
    """A text stream that escapes control characters."""

    def write(self, text: str) -> int:
        """Write text."""
        super().write(printable_lines(text))
        return len(text)


def install() -> None:
    """Replace Python's streams in this process."""
    _reserve_descriptors()
    sys.stdout = _PrintableText(_output(), "utf-8", "backslashreplace", write_through=True)
    sys.stderr = _PrintableText(_errors(), "utf-8", "backslashreplace", write_through=True)


def controlling_output() -> TextIO:
    """Return standard output without escapes."""
    return io.TextIOWrapper(_output(), "utf-8", write_through=True)


def controlling_errors() -> TextIO:
    """Return standard error without escapes."""
    return io.TextIOWrapper(_errors(), "utf-8", write_through=True)


# These are raw, though text streams are typed for buffered ones: errors of a buffer would come too late.


def _output() -> Any:
    return _StandardOutput(_OUTPUT, "wb", closefd=False)


def _errors() -> Any:
    return _StandardError(_ERRORS, "wb", closefd=False)


def _reserve_descriptors() -> None:
    # No other file may get the number of a closed stream. Input and output still fail; messages are lost.
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
