"""Follows and unfollows of pairs: events become intervals, and intervals become entries.

Each interval takes a slot in both lists, and keeps it while its true start stays the same.
"""

from retinue.history import Interval, Moment, intervals
from retinue.model import Direction
from retinue.store.contract import Verdict
from retinue.store.rules.lists import Lists
from retinue.store.rules.slots import FreeSlot, SlotAllocator
from retinue.store.rules.tables import Tables
from retinue.store.rules.values import ANYWHERE, LAST_SECOND, UNKNOWN, Entry, Pair, PlacedInterval, State, Wanted
from retinue.store.rules.visibility import VisibilityCache

FreeSlots = tuple[FreeSlot, FreeSlot]


class Pairs:
    """Applies events to pairs."""

    def __init__(self, tables: Tables, visibility: VisibilityCache) -> None:
        self._table = tables.pairs
        self._visibility = visibility
        self.following = Lists(tables.following)
        self.followers = Lists(tables.followers)

    def forget(self) -> None:
        """Clear caches."""
        self.following.slots.forget()
        self.followers.slots.forget()

    def state(self, pair: Pair) -> State:
        """Return the stored state of a pair."""
        return self._table.state(pair)

    def has_room(self, ids: tuple[int | None, int | None], second: int, latest: int) -> bool:
        """Return whether the list of the existing account has a slot left."""
        follower, followee = ids
        if follower is not None and followee is None:
            return self.following.slots.find(follower, second, latest) is not None
        if followee is not None and follower is None:
            return self.followers.slots.find(followee, second, latest) is not None
        return True

    def learn(self, pair: Pair, state: State, moment: Moment, latest: int, wanted_slots: Wanted = ANYWHERE) -> Verdict:
        """Add one event to the history of a pair.

        `latest` is the last second that may become its slot. `wanted_slots` are for the interval that a follow begins.
        """
        if state is UNKNOWN and not moment.is_unfollow:
            return self._begin(pair, moment.at, latest, wanted_slots)
        if moment in state.moments:
            return Verdict.DUPLICATE
        moments = state.moments | {moment}
        wanted = intervals(moments)
        starts = {interval.start for interval in wanted}
        stored = {placed.interval.start: placed for placed in state.placed_intervals}
        gone = [placed for start, placed in stored.items() if start not in starts]
        new = next((interval for interval in wanted if interval.start not in stored), None)
        # One event adds at most one interval. If another one vanishes, its slots make room for it.
        if gone:
            latest = LAST_SECOND
        elif new and self._seek(pair, new.start, latest) is None:
            return Verdict.LIST_FULL
        for placed in gone:
            self._vanish(pair, placed)
        placed_intervals = [self._change(pair, stored[each.start], each) for each in wanted if each.start in stored]
        if new:
            # Search only now: the slot runs may have changed above.
            slots = self._seek(pair, new.start, latest, wanted_slots)
            assert slots is not None, (pair, new)
            placed_intervals.append(self._appear(pair, new, slots))
        self._table.save(pair, state, State(moments, tuple(placed_intervals), state.has_row))
        return Verdict.ACCEPTED

    def _begin(self, pair: Pair, at: int, latest: int, wanted: Wanted) -> Verdict:
        """Store the first follow of a pair, the usual case."""
        slots = self._seek(pair, at, latest, wanted)
        if slots is None:
            return Verdict.LIST_FULL
        placed = self._appear(pair, Interval(at, None), slots)
        self._table.save(pair, UNKNOWN, State(frozenset((Moment(at),)), (placed,)))
        return Verdict.ACCEPTED

    def remove(self, pair: Pair) -> None:
        """Remove everything stored about a pair."""
        state = self.state(pair)
        for placed in state.placed_intervals:
            self._vanish(pair, placed)
        self._table.save(pair, state, UNKNOWN)

    def _seek(self, pair: Pair, start: int, latest: int, wanted: Wanted = ANYWHERE) -> FreeSlots | None:
        following = _find_slot(self.following.slots, pair.follower, start, latest, wanted.following)
        followers = _find_slot(self.followers.slots, pair.followee, start, latest, wanted.followers)
        return (following, followers) if following is not None and followers is not None else None

    def _appear(self, pair: Pair, interval: Interval, slots: FreeSlots) -> PlacedInterval:
        following, followers = slots
        placed = PlacedInterval(interval, following.second, followers.second)
        if following.second > interval.start:
            self._table.note_late(pair.follower, Direction.FOLLOWING)
        if followers.second > interval.start:
            self._table.note_late(pair.followee, Direction.FOLLOWERS)
        if interval.end is None:
            forth, back = _entries(pair, placed)
            self.following.add(pair.follower, following, forth, is_visible=self._visibility.is_visible(pair.followee))
            self.followers.add(pair.followee, followers, back, is_visible=self._visibility.is_visible(pair.follower))
        else:
            self.following.slots.take(pair.follower, following, visible=False)
            self.followers.slots.take(pair.followee, followers, visible=False)
        return placed

    def _vanish(self, pair: Pair, placed: PlacedInterval) -> None:
        if placed.interval.end is None:
            self.following.remove(pair.follower, placed.following)
            self.followers.remove(pair.followee, placed.followers)
        else:
            self.following.slots.release(pair.follower, placed.following)
            self.followers.slots.release(pair.followee, placed.followers)

    def _change(self, pair: Pair, placed: PlacedInterval, wanted: Interval) -> PlacedInterval:
        """Set another end of an interval; it keeps its positions."""
        changed = PlacedInterval(wanted, placed.following, placed.followers)
        if placed.interval.end == wanted.end:
            return changed
        if wanted.end is None:
            forth, back = _entries(pair, changed)
            self.following.reopen(pair.follower, forth, is_visible=self._visibility.is_visible(pair.followee))
            self.followers.reopen(pair.followee, back, is_visible=self._visibility.is_visible(pair.follower))
        elif placed.interval.end is None:
            self.following.end(pair.follower, placed.following)
            self.followers.end(pair.followee, placed.followers)
        return changed


def _find_slot(slots: SlotAllocator, owner: int, start: int, latest: int, wanted: int | None) -> FreeSlot | None:
    if wanted is not None and wanted != start:
        slot = slots.find(owner, wanted, wanted)
        if slot is not None and slot.second == wanted:
            return slot
    return slots.find(owner, start, latest)


def _entries(pair: Pair, placed: PlacedInterval) -> tuple[Entry, Entry]:
    start = placed.interval.start
    return Entry(placed.following, pair.followee, start), Entry(placed.followers, pair.follower, start)
