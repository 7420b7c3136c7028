"""Counters of audit records, in one file that all processes map.

Workers count the records that they make, and the coordinator those that it receives, so both know how many are lost.
The file has its full size from the start. Each count has a complement, and a file with a wrong one counts nothing.
"""

import mmap
import os
from pathlib import Path

from msgspec import Struct

from retinue.durable import sync
from retinue.errors import StoreError
from retinue.model import MAX_SECOND
from retinue.safe_files import open_regular, read_regular

MAX_WORKERS = 256
COUNTERS_NAME = "counters"
FILE_MODE = 0o600

_MAGIC = int.from_bytes(b"rtncnts2", "little")
# Cells are signed 64-bit integers: the magic number, the chain's count before anything was counted here, the last
# second at which nothing was missing, the coordinator's own records, and those in its sums; then two for each worker.
_MAGIC_AT, _BASE, _SINCE, _OWN, _SUMMING = range(5)
_FIRST_MADE, _FIRST_RECEIVED = 8, 8 + MAX_WORKERS
_CELLS = 1024
_BYTES = 8 * _CELLS
_LAST_CELL = _CELLS - 1  # complements are at the end, in reverse order
_CHECKED = (_BASE, _OWN, *range(_FIRST_MADE, _FIRST_MADE + MAX_WORKERS))
_MAX_COUNT = 2**52  # of all records; the checkpoint allows at most twice as many


class RecordsMade(Struct, frozen=True):
    """Records made so far; all were logged at `since`. `summing` are in unwritten sums."""

    count: int
    since: int
    summing: int = 0


class RecordCounters:
    """The counters, on an open file."""

    def __init__(self, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < _BYTES:  # it was truncated while a server was running
            os.posix_fallocate(descriptor, 0, _BYTES)
        self._map = mmap.mmap(descriptor, _BYTES)
        self._cells = memoryview(self._map).cast("q")

    @property
    def made(self) -> RecordsMade:
        """The records made by all processes."""
        return _made(self._cells)

    @property
    def received(self) -> int:
        """The number of received and own records."""
        return _own_and_base(self._cells) + sum(self._cells[_FIRST_RECEIVED : _FIRST_RECEIVED + MAX_WORKERS])

    def begin_run(self, now: int) -> bool:
        """Count everything made as received; return whether the file was sound."""
        is_sound = _is_sound(self._cells)
        if not is_sound:
            self._map[:] = bytes(_BYTES)
            for place in _CHECKED:
                _put(self._cells, place, 0)
            self._cells[_SINCE] = now
            self._cells[_MAGIC_AT] = _MAGIC
        self.receive_all()
        return is_sound

    def receive_all(self) -> None:
        """Count everything made as received."""
        made = self._cells[_FIRST_MADE : _FIRST_MADE + MAX_WORKERS]
        self._cells[_FIRST_RECEIVED : _FIRST_RECEIVED + MAX_WORKERS] = made

    def receive(self, worker: int, first: int, count: int) -> int:
        """Count a batch; return how many earlier records are missing."""
        place = _FIRST_RECEIVED + worker
        missing = first - self._cells[place]
        self._cells[place] = first + count
        return missing

    def count_own(self, count: int = 1) -> None:
        """Count records of the coordinator, before they are written."""
        _put(self._cells, _OWN, self._cells[_OWN] + count)

    def note_summing(self, count: int) -> None:
        """Set the number of records in unwritten sums."""
        self._cells[_SUMMING] = count

    def follow_log(self, count: int) -> None:
        """Catch up with a longer log, after a power loss."""
        _put(self._cells, _BASE, self._cells[_BASE] + max(0, count - self.received))

    def note_complete(self, now: int) -> None:
        """Set the last second when all records were logged."""
        self._cells[_SINCE] = now

    def of_worker(self, worker: int) -> "WorkerCounter":
        """Return the counter of one worker."""
        return WorkerCounter(self._cells, worker)

    def sync(self) -> None:
        """Make the counts durable. Raises `OSError`."""
        self._map.flush()


class WorkerCounter:
    """The counter of one worker, continued by its successor."""

    __slots__ = ("_cells", "_complement", "_place", "worker")

    def __init__(self, cells: "memoryview[int]", worker: int) -> None:
        self.worker = worker
        self._cells = cells
        self._place = _FIRST_MADE + worker
        self._complement = _LAST_CELL - self._place

    @property
    def made(self) -> int:
        """The number of records made."""
        return self._cells[self._place]

    def add(self) -> None:
        """Count one record as soon as it exists."""
        cells = self._cells
        cells[self._place] = made = cells[self._place] + 1
        cells[self._complement] = ~made


def open_counters(folder: Path) -> int:
    """Open the file at full size; return its descriptor. Raises `StoreError`."""
    path = folder / COUNTERS_NAME
    try:
        descriptor = open_regular(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            if os.fstat(descriptor).st_size != _BYTES:
                os.ftruncate(descriptor, 0)  # a file of another size is foreign or unfinished
                os.posix_fallocate(descriptor, 0, _BYTES)
                sync(folder)
        except BaseException:
            os.close(descriptor)
            raise
    except OSError as error:
        raise StoreError(f"{path}: audit records cannot be counted here: {error.strerror}") from error
    return descriptor


def read_made(folder: Path) -> RecordsMade | None:
    """Return the records made; None if the file is missing or damaged. Raises `StoreError`."""
    path = folder / COUNTERS_NAME
    try:
        content = read_regular(path, _BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) != _BYTES:
        return None
    cells = memoryview(content).cast("q")
    return _made(cells) if _is_sound(cells) else None


def _put(cells: "memoryview[int]", place: int, count: int) -> None:
    cells[place] = count
    cells[_LAST_CELL - place] = ~count


def _is_sound(cells: "memoryview[int]") -> bool:
    # A complement may be behind by 1 if a process was killed.
    counts = [cells[place] for place in _CHECKED]
    fits = all(cells[place] - ~cells[_LAST_CELL - place] in (0, 1) for place in _CHECKED)
    is_plausible = min(counts) >= 0 and sum(counts) <= _MAX_COUNT and 0 <= cells[_SINCE] <= MAX_SECOND
    return cells[_MAGIC_AT] == _MAGIC and fits and is_plausible and 0 <= cells[_SUMMING] <= sum(counts)


def _made(cells: "memoryview[int]") -> RecordsMade:
    return RecordsMade(
        _own_and_base(cells) + sum(cells[_FIRST_MADE : _FIRST_MADE + MAX_WORKERS]), cells[_SINCE], cells[_SUMMING]
    )


def _own_and_base(cells: "memoryview[int]") -> int:
    return cells[_BASE] + cells[_OWN]
