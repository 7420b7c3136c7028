"""Values in the tables of a graph, as the rules see them."""

from typing import NamedTuple

from msgspec import Struct

from retinue.history import Interval, Moment
from retinue.model import Direction, Visibility

LAST_SECOND = 0xFFFFFFFF  # the last possible slot

SlotRun = tuple[int, int]  # adjacent taken slots: the first and the last


class Stored(Struct, frozen=True):
    """A stored account. `folded` is None without a username."""

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
        """Whether the account appears in lists."""
        return self.folded is not None and Visibility(self.visibility).is_visible

    @property
    def public_fields(self) -> tuple[str | None, str, str, int]:
        """The fields that readers see. A lost username is empty."""
        return self.folded, self.username if self.folded else "", self.display_name, self.visibility


class Found(NamedTuple):
    """An account, and whether it appears in lists."""

    account: int
    is_visible: bool


class Claimed(NamedTuple):
    """An event with the time that it claimed. `other` is 0 for an event of one account."""

    account: int
    other: int
    event: str
    claimed_at: int


class Relocation(NamedTuple):
    """The progress of a relocation: the account's own list being walked, and the position."""

    account: int
    direction: Direction
    position: int
    is_erased: bool


class Entry(NamedTuple):
    """A follow in a list: its slot, the other account, its true second."""

    position: int
    account: int
    second: int


class Around(NamedTuple):
    """Whether entries exist at a second and its two neighbours."""

    before: bool
    here: bool
    after: bool


NOTHING = Around(before=False, here=False, after=False)


class Pair(Struct, frozen=True, gc=False):
    """A follower and a followee, by id."""

    follower: int
    followee: int


class PlacedInterval(Struct, frozen=True, gc=False):
    """An interval with its positions in the two lists."""

    interval: Interval
    following: int
    followers: int


class State(Struct, frozen=True):
    """The stored state of a pair: its events and the intervals that they make.

    `has_row` is for the store alone.
    """

    moments: frozenset[Moment]
    placed_intervals: tuple[PlacedInterval, ...]
    has_row: bool = False

    @property
    def open(self) -> PlacedInterval | None:
        """The interval without an end, or None."""
        return next((each for each in self.placed_intervals if each.interval.end is None), None)

    @property
    def is_plain(self) -> bool:
        """Whether it is one follow, at its true second in both lists."""
        if len(self.moments) != 1 or len(self.placed_intervals) != 1:
            return False
        (only,) = self.placed_intervals
        return only.interval.start == only.following == only.followers


class Wanted(NamedTuple):
    """Wanted slots of a new interval in the two lists. None: any."""

    following: int | None = None
    followers: int | None = None


ANYWHERE = Wanted()
UNKNOWN = State(frozenset(), ())
