"""Reads of the follow graph from its keyspace.

The usual page is one range of one or two partitions. During relocations, and for the list of an earlier second, several
kinds of lists are merged instead.
"""

from collections.abc import Callable
from typing import Generic

from msgspec import json

from retinue.clock import Clock
from retinue.model import Account, Direction, PageRequest, PageRows, Profile, Shown_co
from retinue.store.cassandra.account_cache import AccountCache, CachedAccount
from retinue.store.cassandra.merged_lists import entries_of
from retinue.store.cassandra.partitioning import partitioning_of
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.table_definitions import LIST
from retinue.store.profiles import profile_of
from retinue.store.rules.values import LAST_SECOND

_PAGE = (
    "SELECT position, account FROM entry"
    " WHERE owner = ? AND kind = ? AND bucket = ? AND position >= ? AND position <= ? LIMIT ?"
)
_PROFILE = "SELECT key, display_name, said FROM account WHERE id = ?"


class CassandraGraph(Generic[Shown_co]):
    """A `GraphReader`. `encode_row` makes a row of display name and username."""

    def __init__(self, session: Session, clock: Clock, encode_row: Callable[[str, str], Shown_co]) -> None:
        self._session = session
        self._accounts = AccountCache(session, clock, encode_row)

    async def find_account(self, folded: str) -> Account | None:
        await self._accounts.refresh()
        return await self._accounts.account(folded)

    async def read(self, request: PageRequest) -> PageRows[Shown_co]:
        await self._accounts.refresh()
        owner = await self._accounts.get(request.account_id)
        if owner is None or owner.is_erased:
            return PageRows([], 0, has_more=False)
        if request.as_of is None and not self._accounts.state.merging:
            return await self._read_range(request, owner)
        return await self._read_merged(request, owner)

    async def profile(self, account_id: int) -> Profile | None:
        await self._accounts.refresh()
        found = await self._session.fetch(_PROFILE, (account_id,))
        if not found or found[0][0] is None:
            return None
        said = {field: value for field, (_, value) in json.decode(found[0][2] or "{}").items()}
        by_kind = {
            row[0]: partitioning_of(row[1:]) for row in await self._session.fetch(LIST.select_prefix, (account_id,))
        }
        counts = {
            direction: sum(
                by_kind[kind].rows for kind in (direction.value, f"{direction.value}_aside") if kind in by_kind
            )
            - await self._leaving_in(account_id, direction)
            for direction in Direction
        }
        return profile_of(str(found[0][1]), said, counts)

    def statements_sent(self) -> int:
        return self._session.statements_sent()

    def close(self) -> None:
        self._session.close()

    async def _read_range(self, request: PageRequest, owner: CachedAccount[Shown_co]) -> PageRows[Shown_co]:
        """Read buckets until one row more than requested, for `has_more`."""
        wanted = request.limit + 1
        rows: list[tuple[int, Shown_co]] = []
        kind, bound = request.direction.value, min(request.bound, LAST_SECOND)
        for bucket in owner.partitioning(kind).reaching(bound):
            while len(rows) < wanted and bound >= bucket.lowest:
                limit = wanted - len(rows)
                values = (request.account_id, kind, bucket.number, bucket.lowest, bound, limit)
                found = await self._session.fetch(_PAGE, values)
                cached = await self._accounts.get_many([account for _, account in found])
                for (position, _), other in zip(found, cached, strict=True):
                    if other is not None and other.row is not None:
                        rows.append((position, other.row))
                bound = found[-1][0] - 1 if len(found) == limit else bucket.lowest - 1
        return _page_rows(rows, request.limit)

    async def _read_merged(self, request: PageRequest, owner: CachedAccount[Shown_co]) -> PageRows[Shown_co]:
        rows: list[tuple[int, Shown_co]] = []
        async for position, account in entries_of(self._session, request, owner.partitioning):
            other = await self._accounts.get(account)
            if other is not None and other.row is not None:
                rows.append((position, other.row))
                if len(rows) > request.limit:
                    break
        return _page_rows(rows, request.limit)

    async def _leaving_in(self, account: int, direction: Direction) -> int:
        leaving = self._accounts.state.leaving
        owner = await self._accounts.get(account)
        if not leaving or owner is None:
            return 0
        everything = PageRequest(account, direction, LAST_SECOND, 0)
        return sum([each in leaving async for _, each in entries_of(self._session, everything, owner.partitioning)])


def _page_rows(rows: list[tuple[int, Shown_co]], limit: int) -> PageRows[Shown_co]:
    page = rows[:limit]
    return PageRows([row for _, row in page], page[-1][0] if page else 0, has_more=len(rows) > limit)
