"""The send deadline: a client that does not read its answers is cut off."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable, Iterable

from retinue.web.eviction import Place

_LOOKS = 4  # within a deadline


class SendDeadline:
    """Looks at all connections from time to time, and closes those that have sent nothing for too long.

    That is cheaper than a timer for each answer, since nearly all are sent at once.
    """

    def __init__(self, connections: Callable[[], Iterable[Place]], seconds: float) -> None:
        self._connections = connections
        self._seconds = seconds
        self._stuck: dict[Place, tuple[int, float]] = {}  # bytes unsent, and since when none of them was sent
        self._timer: TimerHandle | None = None

    def start(self, loop: AbstractEventLoop) -> None:
        """Look from now on."""
        self._timer = loop.call_later(self._seconds / _LOOKS, self._look, loop)

    def stop(self) -> None:
        """Look no more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self, loop: AbstractEventLoop) -> None:
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
