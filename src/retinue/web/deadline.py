"""A timer of one connection, which is set, cleared and asked about."""

from asyncio import AbstractEventLoop, TimerHandle
from collections.abc import Callable


class Deadline:
    """Calls a function once its time is over, unless it is cleared before."""

    __slots__ = ("_handle", "_loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._handle: TimerHandle | None = None

    @property
    def is_set(self) -> bool:
        """Whether the function will be called."""
        return self._handle is not None

    def set(self, seconds: float, call: Callable[[], None]) -> None:
        """Call a function in so many seconds. A deadline that is set already stays as it is."""
        if self._handle is None:
            self._handle = self._loop.call_later(seconds, self._lapse, call)

    def reset(self, seconds: float, call: Callable[[], None]) -> None:
        """Set the deadline, in place of the one that is set."""
        self.clear()
        self.set(seconds, call)

    def clear(self) -> None:
        """Forget the deadline."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _lapse(self, call: Callable[[], None]) -> None:
        self._handle = None
        call()
