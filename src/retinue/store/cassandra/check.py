"""Every invariant of a keyspace, verified account by account without changes.

Writers may work meanwhile: a problem counts only if it is still there a moment later.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

from retinue import names
from retinue.model import Direction
from retinue.store.cassandra import check_lists
from retinue.store.cassandra.accounts import NEW, AccountRow
from retinue.store.cassandra.retry import Backoff
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.table_definitions import ACCOUNT, ACCOUNT_KEY, USERNAME
from retinue.store.cassandra.table_scan import scan, scan_partitions

_LISTED = 100
_AT_ONCE = 16
_AGAIN_AFTER_SECONDS = 0.5


class CassandraChecker:
    """A `Checker`. Failed reads are repeated while nodes may recover."""

    def __init__(self, session: Session, backoff: Backoff) -> None:
        self._session = session
        self._backoff = backoff

    async def problems(self) -> AsyncIterator[str]:
        found, places = 0, self._places()
        with ThreadPoolExecutor(_AT_ONCE) as threads:  # most of the time is waiting for answers
            while some := list(islice(places, 8 * _AT_ONCE)):
                for find, first in zip(some, threads.map(self._first_of, some), strict=True):
                    for problem in await self._lasting(find, first):
                        yield f"{self._session.location}: {problem}"
                        found += 1
                    if found >= _LISTED:
                        yield f"{self._session.location}: ... and maybe more"
                        return

    async def facts(self) -> dict[str, int]:
        accounts = sum(key is not None for (key,) in scan(self._session, "key", "account", "id"))
        follows = ended = displacement = 0
        for (placed_intervals,) in scan(self._session, "standings", "pair", "follower"):
            for start, end, following, followers in placed_intervals or ():
                ended += end != 0
                follows += end == 0
                displacement = max(displacement, abs(following - start), abs(followers - start))
        return {
            "accounts": accounts,
            "follows": follows,
            "ended_follows": ended,
            "largest_displacement": displacement,
            "clients": len(self._session.rows("SELECT id FROM client")),
            "tokens": sum(1 for _ in scan(self._session, "digest", "access_token", "digest")),
        }

    def close(self) -> None:
        self._session.close()

    async def _lasting(self, find: Callable[[], Iterator[str]], first: list[str]) -> list[str]:
        if not first:
            return []
        await asyncio.sleep(_AGAIN_AFTER_SECONDS)
        again = set(self._backoff.repeat(lambda: list(find())))
        return [problem for problem in first if problem in again]

    def _first_of(self, find: Callable[[], Iterator[str]]) -> list[str]:
        return self._backoff.repeat(lambda: list(islice(find(), _LISTED)))

    def _places(self) -> Iterator[Callable[[], Iterator[str]]]:
        for (account,) in scan(self._session, "id", "account", "id"):
            yield lambda account=account: self._wrong_account(account)  # type: ignore[misc]
        for (follower,) in scan_partitions(self._session, "pair", "follower"):
            yield lambda follower=follower: check_lists.wrong_pairs(self._session, follower)  # type: ignore[misc]
        for (folded,) in scan(self._session, "folded", "username", "folded"):
            yield lambda folded=folded: self._wrong_username(folded)  # type: ignore[misc]

    def _account(self, account: int) -> AccountRow:
        found = self._session.rows(ACCOUNT.select, (account,))
        return AccountRow(*found[0]) if found else NEW

    def _wrong_account(self, account: int) -> Iterator[str]:
        row = self._account(account)
        for problem in _wrong_names(row) if row.key is not None else _remains_of(row):
            yield f"account {account}: {problem}"
        if row.key is not None and self._session.rows(ACCOUNT_KEY.select, (row.key,)) != [(account,)]:
            yield f"account {account}: is not found by its key {row.key!r}"
        if row.folded is not None and not self._is_holder(account, row.folded):
            yield f"account {account}: is not found by its username {row.username!r}"
        for direction in Direction:
            yield from check_lists.wrong_list(self._session, account, row, direction)

    def _is_holder(self, account: int, folded: str) -> bool:
        found = self._session.rows(USERNAME.select, (folded,))
        return bool(found) and found[0][0] == account

    def _wrong_username(self, folded: str) -> Iterator[str]:
        for holder, claims in self._session.rows(USERNAME.select, (folded,)):
            rows = {account: self._account(account) for account in claims or {}}
            if missing := [account for account, row in rows.items() if row.key is None]:
                yield f"username {folded!r}: is claimed by accounts that are not there: {missing}"
            best = min(rows, key=lambda account: (-claims[account], rows[account].key or ""), default=None)
            carries = best is not None and names.fold(rows[best].username) == folded
            if holder != (best if carries else None):
                yield f"username {folded!r}: belongs to account {holder}, but the best claim is that of {best}"


def _wrong_names(row: AccountRow) -> Iterator[str]:
    fault = names.fault_in_username(row.username) if row.username else None
    if fault:
        yield f"username {row.username!r} {fault}"
    if row.username != names.as_answered(row.username):
        yield f"username {row.username!r} is not as answers carry it"
    if row.folded is not None and row.folded != names.fold(row.username):
        yield f"found as {row.folded!r}, which is not its username {row.username!r} folded"
    if key_fault := names.fault_in_key(row.key or ""):
        yield f"key {row.key!r} {key_fault}"


def _remains_of(row: AccountRow) -> Iterator[str]:
    if row.folded or row.username or row.display_name or row.profile or row.claimed:
        yield "is erased, but something is still said of it"
