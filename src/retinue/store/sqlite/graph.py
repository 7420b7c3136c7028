"""Reading the follow graph from its SQLite file: accounts by name, lists by range."""

from pathlib import Path

import apsw

from retinue.clock import Clock
from retinue.errors import StoreUnavailable
from retinue.model import Account, Row, Slice, Visibility
from retinue.store.sqlite import files
from retinue.store.sqlite.rows import Rows

FOLLOWING = """
    SELECT position, followee FROM following
    WHERE follower = ? AND position <= ?
    ORDER BY position DESC
"""
ACCOUNT = "SELECT id, visibility FROM account WHERE folded = ?"


class SqliteGraph:
    """A `GraphReader` on one connection. Answers without suspending."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._connection = files.open_for_reading(path, files.GRAPH)
        self._execute = files.executor(self._connection)
        self._rows = Rows(self._connection, clock)

    async def find_account(self, folded: str) -> Account | None:
        """The live account with this folded username."""
        try:
            found = self._execute(ACCOUNT, (folded,)).fetchall()
        except apsw.Error as error:
            raise StoreUnavailable(str(error)) from error
        return Account(found[0][0], Visibility(found[0][1])) if found else None

    async def following(self, account_id: int, bound: int, limit: int) -> Slice:
        """The newest `limit` visible rows at positions <= `bound`."""
        try:
            entries = self._connection.execute(FOLLOWING, (account_id, bound))
            try:
                return self._read_slice(entries, limit)
            finally:
                entries.close()  # ends the read transaction: the range is seldom read to its end
        except apsw.Error as error:
            raise StoreUnavailable(str(error)) from error

    def _read_slice(self, entries: apsw.Cursor, limit: int) -> Slice:
        """Step through the range until one row more than asked is found: it answers has_more."""
        rows: list[Row] = []
        known = self._rows.current()
        oldest = 0
        for position, account_id in entries:
            try:
                row = known[account_id]
            except KeyError:
                row = self._rows.load(account_id)
            if row is None:
                continue
            if len(rows) == limit:
                return Slice(rows, oldest, has_more=True)
            rows.append(row)
            oldest = position
        return Slice(rows, oldest, has_more=False)

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()
