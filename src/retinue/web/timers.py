"""Timers of connections: for sending a request, and for reading the answers."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable
from typing import Protocol

from retinue.web.eviction import Place

_CHECKS_PER_DEADLINE = 4


class Timer:
    """Calls a function after some seconds, unless it is cleared before."""

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether the function will be called."""
        return self._handle is not None

    def set(self, seconds: float, call: Callable[[], None]) -> None:
        """Start the timer if it is not running."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, self._expire, call)

    def clear(self) -> None:
        """Stop the timer."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _expire(self, call: Callable[[], None]) -> None:
        self._handle = None
        call()


class TimedConnection(Protocol):
    """A connection that a timer may close."""

    @property
    def is_reading_paused(self) -> bool:
        """Whether the server does not read at the moment."""
        ...

    def close(self) -> None:
        """Close the connection."""
        ...


class ClientTimer:
    """Closes a connection whose client is too slow.

    `read_seconds` is the time for a complete request, `linger_seconds` that for reading a final refusal.
    """

    __slots__ = (
        "_connection",
        "_linger_seconds",
        "_loop",
        "_read_seconds",
        "_timer",
        "fast_answer_at",
        "waiting_since",
    )

    def __init__(
        self, loop: AbstractEventLoop, connection: TimedConnection, read_seconds: float, linger_seconds: float
    ) -> None:
        self._loop = loop
        self._connection = connection
        self._read_seconds = read_seconds
        self._linger_seconds = linger_seconds
        self._timer = Timer(loop)
        self.waiting_since = loop.time()
        self.fast_answer_at = 0.0  # of the last answer on the fast path, by the loop's clock

    def start(self) -> None:
        """Start the time for a request, unless it runs already."""
        self._timer.set(self._read_seconds, self._cut_off)

    def restart(self) -> None:
        """Start again, if running, because reading goes on only now."""
        if self._timer.is_set:
            self._timer.clear()
            self.start()

    def linger(self) -> None:
        """Close the connection once the client had time to read."""
        self._timer.clear()
        self._timer.set(self._linger_seconds, self._connection.close)

    def clear(self) -> None:
        """Stop: the request is complete."""
        self._timer.clear()

    def note_wait(self) -> None:
        """Note that the server waits for the client from now on."""
        self.waiting_since = self._loop.time()

    def note_fast_answer(self) -> None:
        """Note that the fast path answered."""
        self.fast_answer_at = self._loop.time()

    def _cut_off(self) -> None:
        """Close the connection, unless reading is paused; then restart the timer."""
        if self._connection.is_reading_paused:
            self.start()
        else:
            self._connection.close()


class SendDeadline:
    """Closes connections that have sent nothing of their answers for too long.

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
        """Check no more."""
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
