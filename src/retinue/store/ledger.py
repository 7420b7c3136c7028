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
from retinue.model import Meter, Pool, Quota, Rate, Used
from retinue.store.base import DAY_SECONDS, Allowance

MAGIC = b"retinue ledger 1"
FILE_MODE = 0o600
FIRST_RECORDS = 64

_BUCKETS = 60  # one for each second; no short-term limit looks back further
# A record: whose, the day, list calls, list rows, other calls; then two windows, of answers and of calls for tokens.
_DAY = Struct("<5q")
_COUNTS = Struct("<3q")
_COUNTS_AT = 16
# A window: its newest second, how long it is, the calls in it; then the calls in each second, by its remainder.
_SUM = Struct("<3q")
_COUNT = Struct("<I")
_WINDOW = Struct(f"<{_BUCKETS}I")
_ANSWERS_AT = _DAY.size
_TOKENS_AT = _ANSWERS_AT + _SUM.size + _WINDOW.size
_HEAD = Struct("<8q")  # all before the buckets of answers, read at once
_RECORD_BYTES = 576
_LISTS = Pool.LISTS


class FileLedger:
    """A `Ledger`. Who is `alone` holds the lock for good, which spares two calls of the kernel for each answer.

    Raises `StoreError` where the file cannot be used, or where somebody else is alone with it.
    """

    def __init__(self, path: Path, *, alone: bool = False) -> None:
        self._path = path
        self._alone = False
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        except OSError as error:
            raise StoreError(f"{path}: the counters of quotas cannot be kept here: {error.strerror}") from error
        try:
            self._begin(alone=alone)
            self._map = mmap.mmap(self._descriptor, 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def used(self, meter: Meter, second: int) -> Used:
        """What was used on a second's day."""
        place = meter.id * _RECORD_BYTES
        if place + _RECORD_BYTES > os.fstat(self._descriptor).st_size:
            return Used()
        place = self._place(meter)
        since, day, calls, rows, others = _DAY.unpack_from(self._map, place)
        return Used(calls, rows, others) if _is_of(since, day, meter, second) else Used()

    def left(self, meter: Meter, second: int, pool: Pool, quota: Quota) -> Allowance:
        """What is left of a quota."""
        place = self._place(meter)
        since, day, calls, rows, others, newest, seconds, total = _HEAD.unpack_from(self._map, place)
        if not _is_of(since, day, meter, second):
            calls = rows = others = 0
        wait = 0
        rate = quota.rate
        if rate is not None and since == meter.since and (total >= rate.calls or seconds != rate.seconds):
            # Only now does it matter how many of them have left the window meanwhile.
            wait = _wait(*_moved(self._counts(place + _ANSWERS_AT), newest, second), rate)
        return _left(calls if pool is _LISTS else others, rows, pool, quota, second, wait)

    def charge(self, meter: Meter, second: int, pool: Pool, rows: int, quota: Quota) -> Allowance | None:
        """Count one answer and its rows, if that passes no limit."""
        place = self._place(meter)
        if not self._alone:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            since, day, calls, all_rows, others, newest, seconds, total = _HEAD.unpack_from(self._map, place)
            if not _is_of(since, day, meter, second):
                calls, all_rows, others = self._new_day(place, meter, second)
            rate = quota.rate
            if rate is not None:
                if newest != second or seconds != rate.seconds or since != meter.since:
                    newest, total = self._move(place + _ANSWERS_AT, second, rate.seconds)
                if total >= rate.calls:
                    return None
            if pool is _LISTS:
                calls, all_rows = calls + 1, all_rows + rows
                left = _left(calls, all_rows, pool, quota, second)
            else:
                others += 1
                left = _left(others, 0, pool, quota, second)
            if (left.calls is not None and left.calls < 0) or (left.rows is not None and left.rows < 0):
                return None
            _COUNTS.pack_into(self._map, place + _COUNTS_AT, calls, all_rows, others)
            if rate is not None:
                self._count(place + _ANSWERS_AT, newest, rate.seconds, total)
            return left
        finally:
            if not self._alone:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def admit(self, meter: Meter, second: int, rate: Rate) -> int:
        """Count a call for a token: 0, or in how many seconds it is worth trying again."""
        start = self._place(meter)
        place = start + _TOKENS_AT
        with self._locked():
            if _DAY.unpack_from(self._map, start)[0] != meter.since:
                self._new_day(start, meter, second)
            newest, total = self._move(place, second, rate.seconds)
            if total >= rate.calls:
                return _wait(self._counts(place), newest, rate)
            self._count(place, newest, rate.seconds, total)
            return 0

    def settle(self) -> None:
        """Make what was counted survive a power loss."""
        self._map.flush()

    def close(self) -> None:
        """Give the file back."""
        self._map.close()
        os.close(self._descriptor)

    # --- windows ----------------------------------------------------------------------------------------------------

    def _counts(self, place: int) -> list[int]:
        return list(_WINDOW.unpack_from(self._map, place + _SUM.size))

    def _move(self, place: int, second: int, seconds: int) -> tuple[int, int]:
        """Bring a window to a second and to a length; the second it is at then, and the calls in it."""
        counts, newest = _moved(self._counts(place), _SUM.unpack_from(self._map, place)[0], second)
        total = sum(_in_window(counts, newest, seconds))
        _WINDOW.pack_into(self._map, place + _SUM.size, *counts)
        _SUM.pack_into(self._map, place, newest, seconds, total)
        return newest, total

    def _count(self, place: int, newest: int, seconds: int, total: int) -> None:
        _SUM.pack_into(self._map, place, newest, seconds, total + 1)
        bucket = place + _SUM.size + newest % _BUCKETS * _COUNT.size
        _COUNT.pack_into(self._map, bucket, _COUNT.unpack_from(self._map, bucket)[0] + 1)

    # --- the file ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._alone:
            yield
            return
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _begin(self, *, alone: bool) -> None:
        """Make the file if it is new; who only looks needs no lock for it, and does not wait for who is alone."""
        if alone:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StoreError(f"{self._path}: another server counts here; one server serves a store") from None
            self._alone = True
        if os.fstat(self._descriptor).st_size < FIRST_RECORDS * _RECORD_BYTES:
            with self._locked():
                self._make()
        if os.pread(self._descriptor, len(MAGIC), 0) != MAGIC:
            raise StoreError(f"{self._path}: holds no counters of quotas; remove it, and today's begin at nothing")

    def _make(self) -> None:
        """Record 0 is no client's; its place is the head's."""
        if os.fstat(self._descriptor).st_size == 0:
            os.pwrite(self._descriptor, MAGIC, 0)
        if os.pread(self._descriptor, len(MAGIC), 0) == MAGIC:
            self._grow(FIRST_RECORDS)

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
            if os.fstat(self._descriptor).st_size < records * _RECORD_BYTES:
                with self._locked():
                    self._grow(2 * records)
            self._map.close()
            self._map = mmap.mmap(self._descriptor, 0)
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _new_day(self, place: int, meter: Meter, second: int) -> tuple[int, int, int]:
        """Begin a second's day. Counters first: killed in between, they are nobody's yet."""
        if _DAY.unpack_from(self._map, place)[0] != meter.since:
            self._map[place + _ANSWERS_AT : place + _RECORD_BYTES] = bytes(_RECORD_BYTES - _ANSWERS_AT)
        _COUNTS.pack_into(self._map, place + _COUNTS_AT, 0, 0, 0)
        _DAY.pack_into(self._map, place, meter.since, second // DAY_SECONDS, 0, 0, 0)
        return 0, 0, 0


def _is_of(since: int, of_day: int, meter: Meter, second: int) -> bool:
    """Whether counters are this client's of this day. A clock that is put back over midnight begins no day again."""
    return since == meter.since and 0 <= of_day - second // DAY_SECONDS <= 1


def _left(calls: int, rows: int, pool: Pool, quota: Quota, second: int, wait: int = 0) -> Allowance:
    """What a pool has left; less than nothing where that would pass a limit."""
    limit = quota.list_calls if pool is _LISTS else quota.other_calls
    most_rows = quota.list_rows if pool is _LISTS else None
    return Allowance(
        limit,
        None if limit is None else limit - calls,
        None if most_rows is None else most_rows - rows,
        DAY_SECONDS - second % DAY_SECONDS,
        wait,
    )


def _moved(counts: list[int], newest: int, second: int) -> tuple[list[int], int]:
    """A window at a later second, without what is too old. It is never put back, but by more than it can be long."""
    if abs(newest - second) > _BUCKETS:
        return [0] * _BUCKETS, second
    for passed in range(newest + 1, second + 1):
        counts[passed % _BUCKETS] = 0
    return counts, max(newest, second)


def _in_window(counts: list[int], newest: int, seconds: int) -> list[int]:
    """The calls in each second of a window, oldest first."""
    return [counts[second % _BUCKETS] for second in range(newest - seconds + 1, newest + 1)]


def _wait(counts: list[int], newest: int, rate: Rate) -> int:
    """In how many seconds enough calls have left the window that another fits; 0 where it does now."""
    in_window = _in_window(counts, newest, rate.seconds)
    total = sum(in_window)
    if total < rate.calls:
        return 0
    for wait, leaving in enumerate(in_window, start=1):
        total -= leaving
        if total < rate.calls:
            return wait
    return rate.seconds
