"""The only file that reads the time. All other code gets a `Clock`."""

import asyncio
import time
from functools import partial
from typing import Protocol


class Clock(Protocol):
    """The time."""

    def now(self) -> int:
        """Return Unix seconds."""
        ...

    def elapsed(self) -> float:
        """Return seconds since a fixed instant; never decreasing."""
        ...

    def uptime(self) -> float:
        """Return the same, including the time that the machine was suspended."""
        ...


# Not `time.monotonic`: if users' tests freeze time, `now()` follows, and durations stay real.
elapsed = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
uptime = partial(time.clock_gettime, getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop whose timers run in real time."""
    loop = asyncio.SelectorEventLoop()
    loop.time = elapsed  # type: ignore[method-assign] # by default time.monotonic
    return loop


class SystemClock:
    """The machine's own clock."""

    elapsed = staticmethod(elapsed)
    uptime = staticmethod(uptime)

    def now(self) -> int:
        """Return Unix seconds."""
        return int(time.time())


class VirtualClock:
    """The machine's clock plus a shared offset of eight bytes."""

    elapsed = staticmethod(elapsed)
    uptime = staticmethod(uptime)

    def __init__(self, shared: memoryview) -> None:
        self._offset = shared.cast("q")

    def now(self) -> int:
        """Return Unix seconds."""
        return int(time.time()) + self._offset[0]

    def advance(self, seconds: int) -> None:
        """Set the clock forward. Raises `ValueError` for negative seconds."""
        if seconds < 0:
            raise ValueError("the clock goes forward only")
        self._offset[0] += seconds
