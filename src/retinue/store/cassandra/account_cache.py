"""The account cache: accounts by id and username, at most one second behind the keyspace.

There are two generations: if the young one is full, the old one is dropped, and requested accounts become young again.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Generic

from msgspec import Struct

from retinue.clock import Clock
from retinue.model import Account, Shown_co, Visibility
from retinue.store.cassandra import graph_state
from retinue.store.cassandra.accounts import REVISIONS_PER_SLOT
from retinue.store.cassandra.partitioning import Partitioning, partitioning_of
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.table_definitions import GRAPH, LIST, USERNAME

PER_GENERATION = 131_072
FRESH_SECONDS = 0.9
FORGET_ONE_BY_ONE = 10_000

_ACCOUNT = "SELECT key, folded, username, display_name, visibility, is_cut FROM account WHERE id = ?"
_CHANGED = "SELECT revision, account FROM change WHERE slot = ? AND revision > ?"


class CachedAccount(Struct, Generic[Shown_co], frozen=True):
    """An account as readers see it. `row` is None if hidden; `by_kind` has the lists of several buckets."""

    visibility: Visibility
    row: Shown_co | None
    is_erased: bool
    by_kind: dict[str, Partitioning] | None = None

    def partitioning(self, kind: str) -> Partitioning:
        return (self.by_kind or {}).get(kind, Partitioning())


class AccountCache(Generic[Shown_co]):
    """The cache of one reader. Await `refresh` before each use."""

    def __init__(self, session: Session, clock: Clock, encode_row: Callable[[str, str], Shown_co]) -> None:
        self._session = session
        self._clock = clock
        self._encode_row = encode_row
        self._young: dict[int, CachedAccount[Shown_co]] = {}
        self._old: dict[int, CachedAccount[Shown_co]] = {}
        self._names: dict[str, int] = {}
        self._edition = 0  # changes with each removal: what was read before is not cached then
        self._revision: int | None = None
        self._fresh_until = 0.0
        self._refreshing = asyncio.Lock()
        self.state = graph_state.GraphState()

    async def refresh(self) -> None:
        """Drop what has changed, at most once a second."""
        if self._revision is not None and self._clock.elapsed() <= self._fresh_until:
            return
        async with self._refreshing:
            now = self._clock.elapsed()
            if self._revision is not None and now <= self._fresh_until:
                return  # another task has done it meanwhile
            found = await self._session.fetch(GRAPH.select, ("graph",))
            state = graph_state.decoded(found[0] if found else None)
            await self._forget_changed(state.revision)
            self.state = state
            self._fresh_until = now + FRESH_SECONDS

    async def account(self, folded: str) -> Account | None:
        """Return the live account with a folded username. Missing accounts are looked up each time."""
        account_id = self._names.get(folded)
        if account_id is None:
            edition = self._edition
            found = await self._session.fetch(USERNAME.select, (folded,))
            if not found or found[0][0] is None:
                return None
            account_id = int(found[0][0])
            if edition == self._edition:
                if len(self._names) >= PER_GENERATION:
                    self._names.clear()
                self._names[folded] = account_id
        cached = await self.get(account_id)
        return None if cached is None else Account(account_id, cached.visibility)

    async def get(self, account_id: int) -> CachedAccount[Shown_co] | None:
        (cached,) = await self.get_many([account_id])
        return cached

    async def get_many(self, account_ids: Sequence[int]) -> list[CachedAccount[Shown_co] | None]:
        """Return accounts in the order of their ids. Those not cached are read concurrently."""
        accounts: dict[int, CachedAccount[Shown_co] | None] = {
            account_id: self._young[account_id] for account_id in account_ids if account_id in self._young
        }
        missing = [account_id for account_id in dict.fromkeys(account_ids) if account_id not in accounts]
        found: dict[int, CachedAccount[Shown_co] | None] = {
            account_id: self._old[account_id] for account_id in missing if account_id in self._old
        }
        read = [account_id for account_id in missing if account_id not in found]
        edition = self._edition
        if read:
            found |= zip(read, await asyncio.gather(*map(self._read, read)), strict=True)
        if edition == self._edition:  # else the accounts may be stale: use them, but do not cache them
            # A missing account is not cached: a new one may become readable after an entry that names it.
            self._keep({account_id: cached for account_id, cached in found.items() if cached is not None})
        accounts |= found
        return [accounts[account_id] for account_id in account_ids]

    def _keep(self, accounts: dict[int, CachedAccount[Shown_co]]) -> None:
        if len(self._young) + len(accounts) > PER_GENERATION:
            self._old, self._young = self._young, {}
        self._young.update(accounts)

    async def _read(self, account_id: int) -> CachedAccount[Shown_co] | None:
        found = await self._session.fetch(_ACCOUNT, (account_id,))
        if not found:
            return None
        key, folded, username, display_name, visibility, is_partitioned = found[0]
        seen = Visibility(visibility)
        row = self._encode_row(display_name, username) if folded is not None and seen.is_visible else None
        by_kind = None
        if is_partitioned:
            by_kind = {
                kind: partitioning_of(tuple(row))
                for kind, *row in await self._session.fetch(LIST.select_prefix, (account_id,))
            }
        return CachedAccount(seen, row, key is None, by_kind)

    async def _forget_changed(self, newest: int) -> None:
        last = self._revision
        if last is not None and newest > last:
            self._edition += 1
            self._names.clear()
            if newest - last > FORGET_ONE_BY_ONE:
                self._young.clear()
                self._old.clear()
            else:
                self._forget([account async for account in self._changed(last, newest)])
        self._revision = newest

    async def _changed(self, last: int, newest: int) -> AsyncIterator[int]:
        for slot in range((last + 1) // REVISIONS_PER_SLOT, newest // REVISIONS_PER_SLOT + 1):
            for _, account in await self._session.fetch(_CHANGED, (slot, last)):
                yield account

    def _forget(self, accounts: Iterable[int]) -> None:
        for account in accounts:
            self._young.pop(account, None)
            self._old.pop(account, None)
