"""What a reading process knows by heart, at most one second behind the file: rows by id, accounts by name.

Rows are kept in the form in which their user wants to see them, in two generations of a dict: when the young one is
full the old one is dropped, and what is still asked for moves from old to young. Of accounts only those that were
found are kept. Each change of a name or visibility has a revision, and by that it is noticed and forgotten.
"""

from collections.abc import Callable
from typing import Generic

import apsw

from retinue.clock import Clock
from retinue.model import Account, Shown_co, Visibility
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.sides import IS_ROW

ROWS_PER_GENERATION = 131_072
ACCOUNTS = 32_768
FRESH_SECONDS = 0.9
FORGET_ONE_BY_ONE = 10_000

ACCOUNT = "SELECT id, visibility FROM account WHERE folded = ?"
NEWEST_REVISION = "SELECT revision FROM account WHERE revision > 0 ORDER BY revision DESC LIMIT 1"
# `revision > 0` lets SQLite see that its partial index serves.
CHANGED = "SELECT id, revision FROM account WHERE revision > 0 AND revision > ? ORDER BY revision LIMIT ?"
MUST_MERGE = "SELECT 1 FROM moving WHERE merge LIMIT 1"
_ROW = f"SELECT display_name, username, {IS_ROW} FROM account WHERE id = ?"


class Known(Generic[Shown_co]):
    """Memory of one connection. Ask `refresh` before each use; errors of SQLite come out as they are."""

    def __init__(self, connection: apsw.Connection, clock: Clock, show: Callable[[str, str], Shown_co]) -> None:
        self._execute = executor(connection)
        self._clock = clock
        self._show = show
        self.rows: dict[int, Shown_co | None] = {}
        self._old_rows: dict[int, Shown_co | None] = {}
        self._accounts: dict[str, Account] = {}
        self.must_merge = False
        self.edition = 0  # another one after each change of a name or visibility
        self._revision = self._newest_revision()
        self._look_for_moves()
        self._fresh_until = clock.elapsed() + FRESH_SECONDS

    def refresh(self) -> None:
        """Forget what has changed, if that was not done within the last second."""
        if self._clock.elapsed() > self._fresh_until:
            fresh_until = self._clock.elapsed() + FRESH_SECONDS
            self._forget_changed()
            self._look_for_moves()
            self._fresh_until = fresh_until

    def account(self, folded: str) -> Account | None:
        """The live account with a folded username. That there is none is asked anew each time."""
        account = self._accounts.get(folded)
        if account is None:
            found = self._execute(ACCOUNT, (folded,)).fetchall()
            if not found:
                return None
            account = Account(found[0][0], Visibility(found[0][1]))
            if len(self._accounts) >= ACCOUNTS:
                self._accounts.clear()
            self._accounts[folded] = account
        return account

    def visible(self, accounts: list[int], positions: list[int]) -> tuple[list[Shown_co], list[int]]:
        """The rows of those accounts that are rows, and their positions; from oldest first to newest first."""
        accounts.reverse()
        positions.reverse()
        known = self.rows
        try:
            rows = [known[account] for account in accounts]
        except KeyError:
            rows = [known[account] if account in known else self.load(account) for account in accounts]
        if all(rows):
            return rows, positions  # type: ignore[return-value]  # no None is among them
        shown = [(row, position) for row, position in zip(rows, positions, strict=True) if row is not None]
        return [row for row, _ in shown], [position for _, position in shown]

    def load(self, account_id: int) -> Shown_co | None:
        """The row of an account that is not among `rows`, None if it is no row; adds it to them."""
        if len(self.rows) >= ROWS_PER_GENERATION:
            self._old_rows = dict(self.rows)
            self.rows.clear()  # stays the same dict: a page is just being read with it
        row = self._old_rows[account_id] if account_id in self._old_rows else self._read(account_id)
        self.rows[account_id] = row
        return row

    def _read(self, account_id: int) -> Shown_co | None:
        found = self._execute(_ROW, (account_id,)).fetchall()
        if not found:
            return None
        display_name, username, is_row = found[0]
        return self._show(display_name, username) if is_row else None

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
            self._revision = self._newest_revision()
        for account_id, _ in changed:
            self.rows.pop(account_id, None)
            self._old_rows.pop(account_id, None)

    def _look_for_moves(self) -> None:
        """Whether pages cannot be read from their range alone. After the revisions: a change brings both."""
        self.must_merge = bool(self._execute(MUST_MERGE).fetchall())

    def _newest_revision(self) -> int:
        newest = self._execute(NEWEST_REVISION).fetchall()
        return int(newest[0][0]) if newest else 0
