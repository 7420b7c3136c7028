"""Follows and unfollows of pairs: the set of a pair's events becomes intervals, the intervals become entries.

A *plain* pair has one follow that stands on its own second in both lists; it is stored in the lists alone. Every other
pair that anything was ever said of has a row in the table `pair`. Runs inside the writer's transactions.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import apsw
from msgspec import Struct

from retinue.history import Interval, Moment, intervals
from retinue.model import Direction
from retinue.store.base import Verdict
from retinue.store.sqlite.block_table import BlockTable
from retinue.store.sqlite.blocks import LAST_SECOND, Entry
from retinue.store.sqlite.files import Execute, executor
from retinue.store.sqlite.lists import Lists
from retinue.store.sqlite.seconds import Place
from retinue.store.sqlite.sides import Sides

_LOAD = (
    "SELECT moments, started_at, following_position, followers_position FROM pair WHERE follower = ? AND followee = ?"
)
_SAVE = "INSERT OR REPLACE INTO pair VALUES (?, ?, ?, ?, ?, ?)"
_DELETE = "DELETE FROM pair WHERE follower = ? AND followee = ?"
_ENDED = (
    "SELECT started_at, ended_at, following_position, followers_position FROM ended"
    " WHERE follower = ? AND followee = ? ORDER BY started_at"
)
_SAVE_ENDED = "INSERT OR REPLACE INTO ended VALUES (?, ?, ?, ?, ?, ?)"
_DELETE_ENDED = "DELETE FROM ended WHERE follower = ? AND followee = ? AND started_at = ?"


Places = tuple[Place, Place]


class Pair(Struct, frozen=True, gc=False):
    """Who follows whom, by id."""

    follower: int
    followee: int


class PairRow(NamedTuple):
    """A row of the table `pair`."""

    follower: int
    followee: int
    moments: bytes | None
    started_at: int | None
    following_position: int | None
    followers_position: int | None


class Standing(Struct, frozen=True, gc=False):
    """An interval with its positions in the two lists."""

    interval: Interval
    following: int
    followers: int


class State(Struct, frozen=True):
    """What is stored of a pair."""

    moments: frozenset[Moment]
    standings: tuple[Standing, ...]
    has_row: bool = False

    @property
    def open(self) -> Standing | None:
        """The interval that goes on."""
        return next((each for each in self.standings if each.interval.end is None), None)

    @property
    def is_plain(self) -> bool:
        """Whether the lists alone tell it all."""
        if len(self.moments) != 1 or len(self.standings) != 1:
            return False
        (only,) = self.standings
        return only.interval.start == only.following == only.followers


UNKNOWN = State(frozenset(), ())


class Pairs:
    """Brings pairs into the state that their events describe."""

    def __init__(self, connection: apsw.Connection, sides: Sides) -> None:
        self._execute = executor(connection)
        self._sides = sides
        self.following = Lists(connection, Direction.FOLLOWING)
        self.followers = Lists(connection, Direction.FOLLOWERS)

    def forget(self) -> None:
        """Call when another connection may have changed the file, and after a rollback."""
        self.following.forget()
        self.followers.forget()

    def flush(self) -> None:
        """Write what has changed; call before a commit."""
        self.following.flush()
        self.followers.flush()

    def state(self, pair: Pair) -> State:
        """What is stored of a pair."""
        found = self._execute(_LOAD, (pair.follower, pair.followee)).fetchall()
        if not found:
            start = self._plain_position(pair)
            if start is None:
                return UNKNOWN
            return State(frozenset((Moment(start),)), (Standing(Interval(start, None), start, start),))
        row = PairRow(pair.follower, pair.followee, *found[0])
        moments = decoded(row)
        standings = read_ended(self._execute, pair) if any(moment.is_unfollow for moment in moments) else []
        if row.started_at is not None:
            assert row.following_position is not None, row
            assert row.followers_position is not None, row
            open_one = Interval(row.started_at, None)
            standings.append(Standing(open_one, row.following_position, row.followers_position))
        return State(moments, tuple(standings), has_row=True)

    def has_room(self, ids: tuple[int | None, int | None], second: int, latest: int) -> bool:
        """Whether an account that is new, and so has empty lists, could get its place in the other one's list."""
        follower, followee = ids
        if follower is not None and followee is None:
            return self.following.seconds.seek(follower, second, latest) is not None
        if followee is not None and follower is None:
            return self.followers.seconds.seek(followee, second, latest) is not None
        return True

    def positions(self, pair: Pair, entry: Entry) -> tuple[int, int]:
        """Where an open pair stands in both lists, given its entry in one of them."""
        for _, _, following, followers in self._execute(_LOAD, (pair.follower, pair.followee)).fetchall():
            return following, followers
        return entry.position, entry.position  # a plain pair

    def learn(self, pair: Pair, state: State, moment: Moment, latest: int) -> Verdict:
        """Add one event to what is known of a pair. `latest`: the last second on which an entry may be placed."""
        if state is UNKNOWN and not moment.is_unfollow:
            return self._begin(pair, moment.at, latest)
        if moment in state.moments:
            return Verdict.DUPLICATE
        moments = state.moments | {moment}
        wanted = intervals(moments)
        starts = {interval.start for interval in wanted}
        stored = {standing.interval.start: standing for standing in state.standings}
        gone = [standing for start, standing in stored.items() if start not in starts]
        new = next((interval for interval in wanted if interval.start not in stored), None)
        # One event adds one interval at most; where one goes too, its seconds make room for that.
        if gone:
            latest = LAST_SECOND
        elif new and self._seek(pair, new.start, latest) is None:
            return Verdict.LIST_FULL
        for standing in gone:
            self._vanish(pair, standing)
        standings = [self._change(pair, stored[each.start], each) for each in wanted if each.start in stored]
        if new:
            # Sought only now: the stretches around a place may just have changed.
            places = self._seek(pair, new.start, latest)
            assert places is not None, (pair, new)
            standings.append(self._appear(pair, new, places))
        self._save(pair, State(moments, tuple(standings), state.has_row))
        return Verdict.ACCEPTED

    def _begin(self, pair: Pair, at: int, latest: int) -> Verdict:
        """The ordinary event: a follow of a pair of which nothing is known yet."""
        places = self._seek(pair, at, latest)
        if places is None:
            return Verdict.LIST_FULL
        self._stand(pair, at, places)
        return Verdict.ACCEPTED

    def restore(self, pair: Pair, at: int, following_position: int) -> None:
        """Let a pair follow since a second, on a free position of the following list that it had before."""
        places = self._seek(pair, at, LAST_SECOND)
        following = self.following.seconds.seek(pair.follower, following_position, LAST_SECOND)
        assert places is not None, pair
        assert following is not None, pair
        self._stand(pair, at, (following, places[1]))

    def _stand(self, pair: Pair, at: int, places: Places) -> None:
        standing = self._appear(pair, Interval(at, None), places)
        if not at == standing.following == standing.followers:
            self._save(pair, State(frozenset((Moment(at),)), (standing,)))

    def remove(self, pair: Pair) -> None:
        """Remove whatever is stored of a pair."""
        for standing in self.state(pair).standings:
            self._vanish(pair, standing)
        self._execute(_DELETE, (pair.follower, pair.followee))

    def _seek(self, pair: Pair, start: int, latest: int) -> Places | None:
        following = self.following.seconds.seek(pair.follower, start, latest)
        followers = self.followers.seconds.seek(pair.followee, start, latest)
        return (following, followers) if following is not None and followers is not None else None

    def _appear(self, pair: Pair, interval: Interval, places: Places) -> Standing:
        """Let an interval stand on two places that were just found for it."""
        following, followers = places
        standing = Standing(interval, following.second, followers.second)
        self.following.note(pair.follower, following, interval.start)
        self.followers.note(pair.followee, followers, interval.start)
        if interval.end is None:
            forth, back = _entries(pair, standing)
            self.following.add(pair.follower, following, forth, is_row=self._sides.is_row(pair.followee))
            self.followers.add(pair.followee, followers, back, is_row=self._sides.is_row(pair.follower))
        else:
            self.following.seconds.occupy(pair.follower, following, seen=False)
            self.followers.seconds.occupy(pair.followee, followers, seen=False)
            self._save_ended(pair, standing)
        return standing

    def _vanish(self, pair: Pair, standing: Standing) -> None:
        if standing.interval.end is None:
            self.following.remove(pair.follower, standing.following)
            self.followers.remove(pair.followee, standing.followers)
        else:
            self.following.seconds.give_back(pair.follower, standing.following)
            self.followers.seconds.give_back(pair.followee, standing.followers)
            self._execute(_DELETE_ENDED, (pair.follower, pair.followee, standing.interval.start))

    def _change(self, pair: Pair, standing: Standing, wanted: Interval) -> Standing:
        """Bring an interval to another end; it keeps its positions."""
        changed = Standing(wanted, standing.following, standing.followers)
        if standing.interval.end == wanted.end:
            return changed
        if wanted.end is None:
            forth, back = _entries(pair, changed)
            self.following.reopen(pair.follower, forth, is_row=self._sides.is_row(pair.followee))
            self.followers.reopen(pair.followee, back, is_row=self._sides.is_row(pair.follower))
            self._execute(_DELETE_ENDED, (pair.follower, pair.followee, wanted.start))
            return changed
        if standing.interval.end is None:
            self.following.end(pair.follower, standing.following)
            self.followers.end(pair.followee, standing.followers)
        self._save_ended(pair, changed)
        return changed

    def _plain_position(self, pair: Pair) -> int | None:
        """Where a plain follow stands, in both lists; looks through the shorter one."""
        forth = self._tables(self.following, pair.followee)
        if len(forth) == 1 and forth[0].is_short(pair.follower):  # the ordinary case
            return forth[0].position_of(pair.follower, pair.followee)
        if not all(table.is_short(pair.follower) for table in forth):
            back = self._tables(self.followers, pair.follower)
            if _size(back, pair.followee) < _size(forth, pair.follower):
                return _look(back, pair.followee, pair.follower)
        return _look(forth, pair.follower, pair.followee)

    def _tables(self, lists: Lists, account: int) -> Sequence[BlockTable]:
        """Where the entries of an account stand."""
        if self._sides.is_moving(account):
            return lists.main, lists.aside
        return (lists.main if self._sides.is_row(account) else lists.aside,)

    def _save(self, pair: Pair, state: State) -> None:
        ids = (pair.follower, pair.followee)
        if state.is_plain:
            if state.has_row:
                self._execute(_DELETE, ids)
            return
        standing = state.open
        if standing is None:
            self._execute(_SAVE, (*ids, _encoded(state.moments), None, None, None))
            return
        moments = None if len(state.moments) == 1 else _encoded(state.moments)
        self._execute(_SAVE, (*ids, moments, standing.interval.start, standing.following, standing.followers))

    def _save_ended(self, pair: Pair, standing: Standing) -> None:
        interval = standing.interval
        values = (interval.start, interval.end, standing.following, standing.followers)
        self._execute(_SAVE_ENDED, (pair.follower, pair.followee, *values))


def _size(tables: Sequence[BlockTable], owner: int) -> int:
    return sum(table.count(owner) for table in tables)


def _look(tables: Sequence[BlockTable], owner: int, account: int) -> int | None:
    found = (table.position_of(owner, account) for table in tables)
    return next((position for position in found if position is not None), None)


def _entries(pair: Pair, standing: Standing) -> tuple[Entry, Entry]:
    """How an interval stands in the follower's following list and in the followee's followers list."""
    start = standing.interval.start
    return Entry(standing.following, pair.followee, start), Entry(standing.followers, pair.follower, start)


def _encoded(moments: frozenset[Moment]) -> bytes:
    """Each as a 64-bit number: the second, shifted by one bit that says whether it is an unfollow."""
    return array("Q", sorted(moment.at << 1 | moment.is_unfollow for moment in moments)).tobytes()


def decoded(row: PairRow) -> frozenset[Moment]:
    """The set of events in a row."""
    if row.moments is None:
        if row.started_at is None:
            raise ValueError(f"pair of accounts {row.follower} and {row.followee}: nothing is said of it")
        return frozenset((Moment(row.started_at),))
    return frozenset(Moment(number >> 1, bool(number & 1)) for number in array("Q", row.moments))


def read_ended(execute: Execute, pair: Pair) -> list[Standing]:
    """The ended intervals of a pair, oldest first."""
    found = execute(_ENDED, (pair.follower, pair.followee)).fetchall()
    return [Standing(Interval(start, end), following, followers) for start, end, following, followers in found]
