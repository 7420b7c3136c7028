"""Reading the follow graph from its SQLite file: accounts by name, lists by range."""

from collections.abc import Callable
from pathlib import Path
from typing import Generic

import apsw

from retinue.clock import Clock
from retinue.errors import StoreUnavailable
from retinue.model import Account, Shown_co, Slice
from retinue.store.sqlite import files
from retinue.store.sqlite.known import Known

FOLLOWING = """
    SELECT position, followee FROM following
    WHERE follower = ? AND position <= ?
    ORDER BY position DESC
"""


class SqliteGraph(Generic[Shown_co]):
    """A `GraphReader` on one connection. Answers without suspending. `show` makes a row of its two names."""

    def __init__(self, path: Path, clock: Clock, show: Callable[[str, str], Shown_co]) -> None:
        self._connection = files.open_for_reading(path, files.GRAPH)
        self._known = Known(self._connection, clock, show)

    async def find_account(self, folded: str) -> Account | None:
        """The live account with this folded username."""
        try:
            self._known.refresh()
            return self._known.account(folded)
        except apsw.Error as error:
            raise StoreUnavailable(str(error)) from error

    async def following(self, account_id: int, bound: int, limit: int) -> Slice[Shown_co]:
        """The newest `limit` visible rows at positions <= `bound`."""
        try:
            self._known.refresh()
            entries = self._connection.execute(FOLLOWING, (account_id, bound))
            try:
                return self._read_slice(entries, limit)
            finally:
                entries.close()  # ends the read transaction: the range is seldom read to its end
        except apsw.Error as error:
            raise StoreUnavailable(str(error)) from error

    def _read_slice(self, entries: apsw.Cursor, limit: int) -> Slice[Shown_co]:
        """Step through the range until one row more than asked is found: it answers has_more."""
        rows: list[Shown_co] = []
        known = self._known.rows
        oldest = 0
        for position, account_id in entries:
            try:
                row = known[account_id]
            except KeyError:
                row = self._known.load(account_id)
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
