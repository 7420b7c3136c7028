"""Writers that wait for a store's write lock, visible to its holder.

A waiting writer locks one byte of the store's folder for reading. Such locks (`F_OFD_SETLK`) never exclude each other,
end with their process, and are seen without being taken (`F_OFD_GETLK`).
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from struct import Struct
from weakref import finalize

_LOCK = Struct("hhqqi4x")  # Linux's `struct flock`


class WaitingWriters:
    """The waiting writers of one file, except its own."""

    def __init__(self, path: Path) -> None:
        self._byte = path.stat().st_ino  # a folder may have several stores
        self._folder: int | None = None
        with suppress(OSError):  # the folder's list of files may be secret
            self._folder = os.open(path.resolve().parent, os.O_RDONLY)
        self._end = finalize(self, _close, self._folder)  # also of a writer that is never closed

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Announce that this writer waits during the block."""
        with suppress(OSError):  # without locks, `is_any` is True for all
            self._call(fcntl.F_OFD_SETLK, fcntl.F_RDLCK)
        try:
            yield
        finally:
            with suppress(OSError):
                self._call(fcntl.F_OFD_SETLK, fcntl.F_UNLCK)

    def is_any(self) -> bool:
        """Return whether another writer waits, or may wait unseen."""
        try:
            return self._call(fcntl.F_OFD_GETLK, fcntl.F_WRLCK) != fcntl.F_UNLCK
        except OSError:
            return True

    def close(self) -> None:
        self._folder = None
        self._end()

    def _call(self, command: int, kind: int) -> int:
        if self._folder is None:
            raise OSError
        lock = _LOCK.pack(kind, os.SEEK_SET, self._byte, 1, 0)
        return int(_LOCK.unpack(fcntl.fcntl(self._folder, command, lock))[0])


def _close(folder: int | None) -> None:
    if folder is not None:
        os.close(folder)
