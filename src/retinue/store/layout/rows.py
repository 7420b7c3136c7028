"""A writer's view of a store: stored rows, under its own uncommitted changes."""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any

from retinue.store.layout.sealing import seal_all, unseal
from retinue.store.layout.tables import TABLES, Changes, Key, Source, Table, first_of

_SCANNED_AT_ONCE = 64
_MAX_SCANNED_AT_ONCE = 4096


class Rows:
    """Reads of a writer, and its changes until they are committed."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._changed: dict[Table, dict[Key, bytes | None]] = {table: {} for table in TABLES}
        self._order: dict[Table, list[Any]] = {}  # the changed keys, ascending, of tables that were scanned

    def get(self, table: Table, key: Key) -> bytes | None:
        changed = self._changed[table]
        if key in changed:
            return changed[key]
        (value,) = self._source.get(table, (key,))
        return None if value is None else unseal(table, key, value)

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        changed = self._changed[table]
        stored = keys if changed.keys().isdisjoint(keys) else [key for key in keys if key not in changed]
        values = self._source.get(table, stored)
        contents = [
            None if value is None else unseal(table, key, value) for key, value in zip(stored, values, strict=True)
        ]
        if stored is keys:
            return contents
        found = dict(zip(stored, contents, strict=True))
        return [changed[key] if key in changed else found[key] for key in keys]

    def put(self, table: Table, key: Key, content: bytes) -> None:
        self._change(table, key, content)

    def delete(self, table: Table, key: Key) -> None:
        self._change(table, key, None)

    def put_many(self, table: Table, rows: Iterable[tuple[Key, bytes]]) -> None:
        self._order.pop(table, None)
        self._changed[table].update(rows)

    def delete_many(self, table: Table, keys: Iterable[int]) -> None:
        self._order.pop(table, None)
        self._changed[table].update(dict.fromkeys(keys))

    def has_rows(self, table: Table) -> bool:
        return bool(self._changed[table]) or self._source.has_rows(table)

    def scan(
        self, table: Table, low: int, high: int, *, reverse: bool = False, expected: int = _SCANNED_AT_ONCE
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the rows between two keys, both included. Rows may change meanwhile."""
        changed = self._changed[table]
        stored = self._stored(table, low, high, reverse, expected)
        touched = self._touched(table, low, high)
        if not touched:
            yield from stored
            return
        over = [(key, changed[key]) for key in (reversed(touched) if reverse else touched)]
        among = set(touched)
        rest = ((key, content) for key, content in stored if key not in among)
        for key, content in merge(rest, over, key=lambda row: row[0], reverse=reverse):
            if content is not None:
                yield key, content

    def rows_of(self, table: Table, owners: Sequence[int]) -> tuple[list[int], list[bytes]]:
        """Return keys and contents of all rows of ascending first numbers."""
        rows: dict[int, bytes | None] = {
            key: unseal(table, key, value) for key, value in self._source.rows_of(table, owners)
        }
        if self._changed[table]:
            among = set(owners)
            rows.update((key, content) for key, content in self._changed[table].items() if first_of(key) in among)  # type: ignore[arg-type, misc]
            rows = {key: rows[key] for key in sorted(rows) if rows[key] is not None}
        return list(rows), list(rows.values())  # type: ignore[arg-type]

    def first(self, table: Table, low: int, high: int, *, reverse: bool = False) -> tuple[int, bytes] | None:
        return next(self.scan(table, low, high, reverse=reverse, expected=1), None)

    def take_changes(self) -> list[Changes]:
        """Return all changes, ordered by key, and forget them."""
        taken = []
        for table, changed in self._changed.items():
            if changed:
                deletes = [key for key, content in changed.items() if content is None]
                for key in deletes:
                    del changed[key]
                puts = sorted(changed.items(), key=itemgetter(0))
                taken.append(Changes(table, seal_all(table, puts), deletes))  # type: ignore[arg-type]
        self.forget()
        return taken

    def forget(self) -> None:
        self._order.clear()
        for changed in self._changed.values():
            changed.clear()

    def _change(self, table: Table, key: Key, content: bytes | None) -> None:
        changed = self._changed[table]
        if key not in changed and table in self._order:
            insort(self._order[table], key)
        changed[key] = content

    def _touched(self, table: Table, low: int, high: int) -> list[Any]:
        order = self._order.get(table)
        if order is None:
            order = self._order[table] = sorted(self._changed[table])
        return order[bisect_left(order, low) : bisect_right(order, high)]

    def _stored(self, table: Table, low: int, high: int, reverse: bool, size: int) -> Iterator[tuple[int, bytes]]:
        while True:
            found = self._source.scan(table, low, high, reverse=reverse, limit=size)
            for key, value in found:
                yield key, unseal(table, key, value)
            if len(found) < size:
                return
            low, high = (low, found[-1][0] - 1) if reverse else (found[-1][0] + 1, high)
            size = min(4 * size, _MAX_SCANNED_AT_ONCE)
