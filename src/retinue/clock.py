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
