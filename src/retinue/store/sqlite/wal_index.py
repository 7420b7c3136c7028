"""The WAL index of a SQLite file. It shows commits without asking SQLite.

Every connection maps the index (`graph.db-shm`), whose first 48 bytes describe the newest commit
(sqlite.org/walformat.html). This reads SQLite's own mapping: closing another descriptor would drop all locks of this
process on the file.
"""

import ctypes
import os
from pathlib import Path

_HEAD_BYTES = 48
_VERSION = (3007000).to_bytes(4, "little")  # of the format, unchanged since 2010


class WalIndex:
    """The index of a file that this process has opened and read."""

    def __init__(self, path: Path) -> None:
        self._head = _head_of(path)

    def state(self) -> bytes | None:
        """Return bytes that change with each commit. None without an index."""
        return None if self._head is None else self._head.tobytes()

    def forget(self) -> None:
        """Release the memory; call before the connection is closed."""
        self._head = None


def _head_of(path: Path) -> memoryview | None:
    start = _start_of(f"{os.path.realpath(path)}-shm")
    if start is None:
        return None
    head = memoryview((ctypes.c_ubyte * _HEAD_BYTES).from_address(start)).cast("B")
    return head if head[: len(_VERSION)] == _VERSION else None


def _start_of(mapped: str) -> int | None:
    """Return the address at which a file is mapped (proc(5), /proc/pid/maps)."""
    for line in Path("/proc/self/maps").read_text(errors="surrogateescape").splitlines():
        addresses, _, offset, _, _, *path = line.split(maxsplit=5)
        if path == [mapped] and int(offset, 16) == 0:
            return int(addresses.partition("-")[0], 16)
    return None
