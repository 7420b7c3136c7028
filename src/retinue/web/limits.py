"""The limits of a listener, and the timers that enforce them."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable
from typing import Protocol

from msgspec import Struct

from retinue.web.eviction import Place

MAX_HEAD_BYTES = 32 * 1024

_CHECKS_PER_DEADLINE = 4


class Limits(Struct, frozen=True):
    """The bounds of one listener, in bytes, seconds and connections.

    `head_bytes`: the request line and headers; also the bytes between chunks and behind the last one.
    `read_seconds`: for a request, from its first byte to its last; for a connection, to send the first byte.
    `send_seconds`: the time in which a client must read some bytes of its pending answers.
    `linger_seconds`: the time to read a refusal that closes the connection; what the client still sends is dropped.
    `handshakes`: how many connections may be in an unfinished TLS handshake; `handshake_seconds`: for how long.
    `burst_seconds`: how long a connection may wait to be accepted before it is refused for an overload.
    `idle_seconds`: the time after which a silent connection is closed if its place is needed; `stalled_seconds`: the
    same for a connection whose request is not whole, or whose answers are not read.
    """

    connections: int
    head_bytes: int = MAX_HEAD_BYTES
    read_seconds: float = 30
    send_seconds: float = 30
    linger_seconds: float = 2
    handshakes: int = 256
    handshake_seconds: float = 10
    burst_seconds: float = 0.5
    idle_seconds: float = 1
    stalled_seconds: float = 5


class TimedConnection(Protocol):
    """A connection that a timer may close."""

    @property
    def is_reading_paused(self) -> bool:
        """Whether the server has paused reading."""

    def close(self) -> None:
        """Close the connection."""


class ClientTimer:
    """Closes a connection whose client is too slow."""

    __slots__ = ("_connection", "_handle", "_limits", "_loop", "fast_answer_at", "waiting_since")

    def __init__(self, loop: AbstractEventLoop, connection: TimedConnection, limits: Limits) -> None:
        self._loop = loop
        self._connection = connection
        self._limits = limits
        self._handle: TimerHandle | None = None
        self.waiting_since = loop.time()
        self.fast_answer_at = 0.0  # of the last answer on the fast path, by the loop's clock

    def start(self) -> None:
        """Start the time for a request, unless it runs already."""
        if self._handle is None:
            self._handle = self._loop.call_later(self._limits.read_seconds, self._cut_off)

    def restart(self) -> None:
        """Restart the time, if running, because reading has just resumed."""
        if self._handle is not None:
            self.clear()
            self.start()

    def linger(self) -> None:
        """Close the connection once the client has had time to read."""
        self.clear()
        self._handle = self._loop.call_later(self._limits.linger_seconds, self._connection.close)

    def clear(self) -> None:
        """Stop: the request is complete."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def note_wait(self) -> None:
        """Note that the server waits for the client from now on."""
        self.waiting_since = self._loop.time()

    def note_fast_answer(self) -> None:
        """Note that the fast path answered."""
        self.fast_answer_at = self._loop.time()

    def _cut_off(self) -> None:
        """Close the connection, unless reading is paused; then restart the timer."""
        self._handle = None
        if self._connection.is_reading_paused:
            self.start()
        else:
            self._connection.close()


class SendDeadline:
    """Closes connections whose clients have read nothing for too long.

    It looks at all of them several times within a deadline. That is cheaper than a timer for each answer, since nearly
    all are sent immediately.
    """

    def __init__(self, connections: Callable[[], Iterable[Place]], seconds: float) -> None:
        self._connections = connections
        self._seconds = seconds
        self._stuck: dict[Place, tuple[int, float]] = {}  # bytes unsent, and since when none of them was sent
        self._timer: TimerHandle | None = None

    def start(self, loop: AbstractEventLoop) -> None:
        """Check connections from now on."""
        self._timer = loop.call_later(self._seconds / _CHECKS_PER_DEADLINE, self._check, loop)

    def stop(self) -> None:
        """Stop checking connections."""
        if self._timer is not None:
            self._timer.cancel()

    def _check(self, loop: AbstractEventLoop) -> None:
        now, before = loop.time(), self._stuck
        self._stuck = {}
        for connection in list(self._connections()):
            transport = connection.transport
            unsent = 0 if transport is None else transport.get_write_buffer_size()
            if transport is None or not unsent:
                continue
            last, since = before.get(connection, (unsent + 1, now))
            if unsent < last:
                since = now
            if now - since >= self._seconds:
                transport.abort()
            else:
                self._stuck[connection] = unsent, since
        self.start(loop)
