"""Reads of a page request from visible, hidden and ended entries."""

import heapq
from collections.abc import Iterator

from msgspec.structs import replace

from retinue.model import Direction, PageRequest
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

ListedAccount = tuple[int, int]


def entries_of(execute: Execute, request: PageRequest, *, with_hidden: bool) -> Iterator[ListedAccount]:
    """Yield position and account of all that may be rows, newest first."""
    if execute(_IS_ERASED, (request.account_id,)).fetchall():
        return iter(())
    request = _within(execute, request)
    tables = [request.direction.value] + [f"{request.direction.value}_aside"] * with_hidden
    open_ones = (
        (
            (entry.position, entry.account)
            for entry in read_list(execute, table, request.account_id, request.bound)
            if request.as_of is None or entry.second <= request.as_of
        )
        for table in tables
    )
    return heapq.merge(*open_ones, *_ended(execute, request), reverse=True)


def _within(execute: Execute, request: PageRequest) -> PageRequest:
    """Lower the request's bound to `as_of`, if the list allows."""
    as_of = request.as_of
    if as_of is None or as_of >= request.bound:
        return request
    if execute(_HAS_LATE, (request.account_id, request.direction.value)).fetchall():
        return request
    return replace(request, bound=as_of)


def read_list(execute: Execute, table: str, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
    """Yield the entries of one table at or before a second."""
    query = f"SELECT block, entries, displaced FROM {table} WHERE block BETWEEN ? AND ? ORDER BY block DESC"
    first, last = first_block(owner), block_at(owner, bound)
    for block, entries, displaced in execute(query, (first, last)):
        require_within(table, block, first, last)
        last = block - 1
        yield from read_block(table, block, entries, displaced).newest_first(min(bound, LAST_SECOND))


def _ended(execute: Execute, request: PageRequest) -> Iterator[Iterator[ListedAccount]]:
    if request.as_of is not None:
        values = (request.account_id, request.bound, request.as_of, request.as_of)
        yield iter(execute(_ENDED[request.direction], values))
