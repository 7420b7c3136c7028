"""Counters of what clients used, in a file that all processes of a server map into their memory.

One record for each client, at the place of its number. Whoever counts holds the file's lock (`flock`), which the kernel
takes back from a process that dies; looking needs no lock. What is counted is in the kernel's hands at once, so it
survives the end of any process; after a power loss what was counted since the last `settle` may be missing.
"""

import fcntl
import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from struct import Struct

from retinue.errors import StoreError, StoreUnavailable
from retinue.model import Meter, Pool, Rate, Used
from retinue.store.base import Limits

MAGIC = b"retinue ledger 1"
FILE_MODE = 0o600
FIRST_RECORDS = 64

_BUCKETS = 60  # one for each second; no short-term limit looks back further
_DAY = Struct("<qq3q")  # whose, the day, list calls, list rows, other calls
_COUNTS = Struct("<3q")
_SINCE = Struct("<q")
_SUM = Struct("<qqq")  # the newest second of a window, how long it is, the calls in it
_COUNT = Struct("<I")
_WINDOW = Struct(f"<{_BUCKETS}I")  # after the sum: calls in each second, by its remainder
_DATA_WINDOW = _DAY.size
_TOKEN_WINDOW = _DATA_WINDOW + _SUM.size + _WINDOW.size
_RECORD_BYTES = 576
_LISTS = Pool.LISTS
_NOTHING = Used()


class FileLedger:
    """A `Ledger`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise StoreError(f"{path}: the counters of quotas cannot be kept here: {error.strerror}") from error
        try:
            with self._locked():
                self._begin()
            self._map = mmap.mmap(self._descriptor, 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def used(self, meter: Meter, day: int) -> Used:
        """What was used in a day up to now."""
        place = self._place(meter)
        since, of_day, list_calls, list_rows, other_calls = _DAY.unpack_from(self._map, place)
        return Used(list_calls, list_rows, other_calls) if _is_of(since, of_day, meter, day) else _NOTHING

    def charge(self, meter: Meter, day: int, pool: Pool, rows: int, limits: Limits) -> Used | None:
        """Count one call of a pool and its rows, if that passes no limit."""
        place = self._place(meter)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            since, of_day, calls, all_rows, others = _DAY.unpack_from(self._map, place)
            if not _is_of(since, of_day, meter, day):
                calls, all_rows, others = self._new_day(place, meter, day)
            if pool is _LISTS:
                calls += 1
                all_rows += rows
                is_over = (limits.calls is not None and calls > limits.calls) or (
                    limits.rows is not None and all_rows > limits.rows
                )
            else:
                others += 1
                is_over = limits.calls is not None and others > limits.calls
            if is_over:
                return None
            _COUNTS.pack_into(self._map, place + 16, calls, all_rows, others)
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return Used(calls, all_rows, others)

    def admit(self, meter: Meter, second: int, rate: Rate, *, for_token: bool = False) -> int:
        """Count a call against a short-term limit: 0, or in how many seconds it is worth trying again."""
        start = self._place(meter)
        place = start + (_TOKEN_WINDOW if for_token else _DATA_WINDOW)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            if _SINCE.unpack_from(self._map, start)[0] != meter.since:
                self._new_day(start, meter, 0)
            newest, seconds, total = _SUM.unpack_from(self._map, place)
            if newest != second or seconds != rate.seconds:
                newest, total = self._moved(place, second, rate.seconds)
            if total >= rate.calls:
                return _wait(self._counts(place), newest, total, rate)
            _SUM.pack_into(self._map, place, newest, rate.seconds, total + 1)
            bucket = place + _SUM.size + newest % _BUCKETS * _COUNT.size
            _COUNT.pack_into(self._map, bucket, _COUNT.unpack_from(self._map, bucket)[0] + 1)
            return 0
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def settle(self) -> None:
        """Make what was counted survive a power loss."""
        self._map.flush()

    def close(self) -> None:
        """Give the file back."""
        self._map.close()
        os.close(self._descriptor)

    def _counts(self, place: int) -> list[int]:
        return list(_WINDOW.unpack_from(self._map, place + _SUM.size))

    def _moved(self, place: int, second: int, seconds: int) -> tuple[int, int]:
        """Bring a window to a second and to another length; the second it is at then, and the calls in it.

        It is never put back, but by more than it is long.
        """
        newest = _SUM.unpack_from(self._map, place)[0]
        counts = self._counts(place)
        if abs(newest - second) > _BUCKETS:
            counts, newest = [0] * _BUCKETS, second
        for passed in range(newest + 1, second + 1):
            counts[passed % _BUCKETS] = 0
        newest = max(newest, second)
        total = sum(_in_window(counts, newest, seconds))
        _WINDOW.pack_into(self._map, place + _SUM.size, *counts)
        _SUM.pack_into(self._map, place, newest, seconds, total)
        return newest, total

    @contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _begin(self) -> None:
        """Make the file if it is new. Record 0 is no client's; its place is the head's."""
        if os.fstat(self._descriptor).st_size == 0:
            self._grow(FIRST_RECORDS)
            os.pwrite(self._descriptor, MAGIC, 0)
        if os.pread(self._descriptor, len(MAGIC), 0) != MAGIC:
            raise StoreError(f"{self._path}: holds no counters of quotas; remove it, and today's begin at nothing")

    def _grow(self, records: int) -> None:
        # Room is taken now: writing through a map into a hole that no disk has room for would end the process.
        os.posix_fallocate(self._descriptor, 0, records * _RECORD_BYTES)

    def _place(self, meter: Meter) -> int:
        """Where a client's record begins; the file grows with the first that would not fit."""
        place = meter.id * _RECORD_BYTES
        if place + _RECORD_BYTES > len(self._map):
            self._make_room(meter.id + 1)
        return place

    def _make_room(self, records: int) -> None:
        try:
            with self._locked():
                if os.fstat(self._descriptor).st_size < records * _RECORD_BYTES:
                    self._grow(2 * records)
            self._map.close()
            self._map = mmap.mmap(self._descriptor, 0)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _new_day(self, place: int, meter: Meter, day: int) -> tuple[int, int, int]:
        """Begin a day. Counters first: killed in between, they are nobody's yet."""
        is_same = _DAY.unpack_from(self._map, place)[0] == meter.since
        if not is_same:
            self._map[place + _DATA_WINDOW : place + _RECORD_BYTES] = bytes(_RECORD_BYTES - _DATA_WINDOW)
        _COUNTS.pack_into(self._map, place + 16, 0, 0, 0)
        _DAY.pack_into(self._map, place, meter.since, day, 0, 0, 0)
        return 0, 0, 0


def _is_of(since: int, of_day: int, meter: Meter, day: int) -> bool:
    """Whether counters are this client's of this day. A clock that is put back over midnight begins no day again."""
    return since == meter.since and (of_day in (day, day + 1))


def _in_window(counts: list[int], newest: int, seconds: int) -> list[int]:
    """The calls in each second of a window, oldest first."""
    return [counts[second % _BUCKETS] for second in range(newest - seconds + 1, newest + 1)]


def _wait(counts: list[int], newest: int, total: int, rate: Rate) -> int:
    """In how many seconds so many calls have left a window that is full that another fits."""
    for wait, leaving in enumerate(_in_window(counts, newest, rate.seconds), start=1):
        total -= leaving
        if total < rate.calls:
            return wait
    return rate.seconds
