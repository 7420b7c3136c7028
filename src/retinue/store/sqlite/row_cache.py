"""The row cache: rows by account id, and accounts by username, at most one second behind the file.

There are two generations: if the young one is full, the old one is dropped, and requested rows become young again. A
generation is a list indexed by id, which is faster than a dict.
"""

from collections.abc import Callable, Sequence
from typing import Generic, Literal

import apsw

from retinue import names
from retinue.clock import Clock
from retinue.errors import StoreUnavailable
from retinue.model import Account, Shown_co, Visibility
from retinue.store.sqlite.accounts import max_accounts
from retinue.store.sqlite.files import executor, unchecked_executor

ROWS_PER_GENERATION = 131_072
ACCOUNTS = 32_768
FRESH_SECONDS = 0.9
FORGET_ONE_BY_ONE = 10_000
ROOM = 10_000  # by which the lists of rows grow

ACCOUNT = "SELECT id, visibility, folded FROM account WHERE folded = ?"
NEWEST_REVISION = "SELECT revision FROM account WHERE revision > 0 ORDER BY revision DESC LIMIT 1"
# `revision > 0` lets SQLite see that its partial index serves.
CHANGED = "SELECT id, revision FROM account WHERE revision > 0 AND revision > ? ORDER BY revision LIMIT ?"
MUST_MERGE = "SELECT 1 FROM moving WHERE merge LIMIT 1"
_IS_VISIBLE: dict[object, bool] = {visibility.value: visibility.is_visible for visibility in Visibility}
_ROW = "SELECT display_name, username, folded, visibility FROM account WHERE id = ?"


class RowCache(Generic[Shown_co]):
    """The cache of one connection. Call `refresh` before each use. It raises SQLite's errors."""

    def __init__(self, connection: apsw.Connection, clock: Clock, encode_row: Callable[[str, str], Shown_co]) -> None:
        self._execute = executor(connection)
        self._read_row = unchecked_executor(connection)  # names are read by the hundreds
        self._clock = clock
        self._encode_row = encode_row
        # By id: the row, None for a hidden account, False if unknown. No longer than needed.
        self.rows: list[Shown_co | Literal[False] | None] = []
        self._old_rows: list[Shown_co | Literal[False] | None] = []
        self._count = 0
        self._accounts: dict[str, Account] = {}
        self.must_merge = False
        self.is_complete = True  # no row was evicted
        self.epoch = 0  # changes when all rows are dropped
        self.edition = 0  # changes with each name or visibility
        self._revision = self._newest_revision()
        self._look_for_moves()
        self._fresh_until = clock.elapsed() + FRESH_SECONDS

    def refresh(self) -> None:
        """Drop what has changed, at most once a second."""
        if self._clock.elapsed() > self._fresh_until:
            fresh_until = self._clock.elapsed() + FRESH_SECONDS
            self._forget_changed()
            self._look_for_moves()
            self._fresh_until = fresh_until

    def account(self, folded: str) -> Account | None:
        """Return the live account with a folded username. Missing accounts are looked up each time."""
        account = self._accounts.get(folded)
        if account is None:
            found = self._execute(ACCOUNT, (folded,)).fetchall()
            if not found:
                return None
            number, visibility, found_name = found[0]
            if found_name != folded or not self._may_be(number):
                raise _damaged(number, "its folded username contradicts its username")
            account = Account(number, _visibility(number, visibility))
            if len(self._accounts) >= ACCOUNTS:
                self._accounts.clear()
            self._accounts[folded] = account
        return account

    def visible_rows(self, accounts: list[int], positions: list[int]) -> tuple[list[Shown_co], list[int]]:
        """Return the rows and positions of visible accounts, newest first. Input is oldest first."""
        accounts.reverse()
        positions.reverse()
        cache = self.rows
        try:
            rows = [cache[account] for account in accounts]
        except IndexError:
            rows = [self.load(account) for account in accounts]
        if not all(rows):
            rows = [self.load(account) if row is False else row for account, row in zip(accounts, rows, strict=True)]
        if all(rows):
            return rows, positions  # type: ignore[return-value]  # neither None nor False is among them
        shown = [(row, position) for row, position in zip(rows, positions, strict=True) if row]
        return [row for row, _ in shown], [position for _, position in shown]

    def rows_of(self, accounts: list[int]) -> list[Shown_co] | None:
        """Return the cached rows of accounts. None if any is unknown or hidden."""
        cache = self.rows
        try:
            rows = [cache[account] for account in accounts]
        except IndexError:
            return None
        return rows if all(rows) else None  # type: ignore[return-value]  # neither None nor False is among them

    def loaded(self, accounts: list[int]) -> list[Shown_co] | None:
        """Return the rows of accounts, or None if any is hidden."""
        rows = [self.load(account) for account in accounts]
        return rows if all(rows) else None  # type: ignore[return-value]  # None is not among them

    def load(self, account_id: int) -> Shown_co | None:
        row = _at(self.rows, account_id)
        if row is not False:
            return row
        if self._count >= ROWS_PER_GENERATION:
            self.is_complete = self.is_complete and not self._old_rows
            self._old_rows = self.rows.copy()
            self.rows.clear()  # the same list stays, since a page is being read with it
            self._count = 0
        row = _at(self._old_rows, account_id)
        if row is False:
            row = self._read(account_id)
        if account_id >= len(self.rows):
            self.rows.extend([False] * (account_id + ROOM - len(self.rows)))
        self.rows[account_id] = row
        self._count += 1
        return row

    def _read(self, account_id: int) -> Shown_co | None:
        found = self._read_row(_ROW, (account_id,)).fetchall()
        if not found or not self._may_be(account_id):  # accounts are never removed
            raise _damaged(account_id, "a list names it, but it does not exist")
        display_name, username, folded, visibility = found[0]
        is_visible = _IS_VISIBLE.get(visibility)
        if is_visible is None:
            raise _damaged(account_id, "its visibility is invalid")
        if folded is None:
            return None
        # Folding takes longer than reading the row, and most names are folded already.
        is_named = type(username) is str and (username == folded or names.fold(username) == folded)
        if not is_named or type(display_name) is not str:
            raise _damaged(account_id, "its names contradict each other")
        return self._encode_row(display_name, username) if is_visible else None

    def _may_be(self, account_id: int) -> bool:
        """Return whether the file has room for an id. `rows` grows up to it."""
        return 0 < account_id < max(len(self.rows), ROOM) or 0 < account_id <= max_accounts(self._execute)

    def _forget_changed(self) -> None:
        changed = self._execute(CHANGED, (self._revision, FORGET_ONE_BY_ONE)).fetchall()
        if not changed:
            return
        self.edition += 1
        self._accounts.clear()
        self._revision = changed[-1][1]
        if len(changed) == FORGET_ONE_BY_ONE:
            self.rows.clear()
            self._old_rows.clear()
            self._count = 0
            self.is_complete = True
            self.epoch += 1
            self._revision = self._newest_revision()
        for account_id, _ in changed:
            self._count -= _at(self.rows, account_id) is not False
            for rows in (self.rows, self._old_rows):
                if account_id < len(rows):
                    rows[account_id] = False

    def _look_for_moves(self) -> None:
        """Read whether readers must merge. Call it after reading the revisions."""
        self.must_merge = bool(self._execute(MUST_MERGE).fetchall())

    def _newest_revision(self) -> int:
        newest = self._execute(NEWEST_REVISION).fetchall()
        return int(newest[0][0]) if newest else 0


def _visibility(account_id: int, stored: int) -> Visibility:
    try:
        return Visibility(stored)
    except ValueError:
        raise _damaged(account_id, "its visibility is invalid") from None


def _damaged(account_id: int, how: str) -> StoreUnavailable:
    return StoreUnavailable(f"table account, id {account_id}: {how}; it is damaged")


def _at(rows: Sequence[Shown_co | Literal[False] | None], account_id: int) -> Shown_co | Literal[False] | None:
    return rows[account_id] if account_id < len(rows) else False
