"""Sums of refusals, so that a flood cannot fill the disk.

Some refusals of each client, and of all unauthenticated callers together, are recorded one by one. The rest is summed
up in bounded memory.
"""

from collections.abc import Sequence

from msgspec import Struct, structs

from retinue.audit.record import AuditRecord, decode_record, encode_record
from retinue.clock import Clock

# Refusals recorded one by one for each client, for unauthenticated callers and for the management listener.
BURST = 600
REFILL_SECONDS = 1.0  # until one more may be recorded
WINDOW_SECONDS = 30.0
MAX_ADDRESSES = 32  # of a sum; the same for actions

LOG_ID_DATE = 14  # leading digits of a log_id: its time
_MIN_REFUSAL = 400
_FAULT = 500  # always recorded one by one: its log_id leads to a traceback in the server's log


class RefusalSummary(Struct, frozen=True):
    """A record that stands for `count` refusals."""

    count: int
    record: bytes


class _TokenBucket(Struct):
    level: float
    filled_at: float

    def take(self, now: float) -> bool:
        """Take one token; return whether there was one."""
        self.level = self.level_at(now)
        self.filled_at = now
        if self.level < 1:
            return False
        self.level -= 1
        return True

    def level_at(self, now: float) -> float:
        """Return the level at a later instant."""
        return min(float(BURST), self.level + (now - self.filled_at) / REFILL_SECONDS)


class RefusalSums:
    """The sums of the current window."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: dict[str, _TokenBucket] = {}
        self._sums: dict[tuple[object, ...], AuditRecord] = {}  # `summed` has the count
        self._addresses: set[str] = set()
        self._actions: set[str] = set()
        self._began = 0.0
        self.total = 0  # refusals summed up since the start of this process

    @property
    def pending(self) -> int:
        """The number of refusals in the current window's sums."""
        return sum(each.summed for each in self._sums.values())

    def screen(self, records: Sequence[bytes]) -> list[bytes]:
        """Return the records to write; add the others to the sums."""
        return [record for record in records if not self._is_summed(record)]

    def due(self) -> list[RefusalSummary]:
        """Return the sums of a window that has ended."""
        is_over = self._sums and self._clock.elapsed() - self._began >= WINDOW_SECONDS
        return self.close_window() if is_over else []

    def close_window(self) -> list[RefusalSummary]:
        """Return all sums and begin a new window."""
        summaries = [
            RefusalSummary(each.summed, encode_record(structs.replace(each, summed=0))) for each in self._sums.values()
        ]
        self._sums.clear()
        self._addresses.clear()
        self._actions.clear()
        now = self._clock.elapsed()
        self._buckets = {client: each for client, each in self._buckets.items() if each.level_at(now) < BURST}
        return summaries

    def _is_summed(self, encoded: bytes) -> bool:
        if b'"status":200,' in encoded:  # nearly all records; decoding them would be slow
            return False
        record = decode_record(encoded)
        if not _is_refusal(record):
            return False
        now = self._clock.elapsed()
        # Callers of one listener cannot use up the budget of the other.
        caller = record.endpoint if record.action else record.client
        if self._buckets.setdefault(caller, _TokenBucket(float(BURST), now)).take(now):
            return False
        if not self._sums:
            self._began = now
        address, action = _one_of_few(record.peer, self._addresses), _one_of_few(record.action, self._actions)
        shared = (record.client, record.endpoint, record.status, record.code, address, action)
        before = self._sums.get(shared)
        self._sums[shared] = _first(record, address, action) if before is None else _sum(before, record)
        self.total += 1
        return True


def may_include(record: AuditRecord, log_id: str) -> bool:
    """Return whether a sum may include the refusal with a log_id."""
    second = log_id[:LOG_ID_DATE]
    return second.isdecimal() and record.first_log_id[:LOG_ID_DATE] <= second <= record.log_id[:LOG_ID_DATE]


def _first(record: AuditRecord, address: str, action: str) -> AuditRecord:
    return AuditRecord(
        time=record.time,
        log_id=record.log_id,
        endpoint=record.endpoint,
        status=record.status,
        code=record.code,
        microseconds=record.microseconds,
        peer=address,
        client=record.client,
        action=action,
        statements=record.statements,
        since=record.time,
        summed=1,
        first_log_id=record.log_id,
    )


def _sum(total: AuditRecord, record: AuditRecord) -> AuditRecord:
    # They may come out of order, because workers send batches.
    return structs.replace(
        total,
        time=max(total.time, record.time),
        log_id=max(total.log_id, record.log_id),
        microseconds=total.microseconds + record.microseconds,
        statements=total.statements + record.statements,
        since=min(total.since, record.time),
        summed=total.summed + 1,
        first_log_id=min(total.first_log_id, record.log_id),
    )


def _one_of_few(value: str, recorded: set[str]) -> str:
    if value not in recorded and len(recorded) >= MAX_ADDRESSES:
        return ""
    recorded.add(value)
    return value


def _is_refusal(record: AuditRecord) -> bool:
    # A caller can cause any number of these, and they changed nothing.
    return record.is_request and record.status >= _MIN_REFUSAL and record.status != _FAULT
