"""Reads of a page request from all kinds of lists.

Visible, hidden and, as of an earlier second, ended entries are merged. An entry that becomes visible is inserted into
the list before it is removed from the hidden ones, so hidden entries are read first.
"""

from collections.abc import AsyncIterator, Callable
from typing import NamedTuple

from msgspec.structs import replace

from retinue.model import PageRequest
from retinue.store.cassandra.partitioning import Partitioning
from retinue.store.cassandra.session import Row, Session
from retinue.store.rules.values import LAST_SECOND

_PIECE = 200
_ENTRIES = (
    "SELECT position, account, started_at, ended_at FROM entry"
    f" WHERE owner = ? AND kind = ? AND bucket = ? AND position >= ? AND position <= ? LIMIT {_PIECE}"
)
_IS_LATE = "SELECT direction FROM late WHERE owner = ? AND direction = ?"

ListedAccount = tuple[int, int]


class List(NamedTuple):
    """A list to read: owner, kind and partitioning."""

    owner: int
    kind: str
    partitioning: Partitioning


async def entries_of(
    session: Session, request: PageRequest, partitioning: Callable[[str], Partitioning]
) -> AsyncIterator[ListedAccount]:
    """Yield position and account of all that may be rows, newest first."""
    request = await _within(session, request)
    name, as_of = request.direction.value, request.as_of
    bound = min(request.bound, LAST_SECOND)
    while bound > 0:
        hidden = await _piece(session, List(request.account_id, f"{name}_aside", partitioning(f"{name}_aside")), bound)
        lowest = hidden[-1][0] if len(hidden) >= _PIECE else 0
        others = [name] if as_of is None else [name, f"{name}_ended"]
        sources = [
            _entries(session, List(request.account_id, kind, partitioning(kind)), bound, lowest) for kind in others
        ]
        async for row in _merged(hidden, sources):
            if _stood(row, as_of):
                yield row[0], row[1]
        bound = lowest - 1


async def _merged(first: list[Row], sources: list[AsyncIterator[Row]]) -> AsyncIterator[Row]:
    """Merge rows, newest first. Of duplicates the first source wins."""
    waiting = iter(first)
    heads = [next(waiting, None), *[await anext(source, None) for source in sources]]
    last: ListedAccount | None = None
    while any(heads):
        at = max((index for index, head in enumerate(heads) if head), key=lambda index: (heads[index] or ())[:2])
        row = heads[at]
        assert row is not None
        heads[at] = next(waiting, None) if at == 0 else await anext(sources[at - 1], None)
        if (row[0], row[1]) != last:
            last = (row[0], row[1])
            yield row


def _stood(row: Row, as_of: int | None) -> bool:
    position, _, started_at, ended_at = row
    if as_of is None:
        return True
    start = position if started_at is None else started_at
    return start <= as_of and (ended_at is None or as_of < ended_at)


async def _within(session: Session, request: PageRequest) -> PageRequest:
    """Lower the request's bound to `as_of`, if the list allows."""
    if request.as_of is None or request.as_of >= request.bound:
        return request
    if await session.fetch(_IS_LATE, (request.account_id, request.direction.value)):
        return request
    return replace(request, bound=request.as_of)


async def _piece(session: Session, wanted: List, bound: int) -> list[Row]:
    """Return the first entries at or before a bound. Less than `_PIECE` is the list's end."""
    found: list[Row] = []
    async for row in _entries(session, wanted, bound):
        found.append(row)
        if len(found) == _PIECE:
            break
    return found


async def _entries(session: Session, wanted: List, bound: int, lowest: int = 0) -> AsyncIterator[Row]:
    owner, kind, partitioning = wanted
    for bucket in partitioning.reaching(bound):
        end = max(bucket.lowest, lowest)
        while bound >= end:
            rows = await session.fetch(_ENTRIES, (owner, kind, bucket.number, end, bound))
            for row in rows:
                yield row
            bound = rows[-1][0] - 1 if len(rows) == _PIECE else end - 1
        if end == lowest:
            return
