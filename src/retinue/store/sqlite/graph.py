"""Reading the follow graph from its SQLite file."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Generic

from retinue.clock import Clock
from retinue.model import Account, PageRequest, PageRows, Profile, RowEncoding, Shown_co
from retinue.store.layout.tables import Key, NumberRows, Table
from retinue.store.reading.reader import LayoutReader
from retinue.store.reading.row_file_update import RowFileUpdate, boot_id
from retinue.store.reading.scan import GraphScan
from retinue.store.sqlite import files
from retinue.store.sqlite.absence import NOTICED
from retinue.store.sqlite.engine import SqliteSource


class _ReadySource:
    """An `AsyncSource` that never suspends."""

    def __init__(self, source: SqliteSource) -> None:
        self._source = source

    async def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        values = self._source.get(table, keys)
        if table in NOTICED:
            for key, value in zip(keys, values, strict=True):
                if value is None:
                    self._source.require_absent(table, key, key)
        return values

    async def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        rows = self._source.scan(table, low, high, reverse=reverse, limit=limit)
        if not rows and table in NOTICED:
            self._source.require_absent(table, low, high)
        return rows


class SqliteGraph(Generic[Shown_co]):
    """A `GraphReader` on one connection. It never suspends.

    `encode` makes a row of two names.
    """

    def __init__(self, path: Path, clock: Clock, encode: Callable[[str, str], Shown_co]) -> None:
        self.connection = files.open_for_reading(path, files.GRAPH)
        self.reader = LayoutReader(_ReadySource(SqliteSource(self.connection)), clock, encode)

    async def find_account(self, folded: str) -> Account | None:
        if (account := self.reader.cache.cached_account(folded)) is not None:
            return account
        with files.translated(), files.one_state(self.connection):
            return await self.reader.find_account(folded)

    async def read(self, request: PageRequest) -> PageRows[Shown_co]:
        with files.translated(), files.one_state(self.connection):
            return await self.reader.read(request)

    async def profile(self, account_id: int) -> Profile | None:
        with files.translated(), files.one_state(self.connection):
            return await self.reader.profile(account_id)

    def statements_sent(self) -> int:
        return 0

    def close(self) -> None:
        self.connection.close()


def open_scan(path: Path) -> GraphScan:
    """Return a scan in one read transaction."""
    with ExitStack() as opened:
        connection = opened.enter_context(closing(files.open_for_reading(path, files.GRAPH)))
        opened.enter_context(files.one_state(connection))
        return GraphScan(SqliteSource(connection), opened.pop_all().close, files.translated)


class SqliteRowFile(RowFileUpdate):
    """The row file of a store, for the process that updates it."""

    def __init__(self, path: Path, rows: Path, encoding: RowEncoding) -> None:
        self._connection = files.open_for_reading(path, files.GRAPH)
        super().__init__(rows, SqliteSource(self._connection), encoding.text, boot_id())

    def step(self) -> bool:
        with files.translated(), files.one_state(self._connection):
            return super().step()

    def close(self) -> None:
        super().close()
        self._connection.close()
