"""The file of quota counters, mapped by all processes.

A checksum includes its part's offset, so it shows zeros, changed bytes and swapped parts.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct
from zlib import crc32

from retinue.durable import write_atomically
from retinue.errors import StoreError, StoreUnavailable
from retinue.locks import lock, unlockable
from retinue.safe_files import open_regular

MAGIC = b"retinue ledger 2"
FILE_MODE = 0o600
FIRST_RECORDS = 64
RECORD_BYTES = 640

# The magic, the number of records, and whether they include the usage from before the file was created.
_HEADER = Struct("<16s2q")
_CHECKSUM = Struct("<I")
# After the header: the number of audit records when the last server stopped in order, or -1 while one runs.
_CLOSED = Struct("<q")
_CLOSED_AT = 64
_OPEN = -1
_RESIDUE = 0x2144DF1C  # the checksum of any data that ends with its own checksum


class CounterFile:
    """A mapped file of records. The header is in place of record 0.

    `alone` locks the file until it is closed. `parts` are offset and size of a record's parts.
    """

    def __init__(self, path: Path, parts: tuple[tuple[int, int], ...], *, alone: bool, creates: bool) -> None:
        self.path = path
        self.alone = False
        self._parts = parts
        try:
            if creates and not path.exists():
                _make(path, parts)
            # A link is not followed, since it may lead to any file.
            self._descriptor = open_regular(path, os.O_RDWR, FILE_MODE)
        except OSError as error:
            raise StoreError(f"{path}: quota counters cannot be stored here: {error.strerror}") from error
        try:
            self._begin(alone=alone, creates=creates)
            self._remap()
        except OSError as error:
            os.close(self._descriptor)
            raise StoreError(f"{path}: quota counters cannot be stored here: {error.strerror}") from error
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def is_recounted(self) -> bool:
        """Whether earlier usage was added."""
        return bool(self._header()[2])

    @property
    def is_removed(self) -> bool:
        """Whether the file was unlinked."""
        return not os.fstat(self._descriptor).st_nlink

    def place(self, number: int) -> int:
        """Return the offset of a record; grow the file if needed."""
        place = number * RECORD_BYTES
        if place > self._last:
            self._make_room(number + 1)
        return place

    def has(self, number: int) -> bool:
        """Return whether a record exists."""
        return number * RECORD_BYTES <= self._last or number < self._header()[1]

    def read(self, place: int, size: int) -> bytes | None:
        """Return a part with its checksum, or None if it is damaged."""
        sealed = self._map[place : place + size + _CHECKSUM.size]
        return sealed if crc32(sealed, place) == _RESIDUE else None

    def write(self, place: int, part: bytes) -> None:
        """Write a part in one step, even if killed."""
        sealed = part + _CHECKSUM.pack(crc32(part, place))
        self._map[place : place + len(sealed)] = sealed

    def places(self) -> range:
        """Return the offsets of mapped records."""
        return range(RECORD_BYTES, self._last + 1, RECORD_BYTES)

    def damaged(self) -> dict[int, bytes]:
        """Return damaged records."""
        found = {}
        for number in range(1, len(self._map) // RECORD_BYTES):
            start = number * RECORD_BYTES
            if any(self.read(start + place, size) is None for place, size in self._parts):
                found[number] = self._map[start : start + RECORD_BYTES]
        return found

    def set_recounted(self) -> None:
        """Note that earlier usage was added."""
        self.write(0, _HEADER.pack(MAGIC, self._header()[1], 1))

    @property
    def closed_at(self) -> int:
        """The number of audit records at the orderly close, or -1."""
        sealed = self.read(_CLOSED_AT, _CLOSED.size)
        return _OPEN if sealed is None else int(_CLOSED.unpack_from(sealed)[0])

    def set_closed_at(self, records: int = _OPEN) -> None:
        """Save that number; -1: open."""
        self.write(_CLOSED_AT, _CLOSED.pack(records))

    def lock(self) -> None:
        """Wait for the lock."""
        if self.alone:
            return
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreUnavailable(unlockable(self.path, error)) from error

    def unlock(self) -> None:
        """Release the lock."""
        if not self.alone:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock."""
        self.lock()
        try:
            yield
        finally:
            self.unlock()

    def settle(self) -> None:
        """Make writes durable."""
        self._map.flush()

    def close(self) -> None:
        """Close the file."""
        self._map.close()
        os.close(self._descriptor)

    def _begin(self, *, alone: bool, creates: bool) -> None:
        if alone:
            lock(self._descriptor, self.path, "another server counts here; one server serves a store")
            self.alone = True
        if creates and not os.fstat(self._descriptor).st_size:
            with self.locked():
                if not os.fstat(self._descriptor).st_size:
                    _grow(self._descriptor, self._parts, range(FIRST_RECORDS), is_recounted=0)
        magic, records, _ = self._header()
        if magic != MAGIC:
            raise StoreError(
                f"{self.path}: is not a file of quota counters, or is damaged; remove it while no server runs, "
                "and the next one counts today's calls again from the audit log"
            )
        # A truncated part comes back as zeros, which are damage.
        if os.fstat(self._descriptor).st_size < records * RECORD_BYTES:
            os.posix_fallocate(self._descriptor, 0, records * RECORD_BYTES)

    def _header(self) -> tuple[bytes, int, int]:
        sealed = os.pread(self._descriptor, _HEADER.size + _CHECKSUM.size, 0)
        header = sealed[: _HEADER.size]
        if sealed[_HEADER.size :] != _CHECKSUM.pack(crc32(header)):
            return b"", 0, 0
        magic, records, is_recounted = _HEADER.unpack(header)
        return magic, records, is_recounted

    def _make_room(self, records: int) -> None:
        try:
            if self._header()[1] < records:  # readers of a grown file take no lock
                with self.locked():
                    magic, made, is_recounted = self._header()
                    if magic != MAGIC:  # growing would reset all records
                        raise StoreUnavailable(f"{self.path}: is damaged; restart the server")
                    if made < records:
                        _grow(self._descriptor, self._parts, range(made, 2 * records), is_recounted=is_recounted)
            self._map.close()
            self._remap()
        except OSError as error:
            raise StoreUnavailable(f"{self.path}: {error.strerror}") from error

    def _remap(self) -> None:
        self._map = mmap.mmap(self._descriptor, self._header()[1] * RECORD_BYTES)
        self._last = len(self._map) - RECORD_BYTES


def _make(path: Path, parts: tuple[tuple[int, int], ...]) -> None:
    """Create a file, complete or not at all."""
    with write_atomically(path, replaces=False) as unfinished, unfinished.open("r+b") as file:
        _grow(file.fileno(), parts, range(FIRST_RECORDS), is_recounted=0)


def _grow(descriptor: int, parts: tuple[tuple[int, int], ...], numbers: range, *, is_recounted: int) -> None:
    # Allocate disk space now: writing to a hole of the mapping on a full disk would kill the process.
    os.posix_fallocate(descriptor, 0, numbers.stop * RECORD_BYTES)
    for number in numbers[1:] if numbers.start == 0 else numbers:
        for offset, size in parts:
            place = number * RECORD_BYTES + offset
            os.pwrite(descriptor, bytes(size) + _CHECKSUM.pack(crc32(bytes(size), place)), place)
    header = _HEADER.pack(MAGIC, numbers.stop, is_recounted)
    os.pwrite(descriptor, header + _CHECKSUM.pack(crc32(header)), 0)
