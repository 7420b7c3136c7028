"""The history of a pair: intervals of following, as a pure function of the *set* of its events.

Order of arrival and repetition never change it. Knows only seconds.
"""

from collections.abc import Iterable

from msgspec import Struct


class Interval(Struct, frozen=True, order=True, gc=False):
    """One stretch of a follow: seconds from `start` up to, not including, `end`. `end` None: it goes on."""

    start: int
    end: int | None

    def holds(self, second: int) -> bool:
        """Whether the follow stood at a second."""
        return self.start <= second and (self.end is None or second < self.end)


class Moment(Struct, frozen=True, order=True, gc=False):
    """A follow or an unfollow at a second. At one second the unfollow comes after the follow."""

    at: int
    is_unfollow: bool = False


def intervals(moments: Iterable[Moment]) -> list[Interval]:
    """The intervals that a set of events makes, oldest first.

    A follow opens one where none is open, an unfollow closes the open one; anything else changes nothing. What
    would begin and end at one second never shows in any list and is left out.
    """
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
