"""Reading rows of the layout from the keyspace, for writers and checks. It blocks."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

from retinue.store.cassandra.parts import PartDirectory
from retinue.store.cassandra.places import LAST_SLOT, NEWEST, PLACES, PLAIN, key_of, slot_of
from retinue.store.cassandra.retry import Reads
from retinue.store.cassandra.session import ReadRefused
from retinue.store.cassandra.statements import Row, Statement, chunks
from retinue.store.layout.tables import Key, NumberRows, Table

_KEYS_AT_ONCE = 16  # of one statement: most of what a row costs is to ask for it

_GET = "SELECT key, value FROM {} WHERE key IN ?"
_AT_SLOT = "SELECT owner, slot, value FROM {} WHERE owner IN ? AND part = ? AND kind = ? AND slot = ?"
_DOWN = "SELECT slot, value FROM {} WHERE owner = ? AND part = ? AND kind = ? AND slot >= ? AND slot <= ?"
_UP = f"{_DOWN} ORDER BY kind DESC, slot ASC"
_LISTS = "SELECT owner, kind, slot, value FROM {} WHERE owner IN ? AND part = ? AND kind IN ?"
_FIRST = "SELECT kind FROM {} WHERE kind = ? LIMIT 1 ALLOW FILTERING"
_FIRST_KEY = "SELECT key FROM {} LIMIT 1"
_ALL = (
    "SELECT token(owner, part), owner, part, slot, value FROM {}"
    " WHERE kind = ? AND token(owner, part) > ? AND token(owner, part) <= ? ALLOW FILTERING"
)
_ALL_KEYS = "SELECT token(key), key, value FROM {} WHERE token(key) > ? AND token(key) <= ?"
_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1  # tokens; no partition has the lowest


class CassandraSource:
    """The `Source` of a keyspace."""

    def __init__(self, session: Reads, parts: PartDirectory) -> None:
        self._session = session
        self._parts = parts

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        if table in PLAIN:
            query = _GET.format(table.name)
            found = self._rows_of_all(Statement(query, (list(some),)) for some in chunks(keys, _KEYS_AT_ONCE))
            values: dict[Key, bytes] = dict(found)
        else:
            found = self._rows_of_all(self._lookups(table, keys))
            values = {key_of(table, owner, slot): value for owner, slot, value in found}
        return [values.get(key) for key in keys]

    def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        (first, low_slot), (last, high_slot) = slot_of(table, low), slot_of(table, high)
        owners = range(first, last + 1)
        rows: NumberRows = []
        for owner in owners[::-1] if reverse else owners:
            bounds = low_slot if owner == first else 0, high_slot if owner == last else LAST_SLOT
            for found in self._scan_owner(table, owner, bounds, reverse=reverse, limit=limit - len(rows)):
                rows += found
                if len(rows) == limit:
                    return rows
        return rows

    def rows_of(self, table: Table, owners: Sequence[int]) -> list[tuple[int, bytes]]:
        lists = self.lists_of((table,), owners)[table]
        return [row for owner in owners for row in lists[owner].items()]

    def lists_of(self, tables: Sequence[Table], owners: Sequence[int]) -> dict[Table, dict[int, dict[int, bytes]]]:
        """Return the rows of owners in tables of one direction."""
        found: dict[Table, dict[int, dict[int, bytes]]] = {table: {owner: {} for owner in owners} for table in tables}
        tables_of = {PLACES[table].kind: table for table in tables}
        query = _LISTS.format(PLACES[tables[0]].name)
        rows = self._rows_of_all(
            Statement(query, (list(some), NEWEST, list(tables_of))) for some in chunks(owners, _KEYS_AT_ONCE)
        )
        for owner, kind, slot, value in reversed(rows):
            table = tables_of[kind]
            found[table][owner][key_of(table, owner, slot)] = value
        for table in tables:
            for owner in set(self._parts.owners(table)).intersection(owners):
                found[table][owner] = dict(row for part in self._scan_owner(table, owner) for row in part)
        return found

    def has_rows(self, table: Table) -> bool:
        try:
            if table in PLAIN:
                return bool(self._session.rows(_FIRST_KEY.format(table.name)))
            place = PLACES[table]
            return bool(self._session.rows(_FIRST.format(place.name), (place.kind,)))
        except ReadRefused:  # there are many removed ones
            return True

    def all_rows(self, table: Table) -> Iterator[tuple[Any, bytes]]:
        if table in PLAIN:
            for rows in self._partitions(_ALL_KEYS.format(table.name)):
                yield from rows
            return
        place = PLACES[table]
        divided = set(self._parts.owners(table))
        for rows in self._partitions(_ALL.format(place.name), place.kind):
            owner, part = rows[0][:2]
            if part == NEWEST and owner not in divided:
                yield from ((key_of(table, owner, slot), value) for _, _, slot, value in reversed(rows))
        for owner in sorted(divided):
            for part_rows in self._scan_owner(table, owner):
                yield from part_rows

    def _scan_owner(
        self,
        table: Table,
        owner: int,
        bounds: tuple[int, int] = (0, LAST_SLOT),
        *,
        reverse: bool = False,
        limit: int = -1,
    ) -> Iterator[NumberRows]:
        place = PLACES[table]
        query = (_DOWN if reverse else _UP).format(place.name) + (" LIMIT ?" if limit > 0 else "")
        ranges = self._parts.ranges(table, owner, *bounds)
        for part, low, high in ranges[::-1] if reverse else ranges:
            values = (owner, part, place.kind, low, high, *([limit] if limit > 0 else ()))
            rows = [(key_of(table, owner, slot), value) for slot, value in self._session.rows(query, values)]
            limit -= len(rows)
            yield rows

    def _lookups(self, table: Table, keys: Sequence[Key]) -> Iterator[Statement]:
        """Yield statements by slot: where many keys are asked for, owners share them."""
        place = PLACES[table]
        owners_at: dict[tuple[int, int], list[int]] = {}
        for key in keys:
            owner, slot = slot_of(table, key)
            owners_at.setdefault((self._parts.part_of(table, owner, slot), slot), []).append(owner)
        for (part, slot), owners in owners_at.items():
            for some in chunks(owners, _KEYS_AT_ONCE):
                yield Statement(_AT_SLOT.format(place.name), (list(some), part, place.kind, slot))

    def _rows_of_all(self, statements: Iterable[Statement]) -> list[Row]:
        waiting = list(statements)
        if len(waiting) == 1:  # a node that does not answer is not waited for
            return self._session.rows(waiting[0].query, waiting[0].values)
        return [row for rows in self._session.rows_of_all(waiting) for row in rows]

    def _partitions(self, query: str, *values: int) -> Iterator[list[Row]]:
        """Yield the rows of each partition. A refused range is read in halves."""
        ranges = [(_LOWEST, _HIGHEST)]
        while ranges:
            done, last = ranges.pop()
            try:
                for token, rows in groupby(self._session.stream(query, (*values, done, last)), lambda row: row[0]):
                    partition = [row[1:] for row in rows]
                    done = token
                    yield partition
            except ReadRefused:
                if last == done + 1:  # one partition alone is too much
                    raise
                middle = (done + last) // 2
                ranges += [(middle, last), (done, middle)]
