"""Follows and unfollows: a pair's set of events becomes intervals, these become entries.

Both lists of a pair keep its events and change alike. An interval has its own slot in each, and keeps it while its
start stays the same.
"""

from typing import NamedTuple

from retinue.history import Interval, Moment, intervals
from retinue.model import Direction
from retinue.store.contract import Verdict
from retinue.store.layout.accounts import AccountTable
from retinue.store.layout.blocks import Entry
from retinue.store.layout.histories import HistoryTable, Moments
from retinue.store.layout.lists import Lists
from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import LISTS

NO_MOMENTS: Moments = frozenset()


class Pair(NamedTuple):
    """A follower and a followee."""

    follower: int
    followee: int


class Positions(NamedTuple):
    """The slots that a new interval should have if free; None: any."""

    following: int | None = None
    followers: int | None = None


ANYWHERE = Positions()


class OneSide:
    """The lists of one direction, with the histories of their pairs."""

    def __init__(self, rows: Rows, direction: Direction, accounts: AccountTable) -> None:
        self.lists = Lists(rows, LISTS[direction])
        self.histories = HistoryTable(rows, LISTS[direction].histories)
        self._accounts = accounts

    def update(self, owner: int, account: int, before: Moments, after: Moments, wanted: int | None = None) -> None:
        """Change a list from some events of a pair to others.

        `wanted` is the slot for a new interval.
        """
        old = {interval.start: interval for interval in intervals(before)}
        new = {interval.start: interval for interval in intervals(after)}
        entries = {start: self.lists.find(owner, account, start) for start in old}
        for start in old.keys() - new.keys():
            self.lists.remove(owner, entries[start].position)
        for start in old.keys() & new.keys():
            if old[start].end != (end := new[start].end):
                is_visible = self._is_visible(account, end)
                self.lists.set_end(owner, entries[start].position, end or 0, is_visible=is_visible)
        for start in sorted(new.keys() - old.keys()):
            self.insert(owner, account, new[start], wanted)
        self.histories.save(owner, account, after)

    def insert(self, owner: int, account: int, interval: Interval, wanted: int | None = None) -> None:
        if wanted is None or self.lists.slots.is_occupied(owner, wanted):
            wanted = self.lists.slots.seek(owner, interval.start)
        entry = Entry(wanted, account, interval.start, interval.end or 0)
        self.lists.add(owner, entry, is_visible=self._is_visible(account, interval.end))

    def _is_visible(self, account: int, end: int | None) -> bool:
        return end is None and self._accounts.is_visible(account)


class Pairs:
    """Both lists of pairs, in the state that their events describe."""

    def __init__(self, rows: Rows, accounts: AccountTable) -> None:
        self.following = OneSide(rows, Direction.FOLLOWING, accounts)
        self.followers = OneSide(rows, Direction.FOLLOWERS, accounts)

    def forget(self) -> None:
        self.following.lists.forget()
        self.followers.lists.forget()

    def flush(self) -> None:
        self.following.lists.flush()
        self.followers.lists.flush()

    def committed(self) -> None:
        self.following.lists.committed()
        self.followers.lists.committed()

    def moments(self, pair: Pair) -> Moments:
        moments = self.following.histories.load(*pair)
        if moments is not None:
            return moments
        return frozenset(Moment(entry.start) for entry in self.entries(pair))

    def entries(self, pair: Pair) -> list[Entry]:
        """Return a pair's entries, oldest first. Reads the shorter of its lists."""
        following, followers = self.following.lists, self.followers.lists
        if following.known_size(pair.follower) <= followers.known_size(pair.followee):
            return following.entries_of(*pair)
        return followers.entries_of(pair.followee, pair.follower)

    def learn(self, pair: Pair, moment: Moment, wanted: Positions = ANYWHERE) -> Verdict:
        """Add an event of a pair."""
        before = self.moments(pair)
        if moment in before:
            return Verdict.DUPLICATE
        self.update(pair, before, before | {moment}, wanted)
        return Verdict.ACCEPTED

    def update(self, pair: Pair, before: Moments, after: Moments, wanted: Positions = ANYWHERE) -> None:
        self.following.update(pair.follower, pair.followee, before, after, wanted.following)
        self.followers.update(pair.followee, pair.follower, before, after, wanted.followers)
