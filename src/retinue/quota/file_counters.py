"""Quota counters in a file, shared by all processes of a server.

Counting needs the file's lock, reading does not. Counts survive the end of any process. A power loss may lose those
since the last `settle`.
"""

from collections.abc import Mapping
from pathlib import Path
from struct import Struct

from retinue.errors import StoreUnavailable
from retinue.model import Pool, Quota, QuotaKey, RateLimit, Usage
from retinue.quota.counter_file import RECORD_BYTES, CounterFile
from retinue.quota.counters import DAY_SECONDS, Counted, QuotaStatus

_BUCKETS = 60  # one for each second of the longest rate limit
# The head of a record: the client's creation, the day, its list calls, list rows and other calls; then of the window
# of answers its newest second, its length, the calls in it and those in its newest second. The window has the calls of
# each second before the newest, by the second's remainder. That of calls for tokens has its newest second in front.
_HEAD = Struct("<9q")
_WINDOW = Struct(f"<{_BUCKETS}I")
_TOKENS = Struct(f"<q{_BUCKETS}I")
_HEAD_BYTES = _HEAD.size
_CHECKSUM_BYTES = 4
_ANSWERS_AT = _HEAD_BYTES + _CHECKSUM_BYTES
_TOKENS_AT = _ANSWERS_AT + _WINDOW.size + _CHECKSUM_BYTES
_PARTS = ((0, _HEAD_BYTES), (_ANSWERS_AT, _WINDOW.size), (_TOKENS_AT, _TOKENS.size))
_MAX_CALLS = 2**32 - 1  # in a second, in the file
_LISTS = Pool.LISTS

_Head = tuple[int, int, int, int, int, int, int, int, int]


class FileQuotaCounters:
    """`QuotaCounters` in a file. With `alone`, no other process counts there.

    Raises `StoreError` if the file cannot be used, or is missing and `creates` is false.
    """

    def __init__(self, path: Path, *, alone: bool = False, creates: bool = True) -> None:
        self._file = CounterFile(path, _PARTS, alone=alone, creates=creates)

    def day(self, quota_key: QuotaKey, second: int) -> int:
        return self._at(quota_key, second)[1]

    def usage(self, quota_key: QuotaKey, second: int) -> Usage:
        if not self._file.has(quota_key.id):
            return Usage()
        _, _, calls, rows, others, *_ = self._at(quota_key, second)
        return Usage(calls, rows, others)

    def remaining(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota, wanted: int) -> int:
        # This and `charge` run for each answer: few calls, few memory accesses.
        _, _, calls, rows, others, _, seconds, total, _ = self._at(quota_key, second)
        rate = quota.rate
        # An old total is never too small, since calls only leave a window as it moves on.
        may_be_full = rate is not None and (total >= rate.calls or seconds != rate.seconds)
        if may_be_full and self.status(quota_key, second, pool, quota).wait:
            return 0
        if pool is not _LISTS:
            return wanted if quota.other_calls is None or others < quota.other_calls else 0
        if quota.list_calls is not None and calls >= quota.list_calls:
            return 0
        return wanted if quota.list_rows is None else max(0, min(wanted, quota.list_rows - rows))

    def status(self, quota_key: QuotaKey, second: int, pool: Pool, quota: Quota) -> QuotaStatus:
        since, day, calls, rows, others, newest, _, _, current = self._at(quota_key, second)
        wait = 0
        if quota.rate is not None and since:
            counts = self._counts(self._file.place(quota_key.id), newest, current)
            wait = _wait(*_moved(counts, newest, second), quota.rate)
        limit, used = (quota.list_calls, calls) if pool is _LISTS else (quota.other_calls, others)
        most_rows = quota.list_rows if pool is _LISTS else None
        return QuotaStatus(
            limit,
            None if limit is None else limit - used,
            None if most_rows is None else most_rows - rows,
            (day + 1) * DAY_SECONDS - second,
            wait,
        )

    def charge(self, quota_key: QuotaKey, second: int, pool: Pool, rows: int, quota: Quota) -> QuotaStatus | None:
        file = self._file
        place = file.place(quota_key.id)
        if not file.alone:
            file.lock()
        try:
            since, day, calls, all_rows, others, newest, seconds, total, current = self._at(quota_key, second)
            if not since:
                self._clear(place, quota_key, day)
            rate = quota.rate
            if rate is not None:
                if newest != second or seconds != rate.seconds:
                    newest, total, current = self._move(place, newest, current, second, rate.seconds)
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
            counted = _HEAD.pack(quota_key.since, day, calls, all_rows, others, newest, seconds, total, current)
            file.write(place, counted)
        finally:
            if not file.alone:
                file.unlock()
        return QuotaStatus(
            limit,
            None if limit is None else limit - used,
            None if most_rows is None else most_rows - all_rows,
            (day + 1) * DAY_SECONDS - second,
        )

    def admit(self, quota_key: QuotaKey, second: int, rate: RateLimit) -> int:
        place = self._file.place(quota_key.id)
        with self._file.locked():
            since, day, *_ = self._at(quota_key, second)
            if not since:
                self._clear(place, quota_key, day)
            newest, *counts = _TOKENS.unpack_from(self._part(place, _TOKENS_AT, _TOKENS.size))
            counts, newest = _moved(counts, newest, second)
            wait = _wait(counts, newest, rate)
            if not wait:
                counts[newest % _BUCKETS] += 1
                self._file.write(place + _TOKENS_AT, _TOKENS.pack(newest, *counts))
            return wait

    @property
    def is_recounted(self) -> bool:
        return self._file.is_recounted

    @property
    def is_removed(self) -> bool:
        return self._file.is_removed

    def set_recounted(self) -> None:
        self._file.set_recounted()

    @property
    def closed_at(self) -> int:
        return self._file.closed_at

    def set_closed_at(self, records: int = -1) -> None:
        self._file.set_closed_at(records)

    def newest_day(self) -> int:
        heads = (self._file.read(place, _HEAD_BYTES) for place in self._file.places())
        return max((_HEAD.unpack_from(head)[1] for head in heads if head is not None), default=0)

    def damaged(self) -> dict[int, bytes]:
        return self._file.damaged()

    def restore(self, quota_key: QuotaKey, second: int, counted: Counted) -> None:
        place = self._file.place(quota_key.id)
        answers, tokens = (_by_remainder(calls, second) for calls in (counted.answers, counted.tokens))
        self._file.write(place + _TOKENS_AT, _TOKENS.pack(second, *tokens))
        self._file.write(place + _ANSWERS_AT, _WINDOW.pack(*answers))
        used, current = counted.used, answers[second % _BUCKETS]
        day = second // DAY_SECONDS
        counts = (used.list_calls, used.list_rows, used.other_calls)
        self._file.write(place, _HEAD.pack(quota_key.since, day, *counts, second, 0, 0, current))

    def raise_to(self, quota_key: QuotaKey, second: int, counted: Counted) -> bool:
        _, day, calls, rows, others, *_ = self._at(quota_key, second)
        used = counted.used
        most = Usage(max(calls, used.list_calls), max(rows, used.list_rows), max(others, used.other_calls))
        if day > second // DAY_SECONDS or most == Usage(calls, rows, others):
            return False
        self.restore(quota_key, second, Counted(most, counted.answers, counted.tokens))
        return True

    def settle(self) -> None:
        self._file.settle()

    def statements_sent(self) -> int:
        return 0

    def close(self) -> None:
        self._file.close()

    def _at(self, quota_key: QuotaKey, second: int) -> _Head:
        """Return a client's head on a day."""
        place = self._file.place(quota_key.id)
        part = self._file.read(place, _HEAD_BYTES)
        if part is None:
            raise self._damaged(place)
        head: _Head = _HEAD.unpack_from(part)
        today = second // DAY_SECONDS
        if head[0] != quota_key.since:
            return (0, today, 0, 0, 0, 0, 0, 0, 0)
        return head if head[1] >= today else (head[0], today, 0, 0, 0, *head[5:])

    def _part(self, place: int, offset: int, size: int) -> bytes:
        part = self._file.read(place + offset, size)
        if part is None:
            raise self._damaged(place)
        return part

    def _damaged(self, place: int) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._file.path}: the counters of client {place // RECORD_BYTES} are damaged; "
            "a server counts them again from its audit log"
        )

    def _clear(self, place: int, quota_key: QuotaKey, day: int) -> None:
        """Clear a client's record. The head comes last, in case of a kill."""
        self._file.write(place + _ANSWERS_AT, bytes(_WINDOW.size))
        self._file.write(place + _TOKENS_AT, bytes(_TOKENS.size))
        self._file.write(place, _HEAD.pack(quota_key.since, day, 0, 0, 0, 0, 0, 0, 0))

    def _counts(self, place: int, newest: int, current: int) -> list[int]:
        counts = list(_WINDOW.unpack_from(self._part(place, _ANSWERS_AT, _WINDOW.size)))
        counts[newest % _BUCKETS] = current
        return counts

    def _move(self, place: int, newest: int, current: int, second: int, seconds: int) -> tuple[int, int, int]:
        counts, newest = _moved(self._counts(place, newest, current), newest, second)
        self._file.write(place + _ANSWERS_AT, _WINDOW.pack(*counts))
        return newest, sum(_in_window(counts, newest, seconds)), counts[newest % _BUCKETS]


def _by_remainder(calls: Mapping[int, int], second: int) -> list[int]:
    counts = [0] * _BUCKETS
    for at, count in calls.items():
        if 0 <= second - at < _BUCKETS:
            counts[at % _BUCKETS] = min(count, _MAX_CALLS)
    return counts


def _moved(counts: list[int], newest: int, second: int) -> tuple[list[int], int]:
    """Return a window moved to a second.

    It moves back only by more than its length.
    """
    if abs(newest - second) > _BUCKETS:
        return [0] * _BUCKETS, second
    for passed in range(newest + 1, second + 1):
        counts[passed % _BUCKETS] = 0
    return counts, max(newest, second)


def _in_window(counts: list[int], newest: int, seconds: int) -> list[int]:
    return [counts[second % _BUCKETS] for second in range(newest - seconds + 1, newest + 1)]


def _wait(counts: list[int], newest: int, rate: RateLimit) -> int:
    """Return the seconds until the next call is admitted."""
    in_window = _in_window(counts, newest, rate.seconds)
    total = sum(in_window)
    if total < rate.calls:
        return 0
    for wait, leaving in enumerate(in_window, start=1):
        total -= leaving
        if total < rate.calls:
            return wait
    return rate.seconds
