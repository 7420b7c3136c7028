"""Summing up refusals, so that a flood of them cannot fill the disk.

Of each client, and of all callers without one together, some refusals are recorded one by one; more than that in a
short time are summed up by client, endpoint, code and address. Memory and lines are bounded: addresses beyond the first
few share a sum.
"""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from retinue.audit.record import AuditRecord
from retinue.clock import Clock

# Refusals recorded one by one, of each client, of all callers without one together, and of the management listener.
BURST = 600
REFILL_SECONDS = 1.0  # after each of these seconds one more
WINDOW_SECONDS = 30.0
MAX_ADDRESSES = 32  # and as many actions

LOG_ID_DATE = 14  # so many digits of a log_id are its second
_MIN_REFUSAL = 400
_FAULT = 500  # recorded one by one: its log_id leads to a traceback in the server's log

_decode = msgspec.json.Decoder(AuditRecord).decode
_encode = msgspec.json.Encoder().encode


class RefusalSummary(Struct, frozen=True):
    """A record that stands for `count` refusals."""

    count: int
    record: bytes


class _Key(Struct, frozen=True):
    client: str
    endpoint: str
    status: int
    code: str
    address: str
    action: str


class _Budget(Struct):
    """A token bucket."""

    level: float
    filled_at: float

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self.level = self.level_at(now)
        self.filled_at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def level_at(self, now: float) -> float:
        """Return the level at a later instant."""
        return min(float(BURST), self.level + (now - self.filled_at) / REFILL_SECONDS)


class _Sum(Struct):
    count: int = 0
    since: int = 0
    until: int = 0
    first: str = ""
    last: str = ""
    microseconds: int = 0
    statements: int = 0

    def add(self, record: AuditRecord) -> None:
        """Add a refusal. Workers send theirs in batches, so they do not come in order."""
        self.since = min(self.since, record.time) if self.count else record.time
        self.first = min(self.first, record.log_id) if self.count else record.log_id
        self.until, self.last = max(self.until, record.time), max(self.last, record.log_id)
        self.count += 1
        self.microseconds += record.microseconds
        self.statements += record.statements


class RefusalSums:
    """The sums of the current window."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._budgets: dict[str, _Budget] = {}
        self._sums: dict[_Key, _Sum] = {}
        self._addresses: set[str] = set()
        self._actions: set[str] = set()
        self._began = 0.0
        self.total = 0  # refusals summed up since the start of this process

    @property
    def pending(self) -> int:
        """How many refusals are in the sums of the current window."""
        return sum(each.count for each in self._sums.values())

    def screen(self, records: Sequence[bytes]) -> list[bytes]:
        """Return the records to be written as they are; the rest is added to the sums."""
        return [record for record in records if not self._is_summed(record)]

    def due(self) -> list[RefusalSummary]:
        """Return the sums of a window that has ended."""
        is_over = self._sums and self._clock.elapsed() - self._began >= WINDOW_SECONDS
        return self.close_window() if is_over else []

    def close_window(self) -> list[RefusalSummary]:
        """Return all sums up to now, and begin a new window."""
        summaries = list(self._summaries())
        self._sums.clear()
        self._addresses.clear()
        self._actions.clear()
        now = self._clock.elapsed()
        self._budgets = {client: each for client, each in self._budgets.items() if each.level_at(now) < BURST}
        return summaries

    def _is_summed(self, encoded: bytes) -> bool:
        if b'"status":200,' in encoded:  # by far the most; others are decoded
            return False
        record = _decode(encoded)
        if not _is_refusal(record):
            return False
        now = self._clock.elapsed()
        # Callers of one listener cannot use up what is there for the other.
        caller = record.endpoint if record.action else record.client
        budget = self._budgets.setdefault(caller, _Budget(float(BURST), now))
        if budget.take(now):
            return False
        if not self._sums:
            self._began = now
        self._sums.setdefault(self._key_of(record), _Sum()).add(record)
        self.total += 1
        return True

    def _key_of(self, record: AuditRecord) -> _Key:
        address, action = _one_of_few(record.peer, self._addresses), _one_of_few(record.action, self._actions)
        return _Key(record.client, record.endpoint, record.status, record.code, address, action)

    def _summaries(self) -> Iterator[RefusalSummary]:
        for key, each in self._sums.items():
            record = AuditRecord(
                each.until,
                each.last,
                key.endpoint,
                key.status,
                key.code,
                each.microseconds,
                key.address,
                key.client,
                action=key.action,
                statements=each.statements,
                since=each.since,
                first_log_id=each.first,
            )
            yield RefusalSummary(each.count, _encode(record))


def may_hold(record: AuditRecord, log_id: str) -> bool:
    """Return whether a refusal may be in a sum, by the second at which its log_id begins."""
    second = log_id[:LOG_ID_DATE]
    return second.isdecimal() and record.first_log_id[:LOG_ID_DATE] <= second <= record.log_id[:LOG_ID_DATE]


def _one_of_few(value: str, seen: set[str]) -> str:
    """Return a value if it is one of the first few, or nothing."""
    if value not in seen and len(seen) >= MAX_ADDRESSES:
        return ""
    seen.add(value)
    return value


def _is_refusal(record: AuditRecord) -> bool:
    """Return whether a record may be summed up: a caller can cause any number of it, and it changed nothing."""
    return record.is_request and record.status >= _MIN_REFUSAL and record.status != _FAULT
