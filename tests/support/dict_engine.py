"""An engine of dicts: what the engines of stores must agree with."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from retinue.store.layout.tables import TABLES, Changes, Key, Table, first_of


class DictEngine:
    """An `Engine` in memory."""

    def __init__(self) -> None:
        self.tables: dict[Table, dict[Key, bytes]] = {table: {} for table in TABLES}

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, in their order."""
        return [self.tables[table].get(key) for key in keys]

    def scan(
        self, table: Table, low: Key, high: Key, *, reverse: bool = False, limit: int = -1
    ) -> list[tuple[Key, bytes]]:
        """Return the rows from one key to another, both included."""
        keys = sorted((key for key in self.tables[table] if low <= key <= high), reverse=reverse)
        return [(key, self.tables[table][key]) for key in (keys if limit < 0 else keys[:limit])]

    def rows_of(self, table: Table, owners: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return the rows of ascending first numbers, in the order of their keys."""
        rows = sorted(self.tables[table].items())
        return [row for row in rows if first_of(row[0]) in set(owners)]  # type: ignore[arg-type, misc]

    def has_rows(self, table: Table) -> bool:
        """Return whether a table has rows."""
        return bool(self.tables[table])

    def all_rows(self, table: Table) -> Iterator[tuple[Key, bytes]]:
        """Yield every row of a table."""
        return iter(sorted(self.tables[table].items()))

    @contextmanager
    def exclusive(self, *, is_durable: bool = False) -> Iterator[bool]:
        """Hold the store alone; no other writer exists."""
        yield False

    def commit(self, changes: Iterable[Changes]) -> None:
        """Write rows."""
        for each in changes:
            self.write(each)

    def write(self, changes: Changes) -> None:
        """Write rows."""
        for key in changes.deletes:
            self.tables[changes.table].pop(key, None)
        self.tables[changes.table].update(changes.puts)
