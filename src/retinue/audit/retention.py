"""Which file of the audit log is old enough to be removed, and what is in it.

Times in records are only as good as the clock was. Those later than now, or before there was such a log, are known to
be wrong, and a clock that was behind must not make other records look old. So a file is as old as the newest of its
credible times and of the first credible time after it.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from retinue.audit.hash_chain import BrokenChain, ChainHead, head_in
from retinue.audit.record import AuditRecord, RemovedFile
from retinue.audit.trusted_time import SLACK_SECONDS
from retinue.audit.verify import Line, files_of, lines_of

_TIME = re.compile(rb'"time":([0-9]{1,12}),')  # decoding whole records of a long log would take minutes
_EARLIEST = 1_577_836_800  # 2020; a machine without a clock of its own starts in an earlier year

_decode = msgspec.json.Decoder(AuditRecord).decode


class ExpiredFile(Struct, frozen=True):
    """A file that is old enough, and what is removed with it; None if it holds no record."""

    path: Path
    content: RemovedFile | None

    @property
    def last(self) -> ChainHead | None:
        """The last record in the file."""
        return None if self.content is None else ChainHead(self.content.last, bytes.fromhex(self.content.hash))


def oldest_removable(folder: Path, now: int, keep_seconds: int) -> ExpiredFile | None:
    """Return the oldest file of the log if all of it is older than what is kept. The newest file always stays.

    A file that is not as it was written stays, too, for those who will look into that. Raises `StoreError`.
    """
    paths = files_of(folder)
    try:
        after = next(_credible(_first_times(paths[1:]), now), None)
        if after is None or after > now - keep_seconds:
            return None
        content = _content_of(paths[0])
        times = [after, *_credible((_time_in(line) for line in lines_of(paths[:1]) if line.is_whole), now)]
    except (BrokenChain, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return ExpiredFile(paths[0], content) if max(times) <= now - keep_seconds else None


def time_without_jumps(folder: Path) -> int | None:
    """Return the time that the log reaches in steps that are believed; None without a record. Raises `StoreError`.

    A step of more than `SLACK_SECONDS` from one record to the next may be a clock that jumped ahead, so neither it nor
    what follows it counts.
    """
    reached: int | None = None
    for line in lines_of(files_of(folder)):
        found = _TIME.search(line.content)
        if found is None:
            continue
        time = int(found[1])
        if reached is None or reached < time <= reached + SLACK_SECONDS:
            reached = time
    return reached


def _first_times(paths: list[Path]) -> Iterator[int]:
    for path in paths:
        for line in lines_of([path]):
            if line.is_whole:
                yield _time_in(line)
            break


def _credible(times: Iterable[int], now: int) -> Iterator[int]:
    return (time for time in times if _EARLIEST <= time <= now)


def _content_of(path: Path) -> RemovedFile | None:
    content: RemovedFile | None = None
    for line in lines_of([path]):
        if not line.is_whole:
            continue
        record, link = _decode(line.content), head_in(line.content)
        time = record.time
        before = content or RemovedFile(link.count - record.stands_for + 1, 0, "", time, time)
        oldest, newest = min(before.oldest, time), max(before.newest, time)
        content = RemovedFile(before.first, link.count, link.hash.hex(), oldest, newest)
    return content


def _time_in(line: Line) -> int:
    return _decode(line.content).time
