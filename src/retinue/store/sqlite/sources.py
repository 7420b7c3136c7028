"""Where the entries of a stretch may stand: in the list, aside, and (as of an earlier second) among ended intervals.

The slow, plain way to read a list, newest first, for the cases that need it.
"""

import heapq
from collections.abc import Iterator

from msgspec.structs import replace

from retinue.model import Direction, Stretch
from retinue.store.rules.values import LAST_SECOND, Entry
from retinue.store.sqlite.blocks import block_at, first_block, read_block, require_within
from retinue.store.sqlite.files import Execute

_ENDED = {
    Direction.FOLLOWING: (
        "SELECT following_position, followee FROM ended WHERE follower = ? AND following_position <= ?"
        " AND started_at <= ? AND ended_at > ? ORDER BY following_position DESC"
    ),
    Direction.FOLLOWERS: (
        "SELECT followers_position, follower FROM ended WHERE followee = ? AND followers_position <= ?"
        " AND started_at <= ? AND ended_at > ? ORDER BY followers_position DESC"
    ),
}

_HAS_LATE = "SELECT 1 FROM late WHERE owner = ? AND direction = ?"
_IS_ERASED = "SELECT 1 FROM account WHERE id = ? AND key IS NULL"

Place = tuple[int, int]


def entries_of(execute: Execute, stretch: Stretch, *, with_aside: bool) -> Iterator[Place]:
    """Position and account of everything that may be a row of a stretch, newest first."""
    if execute(_IS_ERASED, (stretch.account_id,)).fetchall():
        return iter(())
    stretch = _within(execute, stretch)
    tables = [stretch.direction.value] + [f"{stretch.direction.value}_aside"] * with_aside
    open_ones = (
        (
            (entry.position, entry.account)
            for entry in read_list(execute, table, stretch.account_id, stretch.bound)
            if stretch.as_of is None or entry.second <= stretch.as_of
        )
        for table in tables
    )
    return heapq.merge(*open_ones, *_ended(execute, stretch), reverse=True)


def _within(execute: Execute, stretch: Stretch) -> Stretch:
    """The stretch without what is later than its second: that, too, may be millions of entries."""
    as_of = stretch.as_of
    if as_of is None or as_of >= stretch.bound:
        return stretch
    if execute(_HAS_LATE, (stretch.account_id, stretch.direction.value)).fetchall():
        return stretch
    return replace(stretch, bound=as_of)


def read_list(execute: Execute, table: str, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
    """The entries of one table's list at or before a second, newest first."""
    query = f"SELECT block, entries, displaced FROM {table} WHERE block BETWEEN ? AND ? ORDER BY block DESC"
    first, last = first_block(owner), block_at(owner, bound)
    for block, entries, displaced in execute(query, (first, last)):
        require_within(table, block, first, last)
        last = block - 1
        yield from read_block(table, block, entries, displaced).newest_first(min(bound, LAST_SECOND))


def _ended(execute: Execute, stretch: Stretch) -> Iterator[Iterator[Place]]:
    if stretch.as_of is not None:
        values = (stretch.account_id, stretch.bound, stretch.as_of, stretch.as_of)
        yield iter(execute(_ENDED[stretch.direction], values))
