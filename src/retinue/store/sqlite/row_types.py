"""Type checks of values from a store's file.

SQLite returns values of any type from a damaged file, even from STRICT tables.
"""

import re
from contextlib import closing
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

import apsw

from retinue.errors import StoreUnavailable

_SCHEMAS = ("graph.sql", "access.sql")
_TYPES: dict[str, set[type]] = {"INTEGER": {int}, "TEXT": {str}, "BLOB": {bytes}, "ANY": {int, float, str, bytes}}
_NOUNS: dict[type, str] = {type(None): "NULL", int: "a number", float: "a fraction", str: "text", bytes: "a blob"}
_TABLES = "SELECT name, wr FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND strict"


class Column(NamedTuple):
    """The types of a column, and whether it is a key."""

    types: frozenset[type]
    is_key: bool


class RowTypes:
    """A row tracer for connections: returns each row unchanged, or raises `StoreUnavailable`.

    Computed values are not checked.
    """

    def __init__(self) -> None:
        # Valid combinations of types, by SQLite's description of a statement's columns. Statements are few.
        self._right: dict[Any, set[tuple[type, ...]]] = {}

    def __call__(self, cursor: apsw.Cursor, row: tuple[Any, ...]) -> tuple[Any, ...]:
        columns = cursor.description_full
        types = tuple(map(type, row))
        right = self._right.get(columns)
        if right is None:
            right = self._right[columns] = set()
        if types not in right:
            _require_declared(cursor, columns, row)
            right.add(types)
        return row


def _require_declared(cursor: apsw.Cursor, columns: Any, row: tuple[Any, ...]) -> None:
    of_store = declared()
    for (_, _, _, table, name), value in zip(columns, row, strict=True):
        column = of_store.get((table, name))
        if column is not None and type(value) not in column.types:
            key = [
                f"{other} {number}"
                for (_, _, _, of_table, other), number in zip(columns, row, strict=True)
                if (known := of_store.get((of_table, other))) and known.is_key and type(number) is int
            ]
            where = ", ".join(key) or f"row of {_numbers_in(cursor.expanded_sql)}"
            raise StoreUnavailable(f"table {table}, {where}: {name} is {_NOUNS.get(type(value), 'odd')}; it is damaged")


def _numbers_in(statement: str) -> str:
    """Return the numbers by which a statement chose its rows. Names must not go to a log."""
    _, _, condition = statement.partition(" WHERE ")
    return ", ".join(re.findall(r"(?<![\w'])\d+(?![\w'])", condition)) or "no known key"


@cache
def declared() -> dict[tuple[str, str], Column]:
    """Return the declared columns of both files by table and name."""
    columns = {}
    with closing(apsw.Connection(":memory:")) as connection:
        for schema in _SCHEMAS:
            connection.execute(files("retinue.store.sqlite").joinpath(schema).read_text())
        for table, has_no_rowid in connection.execute(_TABLES).fetchall():
            for _, name, kind, is_set, _, key in connection.execute(f"PRAGMA table_info({table})").fetchall():
                is_never_null = is_set or (key and (has_no_rowid or kind == "INTEGER"))
                types = _TYPES[str(kind)] | (set() if is_never_null else {type(None)})
                columns[str(table), str(name)] = Column(frozenset(types), bool(key))
    return columns
