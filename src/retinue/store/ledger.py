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

from retinue.durable import sync
from retinue.errors import StoreError, StoreUnavailable
from retinue.locks import lock, unlockable
from retinue.model import Meter, Pool, Quota, Rate, Used
from retinue.store.base import DAY_SECONDS, Allowance

MAGIC = b"retinue ledger 1"
FILE_MODE = 0o600
FIRST_RECORDS = 64

_BUCKETS = 60  # one for each second; no short-term limit looks back further
# A record: whose it is, the day, its list calls, list rows, other calls; then the window of answers, and that of calls
# for tokens. A window: its newest second, how long it is, the calls in it, those in its newest second; then the calls
# in each second before, by its remainder.
_HEAD = Struct("<9q")  # the record up to the seconds of the first window
_COUNTS = Struct("<7q")  # its part that changes with each answer
_DAILY = Struct("<3q")
_COUNTS_AT = 16
_DAY = Struct("<5q")
_SUM = Struct("<4q")
_WINDOW = Struct(f"<{_BUCKETS}I")
_ANSWERS_AT = _DAY.size
_TOKENS_AT = _ANSWERS_AT + _SUM.size + _WINDOW.size
_RECORD_BYTES = 640
_LISTS = Pool.LISTS


class FileLedger:
    """A `Ledger`. Who is `alone` holds the lock for good, which spares two calls of the kernel for each answer.

    Raises `StoreError` if the file cannot be used or locked, such as while another server is alone with it.
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
            self._remap()
        except BaseException:
            os.close(self._descriptor)
            raise

    def used(self, meter: Meter, second: int) -> Used:
        """What was used on a second's day."""
        place = meter.id * _RECORD_BYTES
        if place + _RECORD_BYTES > os.fstat(self._descriptor).st_size:
            return Used()
        _, _, calls, rows, others, *_ = self._day(meter, second)
        return Used(calls, rows, others)

    def room(self, meter: Meter, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        """How many of the wanted rows there is quota for; 0 where there is none for a call."""
        # This and `charge` are run for each answer: few calls, and few places in memory.
        place = meter.id * _RECORD_BYTES
        if place > self._last:
            self._make_room(meter.id + 1)
        since, day, calls, rows, others, _, seconds, total, _ = _HEAD.unpack_from(self._map, place)
        if since != meter.since or not 0 <= day - second // DAY_SECONDS <= 1:
            calls = rows = others = 0
        rate = quota.rate
        # An older total is never too small, since calls only leave a window as it moves on.
        may_be_full = rate is not None and since == meter.since and (total >= rate.calls or seconds != rate.seconds)
        if may_be_full and self.left(meter, second, pool, quota).wait:
            return 0
        if pool is not _LISTS:
            return wanted if quota.other_calls is None or others < quota.other_calls else 0
        if quota.list_calls is not None and calls >= quota.list_calls:
            return 0
        return wanted if quota.list_rows is None else max(0, min(wanted, quota.list_rows - rows))

    def left(self, meter: Meter, second: int, pool: Pool, quota: Quota) -> Allowance:
        """What is left of a quota."""
        since, _, calls, rows, others, newest, *_ = self._day(meter, second)
        wait = 0
        if quota.rate is not None and since == meter.since:
            wait = _wait(*_moved(self._counts(self._place(meter) + _ANSWERS_AT), newest, second), quota.rate)
        return _left(calls if pool is _LISTS else others, rows, pool, quota, second, wait)

    def charge(self, meter: Meter, second: int, pool: Pool, rows: int, quota: Quota) -> Allowance | None:
        """Count one answer and its rows, if that passes no limit."""
        place = meter.id * _RECORD_BYTES
        if place > self._last:
            self._make_room(meter.id + 1)
        if not self._alone:
            self._lock()
        try:
            since, day, calls, all_rows, others, newest, seconds, total, current = _HEAD.unpack_from(self._map, place)
            if since != meter.since or not 0 <= day - second // DAY_SECONDS <= 1:
                self._new_day(place, meter, second)
                _, _, calls, all_rows, others, newest, seconds, total, current = _HEAD.unpack_from(self._map, place)
            rate = quota.rate
            if rate is not None:
                if newest != second or seconds != rate.seconds:
                    newest, total, current = self._move(place + _ANSWERS_AT, second, rate.seconds)
                    seconds = rate.seconds
                if total >= rate.calls:
                    return None
                total, current = total + 1, current + 1
            if pool is _LISTS:
                calls, all_rows = calls + 1, all_rows + rows
                limit, used, most_rows = quota.list_calls, calls, quota.list_rows
            else:
                others += 1
                limit, used, most_rows = quota.other_calls, others, None
            if (limit is not None and used > limit) or (most_rows is not None and all_rows > most_rows):
                return None
            counts = (calls, all_rows, others, newest, seconds, total, current)
            _COUNTS.pack_into(self._map, place + _COUNTS_AT, *counts)
        finally:
            if not self._alone:
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        return Allowance(
            limit,
            None if limit is None else limit - used,
            None if most_rows is None else most_rows - all_rows,
            DAY_SECONDS - second % DAY_SECONDS,
        )

    def admit(self, meter: Meter, second: int, rate: Rate) -> int:
        """Count a call for a token: 0, or in how many seconds it is worth trying again."""
        start = self._place(meter)
        place = start + _TOKENS_AT
        with self._locked():
            if _DAY.unpack_from(self._map, start)[0] != meter.since:
                self._new_day(start, meter, second)
            newest, total, current = self._move(place, second, rate.seconds)
            if total >= rate.calls:
                return _wait(self._counts(place), newest, rate)
            _SUM.pack_into(self._map, place, newest, rate.seconds, total + 1, current + 1)
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
        """The calls in each second of a window, by its remainder."""
        newest, _, _, current = _SUM.unpack_from(self._map, place)
        counts = list(_WINDOW.unpack_from(self._map, place + _SUM.size))
        counts[newest % _BUCKETS] = current
        return counts

    def _move(self, place: int, second: int, seconds: int) -> tuple[int, int, int]:
        """Bring a window to a second and to a length; the second it is at then, the calls in it and in that second."""
        counts, newest = _moved(self._counts(place), _SUM.unpack_from(self._map, place)[0], second)
        total = sum(_in_window(counts, newest, seconds))
        current = counts[newest % _BUCKETS]
        _WINDOW.pack_into(self._map, place + _SUM.size, *counts)
        _SUM.pack_into(self._map, place, newest, seconds, total, current)
        return newest, total, current

    # --- the file ---------------------------------------------------------------------------------------------------

    def _lock(self) -> None:
        """Wait for the lock. Raises `StoreUnavailable`."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        except OSError as error:
            raise StoreUnavailable(unlockable(self._path, error)) from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._alone:
            yield
            return
        self._lock()
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _begin(self, *, alone: bool) -> None:
        """Make the file if it is new; who only looks needs no lock for it, and does not wait for who is alone."""
        if alone:
            lock(self._descriptor, self._path, "another server counts here; one server serves a store")
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
            sync(self._path.parent)
        if os.pread(self._descriptor, len(MAGIC), 0) == MAGIC:
            self._grow(FIRST_RECORDS)

    def _grow(self, records: int) -> None:
        # Room is taken now: writing through a map into a hole that no disk has room for would end the process.
        os.posix_fallocate(self._descriptor, 0, records * _RECORD_BYTES)

    def _day(self, meter: Meter, second: int) -> tuple[int, ...]:
        """A record's head, with what it counts on a second's day."""
        place = self._place(meter)
        since, day, *counts = _HEAD.unpack_from(self._map, place)
        # A clock that is put back over midnight begins no day again.
        if since != meter.since or not 0 <= day - second // DAY_SECONDS <= 1:
            counts[:3] = 0, 0, 0
        return since, day, *counts

    def _place(self, meter: Meter) -> int:
        """Where a client's record begins; the file grows with the first that would not fit."""
        place = meter.id * _RECORD_BYTES
        if place > self._last:
            self._make_room(meter.id + 1)
        return place

    def _remap(self) -> None:
        self._map = mmap.mmap(self._descriptor, 0)
        self._last = len(self._map) - _RECORD_BYTES

    def _make_room(self, records: int) -> None:
        try:
            if os.fstat(self._descriptor).st_size < records * _RECORD_BYTES:
                with self._locked():
                    self._grow(2 * records)
            self._map.close()
            self._remap()
        except OSError as error:
            raise StoreUnavailable(f"{self._path}: {error.strerror}") from error

    def _new_day(self, place: int, meter: Meter, second: int) -> None:
        """Begin a second's day. Counters first: killed in between, they are nobody's yet."""
        if _DAY.unpack_from(self._map, place)[0] != meter.since:
            self._map[place + _ANSWERS_AT : place + _RECORD_BYTES] = bytes(_RECORD_BYTES - _ANSWERS_AT)
        _DAILY.pack_into(self._map, place + _COUNTS_AT, 0, 0, 0)
        _DAY.pack_into(self._map, place, meter.since, second // DAY_SECONDS, 0, 0, 0)


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
