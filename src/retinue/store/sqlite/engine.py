"""The embedded store's engine: each table of the layout is a SQLite table."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import apsw
from msgspec.json import encode

from retinue.durable import sync
from retinue.errors import StoreError
from retinue.store.layout.tables import LAST_SECOND, TABLES, Changes, Key, NumberRows, Table, first_of, pair_key
from retinue.store.reading.row_file import RowFileWriter
from retinue.store.sqlite import files
from retinue.store.sqlite.absence import require_absent
from retinue.store.sqlite.files import Execute, executor
from retinue.store.sqlite.waiting import WaitingWriters

_SCAN_SHARE = 4
_SHORT_SECONDS = 0.1  # the promise is 200 ms; the rest is room for a slow disk
_LONG_SECONDS = 1.0
_SHORT_UNITS = 50  # after another writer has waited, since it may come again soon
_FEW = 4  # keys that are read one by one in less time


class _Statements(NamedTuple):
    get: str
    up: str
    down: str
    put: str
    delete: str
    get_many: str
    of_owners: str


def _statements(table: Table) -> _Statements:
    scan = f"SELECT key, value FROM {table.name} WHERE key BETWEEN ? AND ? ORDER BY key"
    return _Statements(
        f"SELECT value FROM {table.name} WHERE key = ?",
        f"{scan} LIMIT ?",
        f"{scan} DESC LIMIT ?",
        f"INSERT OR REPLACE INTO {table.name} (key, value) VALUES (?, ?)",
        f"DELETE FROM {table.name} WHERE key = ?",
        # CROSS keeps the order of the join: the asked keys come first.
        f"SELECT t.key, t.value FROM json_each(?) asked CROSS JOIN {table.name} t ON t.key = asked.value",
        f"SELECT t.key, t.value FROM json_each(?) asked CROSS JOIN {table.name} t"
        f" ON t.key BETWEEN asked.value << 32 AND (asked.value << 32) + {LAST_SECOND}",
    )


_STATEMENTS = {table: _statements(table) for table in TABLES}


class SqliteSource:
    """The `Source` of one connection. It raises SQLite's errors."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._connection = connection
        self._execute: Execute = executor(connection)

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        if len(keys) > _FEW:
            found = dict(self._execute(_STATEMENTS[table].get_many, (encode(list(keys)).decode(),)).fetchall())
            return [found.get(key) for key in keys]
        execute, statement = self._execute, _STATEMENTS[table].get
        rows = [execute(statement, (key,)).fetchall() for key in keys]
        return [values[0][0] if values else None for values in rows]

    def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        statements = _STATEMENTS[table]
        return self._execute(statements.down if reverse else statements.up, (low, high, limit)).fetchall()

    def require_absent(self, table: Table, low: Key, high: Key) -> None:
        require_absent(self._execute, table, low, high)

    def rows_of(self, table: Table, owners: Sequence[int]) -> list[tuple[int, bytes]]:
        if not owners:
            return []
        if len(owners) * _SCAN_SHARE > owners[-1] - owners[0]:
            among = set(owners)
            rows = self.scan(table, pair_key(owners[0], 0), pair_key(owners[-1], LAST_SECOND))
            return [row for row in rows if first_of(row[0]) in among]
        return self._execute(_STATEMENTS[table].of_owners, (encode(list(owners)).decode(),)).fetchall()

    def has_rows(self, table: Table) -> bool:
        return bool(self._execute(f"SELECT 1 FROM {table.name} LIMIT 1").fetchall())

    def all_rows(self, table: Table) -> Iterator[tuple[Any, bytes]]:
        return self._connection.cursor().execute(f"SELECT key, value FROM {table.name} ORDER BY key")


class SqliteEngine(SqliteSource):
    """The `Engine` of one file."""

    has_bulk = True
    group_size = 5_000

    def __init__(self, path: Path, rows: Path) -> None:
        super().__init__(files.open_for_writing(path, files.GRAPH))
        self._rows = rows
        self._connection.execute(f"PRAGMA cache_size = -{2 * files.CACHE_KIB}")
        self._waiting = WaitingWriters(path)
        self._short_units = 0
        self._version: int | None = None
        self._is_durable = True  # as the connection was opened

    @contextmanager
    def exclusive(self, *, is_durable: bool = False) -> Iterator[bool]:
        self._be_durable(is_durable)
        with files.translated(f"{self._connection.filename}: "):
            with self._waiting.announced():
                self._connection.execute("BEGIN IMMEDIATE")
            try:
                version = self._execute("PRAGMA data_version").fetchall()[0][0]
                is_changed, self._version = version != self._version, version
                yield is_changed
            except BaseException:
                self._version = None
                raise
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    def group_seconds(self) -> float:
        self._short_units = _SHORT_UNITS if self._waiting.is_any() else max(0, self._short_units - 1)
        return _SHORT_SECONDS if self._short_units else _LONG_SECONDS

    def commit(self, changes: Iterable[Changes]) -> None:
        if self._is_durable:
            files.touch(self._connection, files.GRAPH)
        for each in changes:
            self.write(each)
        self._connection.execute("COMMIT")

    def write(self, changes: Changes) -> None:
        statements = _STATEMENTS[changes.table]
        self._connection.executemany(statements.put, changes.puts)
        self._connection.executemany(statements.delete, ((key,) for key in changes.deletes))

    def _be_durable(self, wanted: bool) -> None:
        if wanted != self._is_durable:
            self._connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")
            self._is_durable = wanted

    def compact(self) -> None:
        with files.translated():
            compact(self._connection)
        if self._rows.exists():
            with closing(RowFileWriter(self._rows)) as rows:
                rows.clear()  # the next server, or a running one, fills it again

    def settle(self) -> None:
        with self.exclusive(is_durable=True):
            self.commit(())
        self._version = None  # its user was not told whether another writer was here
        with files.translated():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def close(self) -> None:
        self._connection.close()
        self._waiting.close()


def compact(connection: apsw.Connection) -> None:
    """Rewrite the file and truncate its log. Raises `StoreError` if a reader keeps the log in use."""
    connection.execute("VACUUM")
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()[0]
    if busy:
        raise StoreError("the store is compacted, but its log is still in use; stop what reads it and compact again")
    # SQLite leaves the log's new length to the operating system: after a power loss the log could have its old content.
    # (It holds no locks on this file, which opening and closing it here would drop.)
    sync(Path(connection.filename_wal))
