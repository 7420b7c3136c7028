"""Rows that one writer caches until another one changes the store."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from retinue.store.cassandra.places import slot_of
from retinue.store.layout.tables import Changes, Key, NumberRows, Table

MAX_BYTES = 256 * 1024 * 1024
_ROW_BYTES = 200  # about what a row takes beside its value

RowsOfLists = Mapping[Table, Mapping[int, dict[int, bytes]]]


class _List:
    """All rows of an owner in one table, by ascending keys."""

    __slots__ = ("keys", "rows")

    def __init__(self, rows: dict[int, bytes]) -> None:
        self.rows = rows
        self.keys = list(rows)

    def change(self, key: int, value: bytes | None) -> None:
        if value is None:
            if self.rows.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]
        else:
            if key not in self.rows:
                insort(self.keys, key)
            self.rows[key] = value


class RowCache:
    """Single rows, None for missing ones, and whole lists."""

    def __init__(self) -> None:
        self.rows: dict[Table, dict[Key, bytes | None]] = defaultdict(dict)
        self._lists: dict[Table, dict[int, _List]] = defaultdict(dict)
        self._has_rows: dict[Table, bool] = {}
        self._bytes = 0

    def clear(self) -> None:
        self.rows.clear()
        self._lists.clear()
        self._has_rows.clear()
        self._bytes = 0

    def missing(self, table: Table, keys: Iterable[Key]) -> list[Key]:
        rows, lists = self.rows[table], self._lists.get(table)
        missing = [key for key in keys if key not in rows]
        return [key for key in missing if _owner_of(table, key) not in lists] if lists else missing

    def get(self, table: Table, keys: Iterable[Key]) -> list[bytes | None]:
        rows, lists = self.rows[table], self._lists.get(table)
        if not lists:
            return [rows[key] for key in keys]
        return [rows[key] if key in rows else lists[_owner_of(table, key)].rows.get(key) for key in keys]  # type: ignore[arg-type]

    def is_absent(self, table: Table, key: Key) -> bool:
        return not self.missing(table, (key,)) and self.get(table, (key,)) == [None]

    def learn(self, table: Table, rows: Mapping[Key, bytes | None]) -> None:
        self.rows[table].update(rows)
        self._bytes += sum(_ROW_BYTES + len(value or b"") for value in rows.values())

    def missing_lists(self, table: Table, owners: Iterable[int]) -> list[int]:
        lists = self._lists[table]
        return [owner for owner in owners if owner not in lists]

    def rows_of(self, table: Table, owners: Iterable[int]) -> list[tuple[int, bytes]]:
        lists = self._lists[table]
        return [(key, lists[owner].rows[key]) for owner in owners for key in lists[owner].keys]

    def scan(self, table: Table, low: int, high: int, *, reverse: bool, limit: int) -> NumberRows:
        """Return the cached rows of an owner between two keys."""
        cached = self._lists[table][_owner_of(table, low)]
        begin, end = bisect_left(cached.keys, low), bisect_right(cached.keys, high)
        if limit >= 0:
            begin, end = (max(begin, end - limit), end) if reverse else (begin, min(end, begin + limit))
        keys = cached.keys[begin:end]
        return [(key, cached.rows[key]) for key in (reversed(keys) if reverse else keys)]

    def learn_lists(self, lists: RowsOfLists) -> None:
        for table, of_owners in lists.items():
            for owner, rows in of_owners.items():
                self._lists[table][owner] = _List(rows)
                self._bytes += _ROW_BYTES + sum(_ROW_BYTES + len(value) for value in rows.values())

    def learn_changes(self, changes: Changes) -> None:
        """Note written rows. Forget everything if the cache is full."""
        table, puts, deletes = changes
        changed: dict[Key, bytes | None] = dict(puts)
        changed.update(dict.fromkeys(deletes))
        lists = self._lists.get(table)
        for key, value in changed.items() if lists else ():
            cached = lists.get(_owner_of(table, key)) if lists else None
            if cached is not None:
                cached.change(key, value)  # type: ignore[arg-type]
        self.learn(table, changed)
        if puts:
            self._has_rows[table] = True
        if self._bytes > MAX_BYTES:
            self.clear()

    def has_rows(self, table: Table, look: Callable[[Table], bool]) -> bool:
        """Return whether a table may have rows; `look` finds out."""
        if table not in self._has_rows:
            self._has_rows[table] = look(table)
        return self._has_rows[table]


def _owner_of(table: Table, key: Key) -> int:
    return slot_of(table, key)[0]
