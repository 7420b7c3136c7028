"""The only place that reads the time. Everything else is given a `Clock`.

Tests of other programs freeze time (freezegun, time-machine) while our threads run in their process. `now()` follows
them, as the rest of such a test does. Durations stay real: they come from `clock_gettime`, which neither replaces.
"""

import asyncio
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

    def uptime(self) -> float:
        """Seconds since the machine started, with the time it was suspended; never goes back."""
        ...


def elapsed() -> float:
    """Return the seconds since the machine started; also in tests that freeze time."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def uptime() -> float:
    """Return the seconds since the machine started, with the time it was suspended where the system counts that."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers run in real time, also in tests that freeze time."""
    loop = asyncio.SelectorEventLoop()
    loop.time = elapsed  # type: ignore[method-assign] # its own asks time.monotonic, which freezegun replaces
    return loop


class SystemClock:
    """The machine's own clock."""

    def now(self) -> int:
        """Unix seconds, UTC."""
        return int(time.time())

    def elapsed(self) -> float:
        """Seconds since some fixed instant; never goes back."""
        return elapsed()

    def uptime(self) -> float:
        """Seconds since the machine started, with the time it was suspended; never goes back."""
        return uptime()


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
        return elapsed()

    def uptime(self) -> float:
        """Seconds since the machine started, with the time it was suspended; never goes back."""
        return uptime()

    def advance(self, seconds: int) -> None:
        """Put the clock forward; it cannot be put back. Raises `ValueError`."""
        if seconds < 0:
            raise ValueError("the clock goes forward only")
        self._ahead[0] += seconds
