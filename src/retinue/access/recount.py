"""Counting quotas again from the audit log, where the counters are missing or damaged.

Each answer of a day is in the log with its client and rows, so the day's counters can be made from it. Where the log
itself is not as it was written, a client's quota counts as spent until the day ends.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct, field

from retinue.access.audit import Record
from retinue.access.chain import BrokenChain, Link, link_in
from retinue.access.verification import files_of, first_in, follow, lines_of, missing_at_end
from retinue.model import Client, Direction, Meter, Quota, Used
from retinue.store.base import Anchor
from retinue.store.quota_counters import DAY_SECONDS, Counted, Restoring

_OK = 200
_TOO_MANY = 429
_MINUTE = 60
_LISTS = frozenset(direction.value for direction in Direction)
_TOKENS = frozenset(("token", "revoke"))
_decode = msgspec.json.Decoder(Record).decode


class UncountableLog(Exception):
    """The audit log of a day is not as it was written; the message says what is wrong."""


class _Sums(Struct):
    """The sums of one client while they are being counted."""

    list_calls: int = 0
    list_rows: int = 0
    other_calls: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)

    def add(self, record: Record, second: int) -> None:
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


class ClientsAndAnchor(Protocol):
    """The part of the access store that a recount needs."""

    async def clients(self) -> list[Client]:
        """All clients."""
        ...

    async def audit_anchor(self) -> Anchor:
        """The anchor of the audit log."""
        ...


class Recount:
    """Restores counters from the audit log; each method returns what it did as sentences for the server's log."""

    def __init__(self, ledger: Restoring, folder: Path) -> None:
        self._ledger = ledger
        self._folder = folder
        self._seen: dict[int, bytes] = {}

    async def at_start(self, access: ClientsAndAnchor, second: int) -> list[str]:
        """Restore all clients of a file that is new, else those of damaged records.

        No process may count meanwhile, so records that were made and are not in the log are lost.
        """
        if self._ledger.is_recounted:
            return await self._restored(access, set(self._ledger.damaged()), second, is_running=False)
        sentences = await self._restored(access, None, second, is_running=False)
        self._ledger.set_recounted()
        return sentences

    async def of_damaged(self, access: ClientsAndAnchor, second: int) -> list[str]:
        """Restore the clients whose records are damaged, and were so, with the same bytes, at the last call.

        A record that is just being written looks damaged, but not twice alike. Between two calls the records of all
        answers that were charged before have to reach the log.
        """
        before, self._seen = self._seen, self._ledger.damaged()
        damaged = {number for number, record in self._seen.items() if before.get(number) == record}
        return await self._restored(access, damaged, second, is_running=True) if damaged else []

    async def _restored(
        self, access: ClientsAndAnchor, numbers: set[int] | None, second: int, *, is_running: bool
    ) -> list[str]:
        """Restore some clients, or all."""
        if numbers is not None and not numbers:
            return []
        clients = await access.clients()
        chosen = [client for client in clients if numbers is None or client.id in numbers]
        for number in (numbers or set()) - {client.id for client in clients}:
            self._ledger.restore(Meter(number, 0), second, _Sums().counted())  # of no client (any more)
        anchor = await access.audit_anchor()
        return await asyncio.to_thread(self._restore, chosen, anchor, second, is_running=is_running)

    def _restore(self, clients: Sequence[Client], anchor: Anchor, second: int, *, is_running: bool) -> list[str]:
        try:
            if not is_running:
                _require_nothing_missing(self._folder, anchor)
            sums = sums_on(self._folder, anchor, second)
        except UncountableLog as error:
            for client in clients:
                self._ledger.restore(client.meter, second, _spent(client, second))
            limited = [client for client in clients if _is_limited(client.quota)]
            return [f"client {client.key}: {_SPENT} ({error})" for client in limited]
        sentences = []
        for client in clients:
            counted = sums.get(client.key, _Sums()).counted()
            self._ledger.restore(client.meter, second, counted)
            if client.key in sums:
                sentences.append(f"client {client.key}: {_RECOUNTED}: {_told(counted.used)}")
        return sentences


_RECOUNTED = "quota counters were missing or damaged and were counted again from the audit log"
_SPENT = (
    "quota counters were missing or damaged and cannot be counted again, since the audit log is not as it was written; "
    "the quota is spent until 00:00 UTC"
)


def _is_limited(quota: Quota) -> bool:
    return (quota.list_calls, quota.list_rows, quota.other_calls) != (None, None, None)


def _told(used: Used) -> str:
    return f"{used.list_calls} list calls, {used.list_rows} rows and {used.other_calls} other calls today"


def sums_on(folder: Path, anchor: Anchor, second: int) -> dict[str, _Sums]:
    """Return what each client used on a second's day, by its key. Raises `UncountableLog`."""
    today = second // DAY_SECONDS
    sums: dict[str, _Sums] = {}
    last = Link(anchor.before_count, anchor.before_hash)
    try:
        paths, last = _since(folder, anchor, today)
        for step in follow(lines_of(paths), last, anchor.secret):
            if step.problem:
                raise UncountableLog(f"{step.line.path.name}, line {step.line.number}: {step.problem}")
            last = step.link
            if step.is_torn:
                continue
            record = _decode(step.line.content)
            if record.lost and record.since // DAY_SECONDS <= today <= record.time // DAY_SECONDS:
                raise UncountableLog(f"{record.lost} records are lost")
            if record.client and record.time // DAY_SECONDS == today:
                sums.setdefault(record.client, _Sums()).add(record, second)
    except (BrokenChain, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UncountableLog(str(error)) from error
    if last.count < anchor.count:
        raise UncountableLog(f"the last record is {last.count}, the store knows {anchor.count}")
    return sums


def _require_nothing_missing(folder: Path, anchor: Anchor) -> None:
    missing = missing_at_end(folder, anchor)
    if missing is not None:
        raise UncountableLog(f"{missing.count} records are lost")


def _since(folder: Path, anchor: Anchor, day: int) -> tuple[list[Path], Link]:
    """Return the files that may have records of a day, and the link before the first. A clock that was put back may
    have left later days among them, so the first is the newest that begins on an earlier day.
    """
    paths = [path for path in files_of(folder) if first_in(path) > anchor.before_count]
    for at in range(len(paths) - 1, 0, -1):
        first = next(lines_of(paths[at : at + 1]), None)
        if first is not None and first.is_whole and _decode(first.content).time // DAY_SECONDS < day:
            whole = [line for line in lines_of(paths[at - 1 : at]) if line.is_whole]
            if whole:
                return paths[at:], link_in(whole[-1].content)
    return paths, Link(anchor.before_count, anchor.before_hash)


def _spent(client: Client, second: int) -> Counted:
    """Return the counters of a client that has used all it may, in its day and in the last minute."""
    quota = client.quota
    used = Used(quota.list_calls or 0, quota.list_rows or 0, quota.other_calls or 0)
    answers = 0 if quota.rate is None else quota.rate.calls
    return Counted(used, {second: answers}, {})
