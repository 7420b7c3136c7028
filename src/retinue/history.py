"""The history of a pair: intervals, as a pure function of the *set* of its events."""

from collections.abc import Iterable

from msgspec import Struct


class Interval(Struct, frozen=True, order=True, gc=False):
    """An interval of a follow, from `start` until before `end`. Without an end it is open."""

    start: int
    end: int | None

    def holds(self, second: int) -> bool:
        """Return whether it includes a second."""
        return self.start <= second and (self.end is None or second < self.end)


class Moment(Struct, frozen=True, order=True, gc=False):
    """A follow or unfollow. At one second the unfollow is the later one."""

    at: int
    is_unfollow: bool = False


def intervals(moments: Iterable[Moment]) -> list[Interval]:
    """Return the intervals of a set of events, oldest first."""
    # A follow opens an interval if none is open. An unfollow closes the open one. No list ever shows an empty interval.
    found: list[Interval] = []
    start: int | None = None
    for moment in sorted(set(moments)):
        if not moment.is_unfollow:
            start = moment.at if start is None else start
        elif start is not None:
            if start < moment.at:
                found.append(Interval(start, moment.at))
            start = None
    if start is not None:
        found.append(Interval(start, None))
    return found
