"""Whether anything was committed to a SQLite file, without asking SQLite: by the head of its WAL index.

Every connection to a file in WAL mode maps the same index (`graph.db-shm`). Its first 48 bytes describe the newest
commit: a counter, the length of the log, checksums (sqlite.org/walformat.html, "The WAL-Index Header"). SQLite changes
them with each commit, before the commit returns, and a reader sees the state that they describe. So while they stay the
same, so does everything that can be read.

Looked at is SQLite's own mapping. Mapping the file once more would need a descriptor, and closing any descriptor
of a file takes all of this process's locks from it, SQLite's included.
"""

import ctypes
import os
from pathlib import Path

_HEAD_BYTES = 48
_VERSION = (3007000).to_bytes(4, "little")  # of the format; it has been the same since 2010


class WalIndex:
    """The head of the index of a file to which this process has a connection that has read something."""

    def __init__(self, path: Path) -> None:
        self._head = _head_of(path)

    def state(self) -> bytes | None:
        """Different bytes after each commit; None where the head was not found, and only SQLite can tell."""
        return None if self._head is None else self._head.tobytes()

    def forget(self) -> None:
        """Call before the connection is closed: then the memory is given back."""
        self._head = None


def _head_of(path: Path) -> memoryview | None:
    start = _start_of(f"{os.path.realpath(path)}-shm")
    if start is None:
        return None
    head = memoryview((ctypes.c_ubyte * _HEAD_BYTES).from_address(start)).cast("B")
    return head if head[: len(_VERSION)] == _VERSION else None


def _start_of(mapped: str) -> int | None:
    """Where in memory the beginning of a file is mapped (proc(5), /proc/pid/maps)."""
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        if path == [mapped] and int(offset, 16) == 0:
            return int(addresses.partition("-")[0], 16)
    return None
