"""The row buffer: rows as the writer sees them.

Rows are read once, changed in memory, and written together. Changes are visible at once.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import Struct, msgpack

from retinue.store.cassandra.retry import RetryingSession
from retinue.store.cassandra.session import Statement
from retinue.store.cassandra.table_definitions import TABLES, Key, Row, TableDefinition

MAX_CACHED = 1_000_000


class Change(Struct, frozen=True, array_like=True):
    """A row to write. Unnamed columns stay; `columns` is None for a deleted row."""

    table: str
    key: tuple[Any, ...]
    columns: dict[str, Any] | None


class RowBuffer:
    """The rows that one writer has read and changed."""

    def __init__(self, session: RetryingSession) -> None:
        self.session = session
        self._stored: dict[tuple[str, Key], Row | None] = {}
        self._changed: dict[tuple[str, Key], Row | None] = {}
        self._changed_by_prefix: dict[tuple[str, Key], dict[Key, Row | None]] = {}
        self._last: list[tuple[str, Key]] = []
        self._bytes: dict[tuple[str, Key], int] = {}
        self.changed_bytes = 0  # the approximate size of the changes

    def forget(self) -> None:
        """Clear everything."""
        self._stored.clear()
        self._drop_changes()

    def get(self, table: TableDefinition, key: Key) -> Row | None:
        place = (table.name, key)
        if place in self._changed:
            return self._changed[place]
        if place not in self._stored:
            self.fetch(table, [key])
        return self._stored[place]

    def put(self, table: TableDefinition, key: Key, row: Row | None) -> None:
        """Set a row's columns; None deletes it."""
        place = (table.name, key)
        self._changed[place] = row
        size = len(msgpack.encode((key, row)))
        self.changed_bytes += size - self._bytes.get(place, 0)
        self._bytes[place] = size
        self._changed_by_prefix.setdefault((table.name, key[: table.prefix_length]), {})[key[table.prefix_length :]] = (
            row
        )

    def learn(self, table: TableDefinition, key: Key, row: Row | None) -> None:
        """Cache a row that was read elsewhere."""
        self._stored[table.name, key] = row

    def knows(self, table: TableDefinition, key: Key) -> bool:
        place = (table.name, key)
        return place in self._changed or place in self._stored

    def fetch(self, table: TableDefinition, keys: Iterable[Key]) -> None:
        """Read rows that are not cached, concurrently."""
        missing: dict[Key, list[Any]] = {}
        for key in dict.fromkeys(key for key in keys if not self.knows(table, key)):
            missing.setdefault(key[:-1] if table.is_wide else key, []).append(key[-1])
            self._stored[table.name, key] = None
        if len(missing) == 1:  # the usual case
            found = [self.session.rows(*_asked(table, *one)) for one in missing.items()]
        else:
            found = self.session.rows_of_all(Statement(*_asked(table, *one)) for one in missing.items())
        for prefix, rows in zip(missing, found, strict=True):
            for row in rows:
                key, columns = ((*prefix, row[0]), row[1:]) if table.is_wide else (prefix, row[: len(table.columns)])
                self._stored[table.name, key] = columns

    def changed_by_prefix(self, table: TableDefinition, prefix: Key) -> dict[Key, Row | None]:
        """Return changed rows that share a key's prefix, by the rest."""
        return self._changed_by_prefix.get((table.name, prefix), {})

    def rows_by_prefix(self, table: TableDefinition, prefix: Key, more: str = "", values: Key = ()) -> Iterator[Row]:
        """Yield rows that share a key's prefix, stored ones first.

        The rows begin with the rest of the key; `more` may narrow them.
        """
        changed = self.changed_by_prefix(table, prefix)
        rest = len(table.key) - table.prefix_length
        for row in self.session.rows(table.select_prefix + more, (*prefix, *values)):
            if row[:rest] not in changed:
                yield row
        for key, columns in changed.items():
            if columns is not None:
                yield (*key, *columns)

    @property
    def is_changed(self) -> bool:
        return bool(self._changed)

    def last_changed(self, table: TableDefinition) -> list[Key]:
        """Return the keys of a table's rows in the last group."""
        return [key for name, key in self._last if name == table.name]

    def changes(self) -> list[Change]:
        return [self._change(TABLES[name], key, row) for (name, key), row in self._changed.items()]

    def settle(self) -> None:
        """Mark all changes as written."""
        if len(self._stored) > MAX_CACHED:
            self._stored.clear()
        self._stored.update(self._changed)
        self._last = list(self._changed)
        self._drop_changes()

    def _drop_changes(self) -> None:
        self._changed.clear()
        self._changed_by_prefix.clear()
        self._bytes.clear()
        self.changed_bytes = 0

    def _change(self, table: TableDefinition, key: Key, row: Row | None) -> Change:
        if row is None:
            return Change(table.name, key, None)
        before = self._stored.get((table.name, key)) or (None,) * len(row)
        columns = {
            column: value
            for column, value, old in zip(table.columns, row, before, strict=True)
            if value is not None or old is not None
        }
        return Change(table.name, key, columns)


def _asked(table: TableDefinition, prefix: Key, last: list[Any]) -> tuple[str, Key]:
    """Return the query for rows whose keys begin alike."""
    return (table.select_many, (*prefix, last)) if table.is_wide else (table.select, prefix)
