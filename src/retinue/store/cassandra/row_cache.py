"""Rows as one writer has read or written them, until another writer comes."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

from retinue.store.cassandra.places import PLAIN, slot_of
from retinue.store.layout.tables import Changes, Key, Table

MAX_ROWS = 400_000

Lists = Mapping[Table, Mapping[int, dict[int, bytes]]]


class RowCache:
    """Single rows, and whole lists."""

    def __init__(self) -> None:
        self._rows: dict[Table, dict[Key, bytes | None]] = defaultdict(dict)
        self._lists: dict[Table, dict[int, dict[int, bytes]]] = defaultdict(dict)
        self._has_rows: dict[Table, bool] = {}
        self._count = 0

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
        self._lists.clear()
        self._has_rows.clear()
        self._count = 0

    def missing(self, table: Table, keys: Iterable[Key]) -> list[Key]:
        """Return the keys that are not cached."""
        rows = self._rows[table]
        missing = [key for key in keys if key not in rows]
        lists = self._lists.get(table)
        return [key for key in missing if slot_of(table, key)[0] not in lists] if lists else missing  # type: ignore[arg-type]

    def get(self, table: Table, keys: Iterable[Key]) -> list[bytes | None]:
        """Return the values of cached keys."""
        rows, lists = self._rows[table], self._lists.get(table)
        if not lists:
            return [rows[key] for key in keys]
        return [lists[slot_of(table, key)[0]].get(key) if key not in rows else rows[key] for key in keys]  # type: ignore[arg-type, call-overload]

    def is_absent(self, table: Table, key: Key) -> bool:
        """Return whether a row is known not to exist."""
        return not self.missing(table, (key,)) and self.get(table, (key,)) == [None]

    def learn(self, table: Table, rows: Mapping[Key, bytes | None]) -> None:
        """Note stored rows, None for those that do not exist."""
        self._rows[table].update(rows)
        self._count += len(rows)

    def missing_lists(self, table: Table, owners: Iterable[int]) -> list[int]:
        """Return the owners whose rows in a table are not all cached."""
        lists = self._lists[table]
        return [owner for owner in owners if owner not in lists]

    def rows_of(self, table: Table, owners: Iterable[int]) -> list[tuple[int, bytes]]:
        """Return the rows of owners that are cached."""
        lists = self._lists[table]
        return [(key, lists[owner][key]) for owner in owners for key in sorted(lists[owner])]

    def scan(self, table: Table, low: Key, high: Key, *, reverse: bool, limit: int) -> list[tuple[Key, bytes]] | None:
        """Return the rows from one key to another if they are cached."""
        lists = self._lists.get(table)
        if not lists:
            return None
        owner = slot_of(table, low)[0]  # type: ignore[arg-type]
        if owner not in lists or owner != slot_of(table, high)[0]:  # type: ignore[arg-type]
            return None
        keys = sorted(lists[owner])
        keys = keys[bisect_left(keys, low) : bisect_right(keys, high)]  # type: ignore[type-var]
        keys = keys[::-1] if reverse else keys
        return [(key, lists[owner][key]) for key in (keys if limit < 0 else keys[:limit])]

    def learn_lists(self, lists: Lists) -> None:
        """Note all rows that some owners have in tables."""
        for table, of_owners in lists.items():
            self._lists[table].update(of_owners)
            self._count += len(of_owners) + sum(map(len, of_owners.values()))

    def learn_changes(self, changes: Changes) -> None:
        """Note rows that were written. Forget everything if that is too much."""
        table, puts, deletes = changes
        rows, lists = self._rows[table], self._lists.get(table, {})
        changed: dict[Key, bytes | None] = dict(puts)
        changed.update(dict.fromkeys(deletes))
        for key, value in changed.items() if lists else ():
            of_owner = lists.get(slot_of(table, key)[0])  # type: ignore[arg-type]
            if of_owner is not None and value is not None:
                of_owner[key] = value  # type: ignore[index]
            elif of_owner is not None:
                of_owner.pop(key, None)  # type: ignore[call-overload]
        rows.update(changed)
        if puts:
            self._has_rows[table] = True
        self._count += len(changed)
        if self._count > MAX_ROWS:
            self.clear()

    def has_rows(self, table: Table, look: Callable[[Table], bool]) -> bool:
        """Return whether a table may have rows; `look` finds out."""
        if table not in self._has_rows:
            self._has_rows[table] = look(table)
        return self._has_rows[table]
