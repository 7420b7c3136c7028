"""Rows and accounts that a reader caches for at most one second."""

from collections.abc import Callable, Sequence
from typing import Generic, Protocol

from retinue.clock import Clock
from retinue.model import Account, Shown_co, Visibility
from retinue.store.layout.accounts import LAST_REVISION
from retinue.store.layout.relocations import MERGED
from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.stored_accounts import StoredAccount, decode_account
from retinue.store.layout.tables import (
    ACCOUNT,
    CHANGE,
    LAST_SECOND,
    META,
    RELOCATION,
    USERNAME,
    Key,
    NumberRows,
    Table,
    pair_key,
)

MAX_CACHED_ROWS = 262_144
MAX_CACHED_ACCOUNTS = 32_768
FRESH_SECONDS = 0.9
FORGET_ONE_BY_ONE = 10_000


class AsyncSource(Protocol):
    """Read access to sealed rows for readers. The embedded store never suspends."""

    async def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]: ...

    async def scan(
        self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1
    ) -> NumberRows: ...


class AccountCache(Generic[Shown_co]):
    """The accounts that one reader has read. `encode` makes a row of two names.

    Call `refresh` before each use.
    """

    def __init__(self, source: AsyncSource, clock: Clock, encode: Callable[[str, str], Shown_co]) -> None:
        self.source = source
        self._clock = clock
        self._encode = encode
        self._rows: dict[int, Shown_co | None] = {}
        self._accounts: dict[str, Account] = {}
        self.revision = -1  # the newest change of a name or of visibility
        self._fresh_until = -1.0
        self.refreshes = 0
        self.must_merge = False  # pages need hidden entries too

    def is_fresh(self) -> bool:
        return self._clock.elapsed() <= self._fresh_until

    async def refresh(self) -> None:
        """Forget changed accounts, at most once per second."""
        now = self._clock.elapsed()
        if now > self._fresh_until:
            await self._forget_changed()
            # After the revisions: a change brings both.
            merged = await self.source.scan(RELOCATION, pair_key(MERGED, 0), pair_key(MERGED, LAST_SECOND), limit=1)
            self.must_merge = bool(merged)
            self._fresh_until = now + FRESH_SECONDS
            self.refreshes += 1

    def cached_account(self, folded: str) -> Account | None:
        """Return an account that needs no refresh."""
        return self._accounts.get(folded) if self.is_fresh() else None

    async def account(self, folded: str) -> Account | None:
        """Return the live account with a folded username. Missing ones are not cached."""
        account = self._accounts.get(folded)
        if account is None:
            revision = self.revision
            (found,) = await self.source.get(USERNAME, (folded,))
            if found is None:
                return None
            account_id = int.from_bytes(unseal(USERNAME, folded, found), "little")
            (stored,) = await self.load((account_id,))
            if stored is None or stored.folded != folded:
                raise damaged(ACCOUNT, account_id, "it is found by a name that is not its own")
            account = Account(account_id, Visibility(stored.visibility))
            if len(self._accounts) >= MAX_CACHED_ACCOUNTS:
                self._accounts.clear()
            if self.revision == revision:  # else another task's refresh has noticed a change meanwhile
                self._accounts[folded] = account
        return account

    async def rows(self, account_ids: Sequence[int]) -> list[Shown_co | None]:
        """Return the rows of accounts, None for hidden ones."""
        cached = self._rows
        try:
            return [cached[account_id] for account_id in account_ids]
        except KeyError:
            found = {account_id: cached[account_id] for account_id in account_ids if account_id in cached}
        missing = [account_id for account_id in account_ids if account_id not in found]
        revision = self.revision
        read = {
            account_id: self._row(account)
            for account_id, account in zip(missing, await self.load(missing), strict=True)
        }
        found |= read
        if len(cached) + len(read) > MAX_CACHED_ROWS:
            cached.clear()
        if self.revision == revision:  # else another task's refresh has noticed a change meanwhile
            cached |= read
        return [found[account_id] for account_id in account_ids]

    def _row(self, account: StoredAccount | None) -> Shown_co | None:
        is_row = account is not None and account.is_visible
        return self._encode(account.display_name, account.username) if is_row else None  # type: ignore[union-attr]

    async def load(self, account_ids: Sequence[int]) -> list[StoredAccount | None]:
        """Return existing accounts, None for erased ones."""
        found = []
        for account_id, value in zip(account_ids, await self.source.get(ACCOUNT, account_ids), strict=True):
            if value is None:
                raise damaged(ACCOUNT, account_id, "another row names it, and it does not exist")
            found.append(decode_account(account_id, unseal(ACCOUNT, account_id, value)))
        return found

    async def changed_since(self, revision: int, limit: int) -> set[int] | None:
        """Return the accounts changed since a revision. None: more than `limit`."""
        if not 0 <= self.revision - revision <= limit:
            return set() if self.revision < revision else None
        changes = await self.source.scan(CHANGE, revision + 1, self.revision)
        if len(changes) != self.revision - revision:
            return None
        return {int.from_bytes(unseal(CHANGE, key, value), "little") for key, value in changes}

    async def _forget_changed(self) -> None:
        (found,) = await self.source.get(META, (LAST_REVISION,))
        newest = 0 if found is None else int.from_bytes(unseal(META, LAST_REVISION, found), "little")
        before, self.revision = self.revision, newest
        if newest == before:
            return
        self._accounts.clear()
        changed = await self.changed_since(before, FORGET_ONE_BY_ONE) if before >= 0 else None
        if changed is None:
            self._rows.clear()
        for account_id in changed or ():
            self._rows.pop(account_id, None)
