"""Retention of audit files, and the task that applies it.

A clock that was behind must not make records look old. So a file is as old as the newest credible time in it, or as the
first one after it.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from msgspec import Struct

from retinue.access.contract import AccessStore
from retinue.audit.hash_chain import BrokenChain, stated_head
from retinue.audit.log_files import ExpiredFile, files_of, lines_of
from retinue.audit.record import RemovedRecords
from retinue.audit.trusted_time import SLACK_SECONDS, TrustedTime
from retinue.audit.writer import AuditWriter
from retinue.clock import Clock
from retinue.errors import StoreError, StoreUnavailable

INTERVAL_SECONDS = 60

_TIME = re.compile(rb'"time":([0-9]{1,12}),')  # decoding whole records of a long log would take minutes
_EARLIEST = 1_577_836_800  # 2020, in Unix seconds; a machine without a hardware clock starts in an earlier year
_LOGGER = logging.getLogger("retinue.retention")


class Retention(Struct, frozen=True):
    """Removes old audit files and expired tokens. `keep_seconds` 0 keeps all files."""

    folder: Path
    keep_seconds: int
    trusted: TrustedTime
    audit: AuditWriter
    access: AccessStore
    clock: Clock

    async def run(self) -> None:
        """Apply the policy once a minute, until cancelled."""
        while True:
            try:
                await self.apply()
            except (OSError, StoreError, StoreUnavailable) as error:
                _LOGGER.warning("old audit files and expired tokens stay for now: %s", error)
            except Exception:  # ending the task would be noticed too late
                _LOGGER.exception("old audit files and expired tokens stay for now")
            await asyncio.sleep(INTERVAL_SECONDS)

    async def apply(self) -> None:
        """Remove everything that is old enough by trusted time."""
        self._save_time(self.trusted.update)
        self.audit.measure()
        now = self.trusted.now()
        await self.access.forget_tokens(now)  # expired tokens are refused anyway; this only keeps the store small
        while self.keep_seconds:
            file = await asyncio.to_thread(oldest_expired, self.folder, now, self.keep_seconds)
            if file is None or not await self.audit.remove(file, self.clock.now()):
                return

    def finish(self) -> None:
        """Save the trusted time."""
        self._save_time(self.trusted.save)

    def _save_time(self, save: Callable[[], None]) -> None:
        try:
            save()
        except OSError as error:  # on a full disk, for example, removing files helps
            _LOGGER.warning("the trusted time cannot be saved: %s", error)


def oldest_expired(folder: Path, now: int, keep_seconds: int) -> ExpiredFile | None:
    """Return the oldest file if it is old enough. The newest and damaged ones stay."""
    paths = files_of(folder)
    try:
        after = next(_credible(_first_times(paths[1:]), now), None)
        if after is None or after > now - keep_seconds:
            return None
        content = _content_of(paths[0])
        times = [after, *_credible((line.record.time for line in lines_of(paths[:1]) if line.is_whole), now)]
    except BrokenChain:
        return None
    return ExpiredFile(paths[0], content) if max(times) <= now - keep_seconds else None


def time_without_jumps(folder: Path) -> int | None:
    """Return the latest time reached without jumps; None without records."""
    reached: int | None = None
    for line in lines_of(files_of(folder)):
        match = _TIME.search(line.content)
        if match is None:
            continue
        time = int(match[1])
        if reached is None or reached < time <= reached + SLACK_SECONDS:
            reached = time
    return reached


def _first_times(paths: list[Path]) -> Iterator[int]:
    for path in paths:
        for line in lines_of([path]):
            if line.is_whole:
                yield line.record.time
            break


def _credible(times: Iterable[int], now: int) -> Iterator[int]:
    return (time for time in times if _EARLIEST <= time <= now)


def _content_of(path: Path) -> RemovedRecords | None:
    content: RemovedRecords | None = None
    for line in lines_of([path]):
        if not line.is_whole:
            continue
        record, head = line.record, stated_head(line.content)
        time = record.time
        before = content or RemovedRecords(head.count - record.stands_for + 1, 0, "", time, time)
        oldest, newest = min(before.oldest, time), max(before.newest, time)
        content = RemovedRecords(before.first, head.count, head.hash.hex(), oldest, newest)
    return content
