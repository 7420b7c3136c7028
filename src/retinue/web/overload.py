"""Overload detection: whether connections wait for a moment, or more come than can be served. Pure.

A burst is served late rather than refused: connections wait in the listener's queue. If the queue has not been empty
for longer than that is bearable, all that wait are refused at once, which empties it. From then on patience is short,
so that served and refused connections wait for little; it is long again after a while without refusals.
"""

OVERLOADED_SECONDS = 0.02
CALM_SECONDS = 1.0


class Overload:
    """Remembers since when connections have been waiting, and when one was refused last. Times are in seconds."""

    def __init__(self, burst_seconds: float) -> None:
        self._burst_seconds = burst_seconds
        self._waiting_since: float | None = None
        self._short_until = float("-inf")

    @property
    def is_waiting(self) -> bool:
        """Whether connections were left in the queue."""
        return self._waiting_since is not None

    def is_reached(self, now: float) -> bool:
        """Return whether the waiting connections are too many to serve."""
        if self._waiting_since is None:
            return False
        patience = OVERLOADED_SECONDS if now < self._short_until else self._burst_seconds
        return now - self._waiting_since > patience

    def left_waiting(self, now: float) -> None:
        """Note that connections were left in the queue."""
        if self._waiting_since is None:
            self._waiting_since = now

    def emptied(self) -> None:
        """Note that no connection waits."""
        self._waiting_since = None

    def refused(self, now: float) -> None:
        """Note that connections were refused because they waited too long."""
        self._short_until = now + CALM_SECONDS
