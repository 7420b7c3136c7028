"""The names of accounts as rows, kept in memory, at most one second behind the file.

Two generations of a dict bound the memory: when the young one is full the old one is dropped, and what is still
asked for moves from old to young. Accounts whose name or visibility changed are forgotten by their revision.
"""

import apsw

from retinue.clock import Clock
from retinue.model import Row, Visibility
from retinue.store.sqlite.files import executor

GENERATION = 65_536
FRESH_SECONDS = 0.9
FORGET_ONE_BY_ONE = 10_000

_ROW = "SELECT display_name, username, folded IS NOT NULL AND visibility <= ? FROM account WHERE id = ?"
NEWEST_REVISION = "SELECT revision FROM account WHERE revision > 0 ORDER BY revision DESC LIMIT 1"
# `revision > 0` lets SQLite see that its partial index serves.
CHANGED = "SELECT id, revision FROM account WHERE revision > 0 AND revision > ? ORDER BY revision LIMIT ?"


class Rows:
    """Account ids to rows; None for accounts that are no rows."""

    def __init__(self, connection: apsw.Connection, clock: Clock) -> None:
        self._execute = executor(connection)
        self._clock = clock
        self._young: dict[int, Row | None] = {}
        self._old: dict[int, Row | None] = {}
        self._revision = self._newest_revision()
        self._fresh_until = clock.elapsed() + FRESH_SECONDS

    def current(self) -> dict[int, Row | None]:
        """What is known by heart and fresh enough to use; `load` finds the rest and adds it to this same dict."""
        if self._clock.elapsed() > self._fresh_until:
            self._forget_changed()
        return self._young

    def load(self, account_id: int) -> Row | None:
        """The row of an account that `current` does not hold."""
        if len(self._young) >= GENERATION:
            self._old = dict(self._young)
            self._young.clear()
        row = self._old[account_id] if account_id in self._old else self._read(account_id)
        self._young[account_id] = row
        return row

    def _read(self, account_id: int) -> Row | None:
        found = self._execute(_ROW, (Visibility.FOLLOWING_HIDDEN.value, account_id)).fetchall()
        if not found:
            return None
        display_name, username, is_row = found[0]
        return Row(display_name, username) if is_row else None

    def _newest_revision(self) -> int:
        newest = self._execute(NEWEST_REVISION).fetchall()
        return int(newest[0][0]) if newest else 0

    def _forget_changed(self) -> None:
        self._fresh_until = self._clock.elapsed() + FRESH_SECONDS
        changed = self._execute(CHANGED, (self._revision, FORGET_ONE_BY_ONE)).fetchall()
        if len(changed) == FORGET_ONE_BY_ONE:
            self._young.clear()
            self._old.clear()
            self._revision = self._newest_revision()
            return
        for account_id, revision in changed:
            self._young.pop(account_id, None)
            self._old.pop(account_id, None)
            self._revision = revision
