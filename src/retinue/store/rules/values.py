"""What stands in the tables of a graph, as the rules see it."""

from typing import NamedTuple

from msgspec import Struct

from retinue.history import Interval, Moment
from retinue.model import Direction, Visibility

LAST_SECOND = 0xFFFFFFFF  # the last one on which anything can stand

SlotRun = tuple[int, int]  # a stretch of adjacent occupied seconds: the first and the last


class Stored(Struct, frozen=True):
    """An account as it is stored. `folded` is None where it has no username."""

    id: int
    key: str
    folded: str | None
    username: str
    username_at: int
    display_name: str
    display_name_at: int
    visibility: int
    visibility_at: int

    @property
    def is_visible(self) -> bool:
        """Whether others' lists show the account."""
        return self.folded is not None and Visibility(self.visibility).is_visible

    @property
    def public_fields(self) -> tuple[str | None, str, str, int]:
        """What readers see of it. A name that another has is nowhere to be seen."""
        return self.folded, self.username if self.folded else "", self.display_name, self.visibility


class Found(NamedTuple):
    """An account that was looked up, and whether others' lists show it."""

    account: int
    is_visible: bool


class Claimed(NamedTuple):
    """Which event, between which accounts (`other` is 0 for those of one account), and the time it claimed."""

    account: int
    other: int
    event: str
    claimed_at: int


class Relocation(NamedTuple):
    """How far the entries of an account have been moved: in which of its own lists, and down to which position."""

    account: int
    direction: Direction
    position: int
    is_erased: bool


class Entry(NamedTuple):
    """One follow in a list: its own second there, the other account, its true second."""

    position: int
    account: int
    second: int


class Around(NamedTuple):
    """Whether entries stand at a second and at its two neighbours."""

    before: bool
    here: bool
    after: bool


NOTHING = Around(before=False, here=False, after=False)


class Pair(Struct, frozen=True, gc=False):
    """Who follows whom, by id."""

    follower: int
    followee: int


class PlacedInterval(Struct, frozen=True, gc=False):
    """An interval with its positions in the two lists."""

    interval: Interval
    following: int
    followers: int


class State(Struct, frozen=True):
    """What is stored of a pair: the set of its events, and the intervals that they make. `has_row` is the store's."""

    moments: frozenset[Moment]
    placed_intervals: tuple[PlacedInterval, ...]
    has_row: bool = False

    @property
    def open(self) -> PlacedInterval | None:
        """The interval that goes on."""
        return next((each for each in self.placed_intervals if each.interval.end is None), None)

    @property
    def is_plain(self) -> bool:
        """Whether it is one follow that stands on its own second in both lists."""
        if len(self.moments) != 1 or len(self.placed_intervals) != 1:
            return False
        (only,) = self.placed_intervals
        return only.interval.start == only.following == only.followers


class Wanted(NamedTuple):
    """Positions that a new interval should have in the two lists, where they are free; None: any."""

    following: int | None = None
    followers: int | None = None


ANYWHERE = Wanted()
UNKNOWN = State(frozenset(), ())
