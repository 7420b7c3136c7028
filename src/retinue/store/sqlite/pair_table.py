"""The history of pairs in the file.

A *plain* pair has one follow, at its true second in both lists, and is stored in the lists alone. Every other pair has
a row in the table `pair`, and each ended interval one in `ended`.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import apsw

from retinue.history import Interval, Moment
from retinue.model import Direction, PageRequest
from retinue.store.rules.values import LAST_SECOND, UNKNOWN, Entry, Pair, PlacedInterval, State
from retinue.store.rules.visibility import VisibilityCache
from retinue.store.sqlite.block_table import BlockTable
from retinue.store.sqlite.files import Execute, executor
from retinue.store.sqlite.merged_lists import entries_of
from retinue.store.sqlite.relocations import ERASED_ACCOUNTS

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
_OVER = (
    "SELECT follower, followee FROM ended WHERE follower = ?1"
    " UNION SELECT follower, followee FROM ended WHERE followee = ?1"
    " UNION SELECT follower, followee FROM pair WHERE follower = ?1"
    " UNION SELECT follower, followee FROM pair WHERE followee = ?1 AND started_at IS NULL LIMIT ?2"
)
_LATE = "INSERT OR IGNORE INTO late (owner, direction) VALUES (?, ?)"


class PairRow(NamedTuple):
    """A row of the table `pair`."""

    follower: int
    followee: int
    moments: bytes | None
    started_at: int | None
    following_position: int | None
    followers_position: int | None


class Blocks(NamedTuple):
    """The blocks of the lists of one direction."""

    visible: BlockTable
    hidden: BlockTable


class SqlitePairs:
    """A `PairTable`. Plain pairs are looked up in the lists."""

    def __init__(
        self, connection: apsw.Connection, following: Blocks, followers: Blocks, visibility: VisibilityCache
    ) -> None:
        self._connection = connection
        self._execute = executor(connection)
        self._following = following
        self._followers = followers
        self._visibility = visibility

    def state(self, pair: Pair) -> State:
        found = self._execute(_LOAD, (pair.follower, pair.followee)).fetchall()
        if not found:
            start = self._plain_position(pair)
            if start is None:
                return UNKNOWN
            return State(frozenset((Moment(start),)), (PlacedInterval(Interval(start, None), start, start),))
        row = PairRow(pair.follower, pair.followee, *found[0])
        moments = decoded(row)
        placed_intervals = read_ended(self._execute, pair) if any(moment.is_unfollow for moment in moments) else []
        if row.started_at is not None:
            assert row.following_position is not None, row
            assert row.followers_position is not None, row
            open_one = Interval(row.started_at, None)
            placed_intervals.append(PlacedInterval(open_one, row.following_position, row.followers_position))
        return State(moments, tuple(placed_intervals), has_row=True)

    def save(self, pair: Pair, before: State, after: State) -> None:
        ids = (pair.follower, pair.followee)
        self._save_ended(ids, before, after)
        if after.is_plain or not after.moments:
            if before.has_row:
                self._execute(_DELETE, ids)
            return
        placed = after.open
        if placed is None:
            self._execute(_SAVE, (*ids, _encoded(after.moments), None, None, None))
            return
        moments = None if len(after.moments) == 1 else _encoded(after.moments)
        self._execute(_SAVE, (*ids, moments, placed.interval.start, placed.following, placed.followers))

    def positions(self, pair: Pair, entry: Entry) -> tuple[int, int]:
        for _, _, following, followers in self._execute(_LOAD, (pair.follower, pair.followee)).fetchall():
            return following, followers
        return entry.position, entry.position  # a plain pair

    def over(self, account: int, limit: int) -> list[Pair]:
        return [Pair(follower, followee) for follower, followee in self._execute(_OVER, (account, limit)).fetchall()]

    def followed_at(self, owner: int, second: int) -> Sequence[int]:
        erased = {account for (account,) in self._execute(ERASED_ACCOUNTS)}
        then = PageRequest(owner, Direction.FOLLOWING, LAST_SECOND, 0, as_of=second)
        entries = entries_of(self._connection.execute, then, with_hidden=True)
        return [account for _, account in entries if account not in erased]

    def note_late(self, owner: int, direction: Direction) -> None:
        self._execute(_LATE, (owner, direction.value))

    def _save_ended(self, ids: tuple[int, int], before: State, after: State) -> None:
        old = {placed for placed in before.placed_intervals if placed.interval.end is not None}
        new = {placed for placed in after.placed_intervals if placed.interval.end is not None}
        for placed in old - new:
            self._execute(_DELETE_ENDED, (*ids, placed.interval.start))
        for placed in new - old:
            interval = placed.interval
            values = (interval.start, interval.end, placed.following, placed.followers)
            self._execute(_SAVE_ENDED, (*ids, *values))

    def _plain_position(self, pair: Pair) -> int | None:
        """Return the position of a plain follow, or None."""
        forth = self._tables(self._following, pair.followee)
        if len(forth) == 1 and forth[0].is_short(pair.follower):  # the usual case
            return forth[0].position_of(pair.follower, pair.followee)
        if not all(table.is_short(pair.follower) for table in forth):
            back = self._tables(self._followers, pair.follower)
            if _size(back, pair.followee) < _size(forth, pair.follower):
                return _look(back, pair.followee, pair.follower)
        return _look(forth, pair.follower, pair.followee)

    def _tables(self, blocks: Blocks, account: int) -> Sequence[BlockTable]:
        if self._visibility.is_relocating(account):
            return blocks
        return (blocks.visible if self._visibility.is_visible(account) else blocks.hidden,)


def _size(tables: Sequence[BlockTable], owner: int) -> int:
    return sum(table.count(owner) for table in tables)


def _look(tables: Sequence[BlockTable], owner: int, account: int) -> int | None:
    found = (table.position_of(owner, account) for table in tables)
    return next((position for position in found if position is not None), None)


def _encoded(moments: frozenset[Moment]) -> bytes:
    """Encode events as 64-bit numbers: the second, then one bit that is set for an unfollow."""
    return array("Q", sorted(moment.at << 1 | moment.is_unfollow for moment in moments)).tobytes()


def decoded(row: PairRow) -> frozenset[Moment]:
    """Return the set of events in a row."""
    if row.moments is None:
        if row.started_at is None:
            raise ValueError(f"pair of accounts {row.follower} and {row.followee}: it has no events")
        return frozenset((Moment(row.started_at),))
    return frozenset(Moment(number >> 1, bool(number & 1)) for number in array("Q", row.moments))


def read_ended(execute: Execute, pair: Pair) -> list[PlacedInterval]:
    """Return the ended intervals of a pair, oldest first."""
    found = execute(_ENDED, (pair.follower, pair.followee)).fetchall()
    return [PlacedInterval(Interval(start, end), following, followers) for start, end, following, followers in found]
