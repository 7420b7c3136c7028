"""The unit of work: the rules on the tables of one connection, inside the writer's transactions."""

import apsw

from retinue.model import Direction
from retinue.store.rules.changes import GraphChanges
from retinue.store.rules.tables import ListTables, Tables
from retinue.store.rules.visibility import VisibilityCache
from retinue.store.sqlite.accounts import SqliteAccounts
from retinue.store.sqlite.block_table import BlockTable
from retinue.store.sqlite.claims import SqliteClaims
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.pair_table import Blocks, SqlitePairs
from retinue.store.sqlite.relocations import SqliteRelocations
from retinue.store.sqlite.slot_runs import SqliteSlotRuns
from retinue.store.sqlite.tombstones import SqliteFutureEvents, SqliteTombstones


class SqliteUnitOfWork:
    """The writer's changes, and its caches."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        self._relocations = SqliteRelocations(connection)
        accounts = SqliteAccounts(connection)
        visibility = VisibilityCache(accounts, self._relocations)
        blocks = {direction: _blocks(connection, direction) for direction in Direction}
        self._blocks = [table for both in blocks.values() for table in both]
        following, followers = blocks[Direction.FOLLOWING], blocks[Direction.FOLLOWERS]
        tables = Tables(
            accounts,
            SqliteClaims(connection),
            SqliteTombstones(connection),
            SqliteFutureEvents(connection),
            self._relocations,
            ListTables(*following, SqliteSlotRuns(connection, Direction.FOLLOWING)),
            ListTables(*followers, SqliteSlotRuns(connection, Direction.FOLLOWERS)),
            SqlitePairs(connection, following, followers, visibility),
        )
        self.changes = GraphChanges(tables, visibility)
        self._version: int | None = None

    def begin(self) -> None:
        """Begin a transaction. Clear caches if another connection has changed the file."""
        version = self._execute("PRAGMA data_version").fetchall()[0][0]
        if version != self._version:
            for table in self._blocks:
                table.forget()
            self._relocations.reload()
            self.changes.begin()
        self._version = version

    def flush(self) -> None:
        for table in self._blocks:
            table.flush()

    def forget(self) -> None:
        """Clear caches; call after a rollback."""
        self._version = None


def _blocks(connection: apsw.Connection, direction: Direction) -> Blocks:
    return Blocks(BlockTable(connection, direction.value), BlockTable(connection, f"{direction.value}_aside"))
