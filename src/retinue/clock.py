"""The only file that reads the time. All other code gets a `Clock`.

Tests of other programs freeze time (freezegun, time-machine) while our threads run in their process. `now()` follows
them. Durations stay real: they come from `clock_gettime`, which neither library replaces.
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """The time, for the rest of the program."""

    def now(self) -> int:
        """Return Unix seconds."""
        ...

    def elapsed(self) -> float:
        """Return seconds since a fixed instant. They never decrease."""
        ...

    def uptime(self) -> float:
        """Return seconds since the machine started, suspended time included."""
        ...


def elapsed() -> float:
    """Return seconds since the machine started, even if time is frozen."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return seconds since the machine started.

    Suspended time is included if the system counts it.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers run in real time."""
    loop = asyncio.SelectorEventLoop()
    loop.time = elapsed  # type: ignore[method-assign] # by default time.monotonic, which freezegun replaces
    return loop


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Return Unix seconds."""
        return int(time.time())

    def elapsed(self) -> float:
        """Return seconds since a fixed instant. They never decrease."""
        return elapsed()

    def uptime(self) -> float:
        """Return seconds since the machine started, suspended time included."""
        return uptime()


class VirtualClock:
    """The machine's clock plus an offset in eight bytes that processes share.

    Durations stay real.
    """

    def __init__(self, shared: memoryview) -> None:
        self._offset = shared.cast("q")

    def now(self) -> int:
        """Return Unix seconds."""
        return int(time.time()) + self._offset[0]

    def elapsed(self) -> float:
        """Return seconds since a fixed instant. They never decrease."""
        return elapsed()

    def uptime(self) -> float:
        """Return seconds since the machine started, suspended time included."""
        return uptime()

    def advance(self, seconds: int) -> None:
        """Set the clock forward. Raises `ValueError` for negative seconds."""
        if seconds < 0:
            raise ValueError("the clock goes forward only")
        self._offset[0] += seconds
