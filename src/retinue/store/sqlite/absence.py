"""Verification that a row is really absent.

Changed keys and swapped pages hide rows, and SQLite notices neither. Both leave keys in a wrong order: within a page,
or between the page that SQLite read and its neighbors.
"""

from operator import lt
from typing import NamedTuple

import apsw
import msgspec

from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.tables import LISTS, USERNAME, Key, Table
from retinue.store.sqlite.files import Execute

# A reader takes a missing row of these for an empty list, or an unknown name.
NOTICED = frozenset({USERNAME} | {table for tables in LISTS.values() for table in (tables.visible, tables.hidden)})

_PAGE_ROWS = 256  # more than a page of 4,096 bytes holds: a row has at least 16
_FEW_ROWS = 48  # are more than a page too, if their values are long
_MANY_BYTES = 2 * 4096  # a damaged length counts for little: _LOCAL_BYTES
_LOCAL_BYTES = 400  # of a value that SQLite continues on other pages, its page has more than these


class _Queries(NamedTuple):
    """Rows next to keys, and the keys of their pages as JSON.

    One long text costs less than many rows.
    """

    row_above: str
    row_below: str
    keys_above: str
    keys_below: str
    few_above: str
    few_below: str


def _queries(table: Table) -> _Queries:
    above = f"FROM {table.name} WHERE key > ? ORDER BY key LIMIT"
    below = f"FROM {table.name} WHERE key < ? ORDER BY key DESC LIMIT"
    return _Queries(
        f"SELECT key, value {above} 1",
        f"SELECT key, value {below} 1",
        f"SELECT json_group_array(key) FROM (SELECT key {above} {_PAGE_ROWS})",
        f"SELECT json_group_array(key) FROM (SELECT key {below} {_PAGE_ROWS})",
        _few(table, above),
        _few(table, below),
    )


def _few(table: Table, rows: str) -> str:
    """Return a query for fewer rows, none where all are short."""
    if table == USERNAME:
        return ""
    size = f"sum(min(length(value), {_LOCAL_BYTES}))"
    return f"SELECT json_group_array(key), {size} FROM (SELECT key, value {rows} {_FEW_ROWS})"


_QUERIES = {table: _queries(table) for table in NOTICED}


def require_absent(execute: Execute, table: Table, low: Key, high: Key) -> None:
    """Raise `StoreUnavailable` if damage may hide rows between two keys."""
    queries = _QUERIES[table]
    try:
        above = _keys(execute, queries.few_above, queries.keys_above, high)
        below = _keys(execute, queries.few_below, queries.keys_below, low)
        keys = [*reversed(below), *((low,) if low == high else (low, high)), *above]
        is_ordered = all(map(lt, keys, keys[1:]))
    except (msgspec.MsgspecError, apsw.SQLError, TypeError, ValueError):  # keys of other types, or of no characters
        is_ordered = False
    if not is_ordered:
        raise damaged(table, low, "keys near it are in a wrong order")
    for query, bound in ((queries.row_above, high), (queries.row_below, low)):
        for key, value in execute(query, (bound,)).fetchall():
            unseal(table, key, value)


def _keys(execute: Execute, few: str, many: str, bound: Key) -> list[Key]:
    """Return the keys of a page or more. Long rows are few."""
    found, size = execute(few, (bound,)).fetchall()[0] if few else ("", 0)
    if (size or 0) < _MANY_BYTES:
        found = execute(many, (bound,)).fetchall()[0][0]
    keys: list[Key] = msgspec.json.decode(found)
    return keys
