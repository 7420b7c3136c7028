"""The channel on which workers send audit records to the coordinator: one socket, in batches.

The supervisor holds both ends, so sent records survive the end of any other process. A killed worker loses its buffered
records. Requests are refused while the buffer is full.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from msgspec import Struct

from retinue.audit.record import AuditRecord, encode_record
from retinue.audit.record_counters import WorkerCounter

BATCH_RECORDS = 100
BATCH_SECONDS = 0.05
MAX_BUFFERED = 10_000
MAX_BUFFERED_REFUSALS = 10_000  # more, for refusals while the buffer is full
BATCH_BYTES = 128 * 1024  # below the kernel's limit for one message
RETRY_SECONDS = 1.0
DRAIN_SECONDS = 6.0  # for the last records of stopping workers
CLOSE_SECONDS = 2.0  # for a stopping worker to send its last records
_TRIES_PER_LINE = 60  # of the server's log
_BATCHES_AT_ONCE = 16
_STEP_SECONDS = 0.05

_LOGGER = logging.getLogger("retinue.audit")


class Batch(Struct, frozen=True):
    """JSON records of one worker. It made `first` earlier records, sent or lost."""

    worker: int
    first: int
    records: list[bytes]

    def encode(self) -> bytes:
        """Return the batch as one message."""
        return b"\n".join((b"%d %d" % (self.worker, self.first), *self.records))


def decode_batch(message: bytes) -> Batch:
    """Return the batch in a message."""
    head, *records = message.split(b"\n")
    worker, _, first = head.partition(b" ")
    return Batch(int(worker), int(first), records)


def open_channel() -> tuple[socket.socket, socket.socket]:
    """Return the sending and the receiving end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class ChannelSender:
    """A worker's `AuditSink`."""

    def __init__(self, sender: socket.socket, loop: asyncio.AbstractEventLoop, counter: WorkerCounter) -> None:
        self._counter = counter
        self._sender = sender
        self._sender.setblocking(False)
        self._loop = loop
        self._buffer: list[AuditRecord] = []
        self._timer: asyncio.TimerHandle | None = None
        self._lost_refusals = 0
        self._is_cut_off = False

    @property
    def is_full(self) -> bool:
        """Whether no more records can be buffered."""
        return self._is_cut_off or len(self._buffer) >= MAX_BUFFERED

    @property
    def has_lost(self) -> bool:
        """Whether the coordinator did not accept all records before `close`."""
        return bool(self._buffer)

    def add(self, record: AuditRecord) -> None:
        """Buffer a record, to be sent soon."""
        self._counter.add()
        buffer = self._buffer
        if len(buffer) >= MAX_BUFFERED + MAX_BUFFERED_REFUSALS:
            self._lost_refusals += 1
            return
        buffer.append(record)  # encoded together with others, which is faster
        if self._timer is None:
            self._timer = self._loop.call_later(BATCH_SECONDS, self._send_later)
        if len(buffer) % BATCH_RECORDS == 0:
            self._send()

    def close(self) -> None:
        """Send the remaining records and close the socket."""
        if self._timer is not None:
            self._timer.cancel()
        self._sender.settimeout(CLOSE_SECONDS)
        self._send()
        if self._buffer:
            _LOGGER.error("%d audit records are lost: the coordinator did not accept them", len(self._buffer))
        self._sender.close()

    def _send_later(self) -> None:
        self._timer = None
        self._send()
        if self._buffer:
            self._timer = self._loop.call_later(BATCH_SECONDS, self._send_later)

    def _send(self) -> None:
        try:
            while self._buffer:
                lines = _first_lines(self._buffer)
                first = self._counter.made - len(self._buffer)
                self._sender.send(Batch(self._counter.worker, first, lines).encode())
                del self._buffer[: len(lines)]
                if self._lost_refusals:
                    _LOGGER.error("%d refusals are not in the audit log, which was full", self._lost_refusals)
                    self._lost_refusals = 0
        except (BlockingIOError, TimeoutError):
            return
        except OSError as error:  # all receiving ends are closed, which ends the server
            if not self._is_cut_off:
                _LOGGER.error("audit records cannot be sent: %s", error)  # noqa: TRY400 - no fault of ours
            self._is_cut_off = True


def _first_lines(records: Sequence[AuditRecord]) -> list[bytes]:
    size = 0
    lines: list[bytes] = []
    for record in records[:BATCH_RECORDS]:
        line = encode_record(record)
        size += len(line) + 1
        if size > BATCH_BYTES and lines:
            break
        lines.append(line)
    return lines


class ChannelReceiver:
    """The coordinator's end. `write` writes a batch, or raises `OSError` and buffers it; `flush` writes the buffer."""

    def __init__(self, receiver: socket.socket, write: Callable[[Batch], None], flush: Callable[[], None]) -> None:
        self._receiver = receiver
        self._receiver.setblocking(False)
        self._write = write
        self._flush = flush
        self._has_ended = False
        self._consecutive_failures = 0
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(receiver, self._receive)

    async def finish(self) -> bool:
        """Receive until all senders have closed; return whether they did."""
        self._loop.remove_reader(self._receiver)
        for _ in range(int(DRAIN_SECONDS / _STEP_SECONDS)):
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
        except OSError as error:  # the batch is buffered, and written when the log is closed
            _LOGGER.error("the audit log cannot be written while stopping: %s", error)  # noqa: TRY400 - no fault of ours
            return True

    def _receive_one(self) -> bool:
        try:
            message = self._receiver.recv(2 * BATCH_BYTES)
        except BlockingIOError:
            return False
        if not message:
            self._has_ended = True
            self._loop.remove_reader(self._receiver)
            return False
        self._write(decode_batch(message))
        return True

    def _pause(self, error: OSError) -> None:
        if self._consecutive_failures % _TRIES_PER_LINE == 0:
            _LOGGER.error("the audit log cannot be written; workers buffer records, then refuse requests: %s", error)
        self._consecutive_failures += 1
        self._loop.remove_reader(self._receiver)
        self._loop.call_later(RETRY_SECONDS, self._try_again)

    def _try_again(self) -> None:
        try:
            self._flush()
        except OSError as error:
            self._pause(error)
            return
        _LOGGER.warning("the audit log is written again, after %d tries", self._consecutive_failures)
        self._consecutive_failures = 0
        self._loop.add_reader(self._receiver, self._receive)
