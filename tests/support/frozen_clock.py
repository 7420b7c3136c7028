"""A clock that stands still until it is told to move."""


class FrozenClock:
    """A `Clock` for tests."""

    def __init__(self, second: int = 1_700_000_000) -> None:
        self._second = float(second)
        self._ahead = 0

    def now(self) -> int:
        """Unix seconds."""
        return int(self._second) + self._ahead

    def elapsed(self) -> float:
        """Seconds since some fixed instant."""
        return self._second

    def uptime(self) -> float:
        """Seconds since the machine started."""
        return self._second

    def jump(self, seconds: int) -> None:
        """Change the time of day; no time passes."""
        self._ahead += seconds

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._second += seconds


class TickingClock(FrozenClock):
    """A clock that advances with each call of `elapsed`, as if work were slow."""

    def __init__(self, step: float) -> None:
        super().__init__()
        self._step = step

    def elapsed(self) -> float:
        """Seconds since some fixed instant; each call is a step later."""
        self.advance(self._step)
        return super().elapsed()
