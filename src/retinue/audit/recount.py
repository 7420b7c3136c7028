"""Counting quotas again from the audit log, where the counters are missing or damaged.

Each answer of a day is in the log with its client and rows, so the day's counters can be made from it. Where the log
itself is not as it was written, a client's quota counts as spent until the day ends.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct, field

from retinue.audit.hash_chain import BrokenChain, ChainHead, head_in
from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import LAST_SECOND, read_made
from retinue.audit.verify import files_of, first_in, follow, lines_of, missing_at_end
from retinue.model import Client, Direction, Meter, Quota, Used
from retinue.store.contract import Checkpoint
from retinue.store.quota_counters import DAY_SECONDS, Counted, Restoring

_OK = 200
_TOO_MANY = 429
_MINUTE = 60
_LISTS = frozenset(direction.value for direction in Direction)
_TOKENS = frozenset(("token", "revoke"))
_decode = msgspec.json.Decoder(AuditRecord).decode


class _Sums(Struct):
    """The sums of one client while they are being counted."""

    list_calls: int = 0
    list_rows: int = 0
    other_calls: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)

    def add(self, record: AuditRecord, second: int) -> None:
        is_recent = second - record.time < _MINUTE
        if record.endpoint in _TOKENS:
            self.tokens[record.time] += record.stands_for if is_recent and record.status != _TOO_MANY else 0
        elif record.status == _OK:
            if record.endpoint in _LISTS:
                self.list_calls += 1
                self.list_rows += record.rows
            else:
                self.other_calls += 1
            self.answers[record.time] += is_recent

    def counted(self) -> Counted:
        return Counted(Used(self.list_calls, self.list_rows, self.other_calls), self.answers, self.tokens)


class ClientsAndCheckpoint(Protocol):
    """The part of the access store that a recount needs."""

    async def clients(self) -> list[Client]:
        """All clients."""
        ...

    async def audit_checkpoint(self) -> Checkpoint:
        """The checkpoint of the audit log."""
        ...


class Recount:
    """Restores counters from the audit log; each method returns what it did as sentences for the server's log."""

    def __init__(self, ledger: Restoring, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        self._seen: dict[int, bytes] = {}
        self._made = 0

    async def at_start(self, access: ClientsAndCheckpoint, second: int) -> list[str]:
        """Restore all clients of a file that is new, else those of damaged records; then the file is open.

        Counters that were not closed with the log as it is now may be an older copy. They are raised to what the log
        has. No process may count meanwhile, so records that were made and are not in the log are lost.
        """
        checkpoint = await access.audit_checkpoint()
        is_closed = not checkpoint.is_open and self._ledger.closed_at == checkpoint.count
        if not self._ledger.is_recounted:
            sentences = await self._restored(access, None, second, is_running=False)
            self._ledger.set_recounted()
        else:
            sentences = await self._restored(access, set(self._ledger.damaged()), second, is_running=False)
            if not is_closed:
                clients = await access.clients()
                sentences += await asyncio.to_thread(self._raise, clients, checkpoint, second)
        self._ledger.set_closed_at()
        return sentences

    async def of_damaged(self, access: ClientsAndCheckpoint, second: int, made: int, received: int) -> list[str]:
        """Restore the clients whose records are damaged, and were so, with the same bytes, at the last call.

        A record that is just being written looks damaged, but not twice alike. `made` and `received` are numbers of
        audit records: nothing is restored before all that were made up to the last call have come, or are told as lost.
        """
        before, self._seen = self._seen, self._ledger.damaged()
        made_before, self._made = self._made, made
        damaged = {number for number, record in self._seen.items() if before.get(number) == record}
        if not damaged or received < made_before:
            return []
        return await self._restored(access, damaged, second, is_running=True)

    async def _restored(
        self, access: ClientsAndCheckpoint, numbers: set[int] | None, second: int, *, is_running: bool
    ) -> list[str]:
        """Restore some clients, or all."""
        if numbers is not None and not numbers:
            return []
        clients = await access.clients()
        chosen = [client for client in clients if numbers is None or client.id in numbers]
        for number in (numbers or set()) - {client.id for client in clients}:
            self._ledger.restore(Meter(number, 0), second, _Sums().counted())  # of no client (any more)
        checkpoint = await access.audit_checkpoint()
        return await asyncio.to_thread(self._restore, chosen, checkpoint, second, is_running=is_running)

    def _restore(
        self, clients: Sequence[Client], checkpoint: Checkpoint, second: int, *, is_running: bool
    ) -> list[str]:
        day = day_in(self._folder, checkpoint, second)
        problem = day.problem or day.losses or ("" if is_running else _missing(self._folder, checkpoint))
        if problem:
            return self._spend(clients, second, problem)
        sentences = []
        for client in clients:
            counted = day.counted(client)
            self._ledger.restore(client.meter, second, counted)
            if client.key in day.sums:
                sentences.append(f"client {client.key}: {_RECOUNTED}: {_told(counted.used)}")
        return sentences

    def _spend(self, clients: Sequence[Client], second: int, problem: str) -> list[str]:
        for client in clients:
            self._ledger.restore(client.meter, second, _spent(client, second))
        return [f"client {client.key}: {_SPENT} ({problem})" for client in clients if _is_limited(client.quota)]

    def _raise(self, clients: Sequence[Client], checkpoint: Checkpoint, second: int) -> list[str]:
        day = day_in(self._folder, checkpoint, second)
        if day.problem:  # no kill does that, so the counters may be as old as the log
            return self._spend(clients, second, day.problem)
        return [
            f"client {client.key}: {_RAISED}: {_told(day.counted(client).used)}"
            for client in clients
            if client.key in day.sums and self._ledger.raise_to(client.meter, second, day.counted(client))
        ]


class DaysAhead:
    """Tells once, of each day, that quotas are counted for a day that has not begun."""

    def __init__(self) -> None:
        self._told = 0

    def sentences(self, newest: int, second: int) -> list[str]:
        """Say so if the newest counted day is later than tomorrow."""
        if newest <= max(self._told, second // DAY_SECONDS + 1):
            return []
        self._told = newest
        day = datetime.fromtimestamp(min(newest * DAY_SECONDS, LAST_SECOND), UTC)
        return [f"{_AHEAD.format(day=day)}. {_AHEAD_REMEDY}"]


_AHEAD = "a clock that was ahead began {day:%Y-%m-%d}: clients that asked then are counted for that day until it ends"
_AHEAD_REMEDY = "If the clock is right now, stop the server, remove the counters of quotas, and start it again"
_RAISED = "quota counters had less than the audit log, as an older copy has, and were raised to it"
_RECOUNTED = "quota counters were missing or damaged and were counted again from the audit log"
_SPENT = (
    "quota counters were missing, damaged or not closed, and cannot be counted again, "
    "since the audit log is not as it was written; the quota is spent until 00:00 UTC"
)


def _is_limited(quota: Quota) -> bool:
    return (quota.list_calls, quota.list_rows, quota.other_calls) != (None, None, None)


def _told(used: Used) -> str:
    return f"{used.list_calls} list calls, {used.list_rows} rows and {used.other_calls} other calls today"


class _Day(Struct):
    """What the log has of a day: what each client used, by its key, and why that may not be all; empty if it is.

    `losses` are told by the log itself, such as after a kill. Of a `problem` it knows nothing.
    """

    sums: dict[str, _Sums] = field(default_factory=dict)
    problem: str = ""
    losses: str = ""

    def counted(self, client: Client) -> Counted:
        return self.sums.get(client.key, _Sums()).counted()

    def add(self, record: AuditRecord, second: int) -> None:
        today = second // DAY_SECONDS
        begin, end = sorted((record.since or record.time, record.time))  # a clock may have been put back in between
        if record.lost and begin // DAY_SECONDS <= today <= end // DAY_SECONDS:
            self.losses = f"{record.lost} records are lost"
        if record.client and record.time // DAY_SECONDS == today:
            self.sums.setdefault(record.client, _Sums()).add(record, second)

    def doubt(self, problem: str) -> None:
        self.problem = self.problem or problem


def day_in(folder: Path, checkpoint: Checkpoint, second: int) -> _Day:
    """Count what the log has of a second's day. Lines that are not in the chain are left out."""
    day = _Day()
    try:
        paths, last = _since(folder, checkpoint, second // DAY_SECONDS)
        for step in follow(lines_of(paths), last, checkpoint.secret):
            last = step.link
            if step.problem:
                day.doubt(f"{step.line.path.name}, line {step.line.number}: {step.problem}")
            elif not step.is_torn:
                day.add(_decode(step.line.content), second)
        if last.count < checkpoint.count:
            day.doubt(f"the last record is {last.count}, the store knows {checkpoint.count}")
    except (BrokenChain, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        day.doubt(str(error))
    return day


def _missing(folder: Path, checkpoint: Checkpoint) -> str:
    """Say what was made and is not in a log that nobody writes; empty if that is nothing."""
    missing = missing_at_end(folder, checkpoint)
    if missing is not None:
        return f"{missing.count} records are lost"
    if checkpoint.is_open and read_made(folder) is None:
        return "it was not closed, and the file that counts its records is missing or damaged"
    return ""


def _since(folder: Path, checkpoint: Checkpoint, day: int) -> tuple[list[Path], ChainHead]:
    """Return the files that may have records of a day, and the link before the first.

    A clock that was put back may have left earlier and later days among them, so the first is the one before the oldest
    that does not begin on an earlier day.
    """
    paths = [path for path in files_of(folder) if first_in(path) > checkpoint.before_count]
    later = (at for at in range(len(paths)) if not _begins_before(paths[at], day))
    start = max(0, next(later, len(paths)) - 1)
    whole = [line for line in lines_of(paths[start - 1 : start]) if line.is_whole] if start else []
    if whole:
        return paths[start:], head_in(whole[-1].content)
    return paths, ChainHead(checkpoint.before_count, checkpoint.before_hash)


def _begins_before(path: Path, day: int) -> bool:
    first = next(lines_of([path]), None)
    return first is not None and first.is_whole and _decode(first.content).time // DAY_SECONDS < day


def _spent(client: Client, second: int) -> Counted:
    """Return the counters of a client that has used all it may, in its day and in the last minute."""
    quota = client.quota
    used = Used(quota.list_calls or 0, quota.list_rows or 0, quota.other_calls or 0)
    answers = 0 if quota.rate is None else quota.rate.calls
    return Counted(used, {second: answers}, {})
