"""The only place that reads the time. Everything else is given a `Clock`."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the rest of the program may ask about time."""

    def now(self) -> int:
        """Unix seconds, UTC."""
        ...

    def elapsed(self) -> float:
        """Seconds since some fixed instant; never goes back."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Unix seconds, UTC."""
        return int(time.time())

    def elapsed(self) -> float:
        """Seconds since some fixed instant; never goes back."""
        return time.monotonic()


class VirtualClock:
    """The machine's clock, put forward by as many seconds as stand in eight bytes that several processes share.

    So whoever puts it forward does so for all of them at once. What measures how long something takes stays real.
    """

    def __init__(self, shared: memoryview) -> None:
        self._ahead = shared.cast("q")

    def now(self) -> int:
        """Unix seconds, UTC."""
        return int(time.time()) + self._ahead[0]

    def elapsed(self) -> float:
        """Seconds since some fixed instant; never goes back."""
        return time.monotonic()

    def advance(self, seconds: int) -> None:
        """Put the clock forward; it cannot be put back. Raises `ValueError`."""
        if seconds < 0:
            raise ValueError("the clock goes forward only")
        self._ahead[0] += seconds
