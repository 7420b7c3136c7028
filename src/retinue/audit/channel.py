"""How audit records get from the workers to the keeper: over one socket, whole batches at a time.

The supervisor holds both ends for as long as the server lives. So what a worker has sent is safe even if it is killed,
or if the keeper is away for a while; a killed worker takes with it the batch that it is collecting, at most
`BATCH_RECORDS` records or `BATCH_SECONDS` of them. While the keeper cannot take records workers keep them, and would
lose them if they were killed then; when they can keep no more they refuse requests.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from retinue.audit.record import AuditRecord
from retinue.audit.record_counters import WorkerCounter

BATCH_RECORDS = 100
BATCH_SECONDS = 0.05
MOST_KEPT = 10_000
MOST_REFUSALS_KEPT = 10_000  # refusals while it is full are recorded too, but not without end
BATCH_BYTES = 128 * 1024  # below what the kernel takes as one message
RETRY_SECONDS = 1.0
_TRIES_PER_LINE = 60  # of the log
PATIENCE_SECONDS = 6.0  # so long the keeper waits for the last of workers that are stopping
LAST_SECONDS = 2.0  # so long a stopping worker waits for room for its last records
_BATCHES_AT_ONCE = 16
_STEP_SECONDS = 0.05

_LOGGER = logging.getLogger("retinue.audit")
_encode = msgspec.json.Encoder().encode


def open_channel() -> tuple[socket.socket, socket.socket]:
    """The sending and the receiving end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class ChannelSender:
    """A worker's `AuditSink`."""

    def __init__(self, sender: socket.socket, loop: asyncio.AbstractEventLoop, counter: WorkerCounter) -> None:
        self._counter = counter
        self._sender = sender
        self._sender.setblocking(False)
        self._loop = loop
        self._kept: list[AuditRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._refusals_lost = 0
        self._is_cut_off = False

    @property
    def is_full(self) -> bool:
        """Whether no more can be kept."""
        return self._is_cut_off or len(self._kept) >= MOST_KEPT

    def add(self, record: AuditRecord) -> None:
        """Take a record."""
        self._counter.add()
        kept = self._kept
        if len(kept) >= MOST_KEPT + MOST_REFUSALS_KEPT:
            self._refusals_lost += 1
            return
        kept.append(record)  # encoded together with others, which is quicker
        if self._timer is None:
            self._timer = self._loop.call_later(BATCH_SECONDS, self._send_later)
        if len(kept) % BATCH_RECORDS == 0:
            self._send()

    @property
    def has_lost(self) -> bool:
        """Whether, closed, it has records that the keeper did not take."""
        return bool(self._kept)

    def close(self) -> None:
        """Send what is left, and give the socket back."""
        if self._timer is not None:
            self._timer.cancel()
        self._sender.settimeout(LAST_SECONDS)
        self._send()
        if self._kept:
            _LOGGER.error("%d audit records are lost: the keeper did not take them", len(self._kept))
        self._sender.close()

    def _send_later(self) -> None:
        self._timer = None
        self._send()
        if self._kept:
            self._timer = self._loop.call_later(BATCH_SECONDS, self._send_later)

    def _send(self) -> None:
        """Send batch after batch, as long as there is room."""
        try:
            while self._kept:
                lines = _lines_of(self._kept)
                count = len(lines)
                self._sender.send(Batch(self._counter.worker, self._counter.made - len(self._kept), lines).encode())
                del self._kept[:count]
                if self._refusals_lost:
                    _LOGGER.error("%d refusals are not in the audit log, which was full", self._refusals_lost)
                    self._refusals_lost = 0
        except (BlockingIOError, TimeoutError):
            return
        except OSError as error:  # all other ends are gone, which ends the server
            if not self._is_cut_off:
                _LOGGER.error("audit records cannot be sent: %s", error)  # noqa: TRY400 - no fault of ours
            self._is_cut_off = True


class Batch(Struct, frozen=True):
    """Records of one worker, as JSON; `first` of its records, sent or lost, were made before them."""

    worker: int
    first: int
    records: list[bytes]

    def encode(self) -> bytes:
        """The batch as one message."""
        return b"\n".join((b"%d %d" % (self.worker, self.first), *self.records))


def batch_of(message: bytes) -> Batch:
    """Return the batch in a message."""
    head, *records = message.split(b"\n")
    worker, _, first = head.partition(b" ")
    return Batch(int(worker), int(first), records)


def _lines_of(records: Sequence[AuditRecord]) -> list[bytes]:
    size = 0
    lines: list[bytes] = []
    for record in records[:BATCH_RECORDS]:
        line = _encode(record)
        size += len(line) + 1
        if size > BATCH_BYTES and lines:
            break
        lines.append(line)
    return lines


Take = Callable[[Batch], None]


class ChannelReceiver:
    """The keeper's end. `take` writes records, or raises `OSError` and keeps them; `retry` goes on with those."""

    def __init__(self, receiver: socket.socket, take: Take, retry: Callable[[], None]) -> None:
        self._receiver = receiver
        self._receiver.setblocking(False)
        self._take = take
        self._retry = retry
        self._has_ended = False
        self._failures = 0  # in a row
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(receiver, self._receive)

    async def finish(self) -> bool:
        """Take all that is still on its way, until nobody is left who could send; whether that was so in time."""
        self._loop.remove_reader(self._receiver)
        for _ in range(int(PATIENCE_SECONDS / _STEP_SECONDS)):
            while self._receive_last():
                pass
            if self._has_ended:
                return True
            await asyncio.sleep(_STEP_SECONDS)
        return False

    def _receive(self) -> None:
        try:
            for _ in range(_BATCHES_AT_ONCE):
                if not self._receive_one():
                    return
        except OSError as error:
            self._pause(error)

    def _receive_last(self) -> bool:
        try:
            return self._receive_one()
        except OSError as error:  # what was received is kept, and tried once more when the log is closed
            _LOGGER.error("the audit log cannot be written while stopping: %s", error)  # noqa: TRY400 - no fault of ours
            return True

    def _receive_one(self) -> bool:
        try:
            message = self._receiver.recv(2 * BATCH_BYTES)
        except BlockingIOError:
            return False
        if not message:  # no process is left that could send
            self._has_ended = True
            self._loop.remove_reader(self._receiver)
            return False
        self._take(batch_of(message))
        return True

    def _pause(self, error: OSError) -> None:
        """Leave records where they are until those at hand can be written."""
        if self._failures % _TRIES_PER_LINE == 0:
            _LOGGER.error("the audit log cannot be written; workers keep records, then refuse requests: %s", error)
        self._failures += 1
        self._loop.remove_reader(self._receiver)
        self._loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        try:
            self._retry()
        except OSError as error:
            self._pause(error)
            return
        _LOGGER.warning("the audit log is written again, after %d tries", self._failures)
        self._failures = 0
        self._loop.add_reader(self._receiver, self._receive)
