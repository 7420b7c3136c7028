"""The history of pairs, for the writer: one row per pair."""

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import NamedTuple

from retinue.history import Interval, Moment
from retinue.model import Direction
from retinue.store.cassandra import graph_state
from retinue.store.cassandra.lists import CassandraEntries, entry_of
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.table_definitions import ENTRY, LATE, PAIR, Row
from retinue.store.rules.values import UNKNOWN, Entry, Pair, PlacedInterval, State


class Kinds(NamedTuple):
    """The lists of one direction.

    Pairs with unfollows only take no slot: their position is the id of the other account.
    """

    visible: CassandraEntries
    hidden: CassandraEntries
    ended: CassandraEntries
    unbegun: CassandraEntries


class CassandraPairs:
    """A `PairTable`."""

    def __init__(self, buffer: RowBuffer, following: Kinds, followers: Kinds) -> None:
        self._buffer = buffer
        self._following = following
        self._followers = followers

    def state(self, pair: Pair) -> State:
        return state_of(self._buffer.get(PAIR, (pair.follower, pair.followee)))

    def save(self, pair: Pair, before: State, after: State) -> None:
        self._buffer.put(PAIR, (pair.follower, pair.followee), _row_of(after))
        old, new = _ended(before), _ended(after)
        for placed in old - new:
            self._following.ended.drop(pair.follower, _entry(placed.following, pair.followee, placed))
            self._followers.ended.drop(pair.followee, _entry(placed.followers, pair.follower, placed))
        for placed in new - old:
            end = placed.interval.end
            self._following.ended.insert(pair.follower, _entry(placed.following, pair.followee, placed), end)
            self._followers.ended.insert(pair.followee, _entry(placed.followers, pair.follower, placed), end)
        if is_unbegun(before) != is_unbegun(after):
            for lists, owner, other in (
                (self._following, pair.follower, pair.followee),
                (self._followers, pair.followee, pair.follower),
            ):
                change = lists.unbegun.insert if is_unbegun(after) else lists.unbegun.drop
                change(owner, Entry(other, other, other))

    def positions(self, pair: Pair, entry: Entry) -> tuple[int, int]:
        placed = self.state(pair).open
        assert placed is not None, (pair, entry)
        return placed.following, placed.followers

    def over(self, account: int, limit: int) -> list[Pair]:
        following = chain(self._following.ended.newest_first(account), self._following.unbegun.newest_first(account))
        followers = chain(self._followers.ended.newest_first(account), self._followers.unbegun.newest_first(account))
        pairs = chain(
            (Pair(account, entry.account) for entry in following),
            (Pair(entry.account, account) for entry in followers),
        )
        return list(dict.fromkeys(islice(pairs, limit)))

    def followed_at(self, owner: int, second: int) -> Sequence[int]:
        leaving = graph_state.read(self._buffer).leaving
        open_ones = (entry for table in self._following[:2] for entry in table.newest_first(owner))
        found = [(entry.position, entry.account) for entry in open_ones if entry.second <= second]
        found += self._ended_at(owner, second)
        return [account for _, account in sorted(found, reverse=True) if account not in leaving]

    def note_late(self, owner: int, direction: Direction) -> None:
        self._buffer.put(LATE, (owner, direction.value), ())

    def _ended_at(self, owner: int, second: int) -> Iterator[tuple[int, int]]:
        """Yield position and account of ended intervals that held at a second."""
        table = self._following.ended
        for bucket in table.partitioning(owner).buckets:
            for row in self._buffer.rows_by_prefix(ENTRY, (owner, table.kind, bucket.number)):
                if entry_of(row).second <= second < row[3]:
                    yield row[0], row[1]


def state_of(row: Row | None) -> State:
    """Return the state in a row of the table `pair`."""
    if row is None or not row[0]:
        return UNKNOWN
    moments, placed_intervals = row
    return State(
        frozenset(Moment(number >> 1, bool(number & 1)) for number in moments),
        tuple(
            PlacedInterval(Interval(start, end or None), *positions)
            for start, end, *positions in placed_intervals or ()
        ),
    )


def _row_of(state: State) -> Row | None:
    if not state.moments:
        return None
    moments = sorted(moment.at << 1 | moment.is_unfollow for moment in state.moments)
    placed_intervals = [
        (each.interval.start, each.interval.end or 0, each.following, each.followers) for each in state.placed_intervals
    ]
    return moments, placed_intervals


def _ended(state: State) -> set[PlacedInterval]:
    return {placed for placed in state.placed_intervals if placed.interval.end is not None}


def is_unbegun(state: State) -> bool:
    """Return whether a pair has unfollows only."""
    return bool(state.moments) and not state.placed_intervals


def _entry(position: int, account: int, placed: PlacedInterval) -> Entry:
    return Entry(position, account, placed.interval.start)
