"""Recounting quotas from the audit log after their counters were damaged.

If the log is damaged, too, quotas count as spent until the day ends.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from msgspec import Struct, field

from retinue.access.contract import Checkpoint
from retinue.audit.hash_chain import BrokenChain, ChainHead, stated_head
from retinue.audit.log_files import follow, lines_of, missing_at_end, retained_files
from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import read_made
from retinue.model import MAX_SECOND, Direction, Quota, QuotaKey, RegisteredClient, Usage
from retinue.quota.counters import DAY_SECONDS, Counted, Restoring

_OK = 200
_TOO_MANY = 429
_MINUTE = 60
_LISTS = frozenset(direction.value for direction in Direction)
_TOKENS = frozenset(("token", "revoke"))

_FUTURE_DAY = "a clock that was ahead began {day:%Y-%m-%d}: calls made then are counted for that day until it ends"
_FUTURE_DAY_REMEDY = "If the clock is right now, stop the server, remove the counters of quotas, and start it again"
_RAISED = "quota counters had less than the audit log, as an older copy has, and were raised to it"
_RECOUNTED = "quota counters were missing or damaged and were counted again from the audit log"
_SPENT = (
    "quota counters were missing, damaged or not closed, and cannot be counted again because the audit log is damaged; "
    "the quota is spent until 00:00 UTC"
)


class ClientsAndCheckpoint(Protocol):
    """The part of the access store that a recount needs."""

    async def clients(self) -> list[RegisteredClient]:
        """Return all clients."""
        ...

    async def audit_checkpoint(self) -> Checkpoint:
        """Return the checkpoint of the audit log."""
        ...


class Recount:
    """Restores quota counters from the audit log. Methods return lines for the server's log."""

    def __init__(self, counters: Restoring, folder: Path) -> None:
        self._counters = counters
        self._folder = folder
        self._damaged: dict[int, bytes] = {}
        self._made = 0

    async def at_start(self, access: ClientsAndCheckpoint, second: int) -> list[str]:
        """Restore what is missing or damaged, and open the counters.

        Counters that were not closed with the present log may be an older copy, and are raised to it.
        No process may count meanwhile.
        """
        checkpoint = await access.audit_checkpoint()
        is_closed = not checkpoint.is_open and self._counters.closed_at == checkpoint.count
        if not self._counters.is_recounted:
            messages = await self._restore_clients(access, None, second, is_running=False)
            self._counters.set_recounted()
        else:
            messages = await self._restore_clients(access, set(self._counters.damaged()), second, is_running=False)
            if not is_closed:
                clients = await access.clients()
                messages += await asyncio.to_thread(self._raise, clients, checkpoint, second)
        self._counters.set_closed_at()
        return messages

    async def of_damaged(self, access: ClientsAndCheckpoint, second: int, made: int, received: int) -> list[str]:
        """Restore clients whose records have stayed damaged since the previous call.

        Before that, all audit records made up to the previous call must have been received.
        """
        # A record that is being written looks damaged, but not twice with the same bytes.
        before, self._damaged = self._damaged, self._counters.damaged()
        made_before, self._made = self._made, made
        damaged = {client_id for client_id, record in self._damaged.items() if before.get(client_id) == record}
        if not damaged or received < made_before:
            return []
        return await self._restore_clients(access, damaged, second, is_running=True)

    async def _restore_clients(
        self, access: ClientsAndCheckpoint, client_ids: set[int] | None, second: int, *, is_running: bool
    ) -> list[str]:
        if client_ids is not None and not client_ids:
            return []
        clients = await access.clients()
        chosen = [client for client in clients if client_ids is None or client.id in client_ids]
        for client_id in (client_ids or set()) - {client.id for client in clients}:
            self._counters.restore(QuotaKey(client_id, 0), second, _ClientCounts().counted())  # of a deleted client
        checkpoint = await access.audit_checkpoint()
        return await asyncio.to_thread(self._restore, chosen, checkpoint, second, is_running=is_running)

    def _restore(
        self, clients: Sequence[RegisteredClient], checkpoint: Checkpoint, second: int, *, is_running: bool
    ) -> list[str]:
        day = count_day(self._folder, checkpoint, second)
        problem = day.problem or day.losses or ("" if is_running else _losses(self._folder, checkpoint))
        if problem:
            return self._spend(clients, second, problem)
        messages = []
        for client in clients:
            counted = day.counted(client)
            self._counters.restore(client.quota_key, second, counted)
            if client.key in day.counts:
                messages.append(f"client {client.key}: {_RECOUNTED}: {_describe(counted.used)}")
        return messages

    def _spend(self, clients: Sequence[RegisteredClient], second: int, problem: str) -> list[str]:
        for client in clients:
            self._counters.restore(client.quota_key, second, _spent(client, second))
        return [f"client {client.key}: {_SPENT} ({problem})" for client in clients if _is_limited(client.quota)]

    def _raise(self, clients: Sequence[RegisteredClient], checkpoint: Checkpoint, second: int) -> list[str]:
        day = count_day(self._folder, checkpoint, second)
        if day.problem:  # a killed process does not cause that, so the counters may be as old as the log
            return self._spend(clients, second, day.problem)
        return [
            f"client {client.key}: {_RAISED}: {_describe(day.counted(client).used)}"
            for client in clients
            if client.key in day.counts and self._counters.raise_to(client.quota_key, second, day.counted(client))
        ]


class FutureDayWarnings:
    """Warns once of each day that is counted before it has begun."""

    def __init__(self) -> None:
        self._warned = 0

    def warnings(self, newest: int, second: int) -> list[str]:
        """Return a warning if the newest counted day is later than tomorrow."""
        if newest <= max(self._warned, second // DAY_SECONDS + 1):
            return []
        self._warned = newest
        day = datetime.fromtimestamp(min(newest * DAY_SECONDS, MAX_SECOND), UTC)
        return [f"{_FUTURE_DAY.format(day=day)}. {_FUTURE_DAY_REMEDY}"]


class _ClientCounts(Struct):
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
        return Counted(Usage(self.list_calls, self.list_rows, self.other_calls), self.answers, self.tokens)


class _DayCounts(Struct):
    counts: dict[str, _ClientCounts] = field(default_factory=dict)
    problem: str = ""
    losses: str = ""

    def counted(self, client: RegisteredClient) -> Counted:
        return self.counts.get(client.key, _ClientCounts()).counted()

    def add(self, record: AuditRecord, second: int) -> None:
        today = second // DAY_SECONDS
        begin, end = sorted((record.since or record.time, record.time))  # the clock may have been set back in between
        if record.lost and begin // DAY_SECONDS <= today <= end // DAY_SECONDS:
            self.losses = f"{record.lost} records are lost"
        if record.client and record.time // DAY_SECONDS == today:
            self.counts.setdefault(record.client, _ClientCounts()).add(record, second)

    def add_problem(self, problem: str) -> None:
        self.problem = self.problem or problem


def count_day(folder: Path, checkpoint: Checkpoint, second: int) -> _DayCounts:
    """Count the records of a second's day. Lines outside the chain are a problem."""
    day = _DayCounts()
    try:
        paths, last = _since(folder, checkpoint, second // DAY_SECONDS)
        for step in follow(lines_of(paths), last, checkpoint.secret):
            last = step.head
            if step.problem:
                day.add_problem(f"{step.line.place}: {step.problem}")
            elif not step.is_torn:
                day.add(step.line.record, second)
        if last.count < checkpoint.count:
            day.add_problem(f"the last record is {last.count}, the store knows {checkpoint.count}")
    except BrokenChain as error:
        day.add_problem(str(error))
    return day


def _losses(folder: Path, checkpoint: Checkpoint) -> str:
    missing = missing_at_end(folder, checkpoint)
    if missing is not None:
        return f"{missing.count} records are lost"
    if checkpoint.is_open and read_made(folder) is None:
        return "it was not closed, and the file of record counters is missing or damaged"
    return ""


def _since(folder: Path, checkpoint: Checkpoint, day: int) -> tuple[list[Path], ChainHead]:
    # Days may alternate if the clock was set back, so begin before the oldest file that does not begin earlier.
    paths = retained_files(folder, checkpoint)
    later = (index for index, path in enumerate(paths) if not _begins_before(path, day))
    start = max(0, next(later, len(paths)) - 1)
    whole = [line for line in lines_of(paths[start - 1 : start]) if line.is_whole] if start else []
    if whole:
        return paths[start:], stated_head(whole[-1].content)
    return paths, ChainHead(checkpoint.before_count, checkpoint.before_hash)


def _begins_before(path: Path, day: int) -> bool:
    first = next(lines_of([path]), None)
    return first is not None and first.is_whole and first.record.time // DAY_SECONDS < day


def _spent(client: RegisteredClient, second: int) -> Counted:
    quota = client.quota
    used = Usage(quota.list_calls or 0, quota.list_rows or 0, quota.other_calls or 0)
    answers = 0 if quota.rate is None else quota.rate.calls
    return Counted(used, {second: answers}, {})


def _is_limited(quota: Quota) -> bool:
    return (quota.list_calls, quota.list_rows, quota.other_calls) != (None, None, None)


def _describe(used: Usage) -> str:
    return f"{used.list_calls} list calls, {used.list_rows} rows and {used.other_calls} other calls today"
