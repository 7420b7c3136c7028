"""Verification that a row is really absent.

Changed keys and swapped pages hide rows, and SQLite notices neither. Both leave keys in a wrong order: within a page,
or between the page that SQLite read and its neighbors.
"""

from retinue.store.layout.sealing import damaged, unseal
from retinue.store.layout.tables import LISTS, USERNAME, Key, Table
from retinue.store.sqlite.files import Execute

# A reader takes a missing row of these for an empty list, or an unknown name.
NOTICED = frozenset({USERNAME} | {table for tables in LISTS.values() for table in (tables.visible, tables.hidden)})

_PAGE_BYTES = 4096
_FEW_ROWS = 16
_PAGE_ROWS = 256  # a row has at least 16 bytes
_QUERIES = {
    table: (
        f"SELECT key, value FROM {table.name} WHERE key > ? ORDER BY key LIMIT ?",
        f"SELECT key, value FROM {table.name} WHERE key < ? ORDER BY key DESC LIMIT ?",
    )
    for table in NOTICED
}


def require_absent(execute: Execute, table: Table, low: Key, high: Key) -> None:
    """Raise `StoreUnavailable` if damage may hide rows between two keys."""
    up, down = _QUERIES[table]
    above, below = _page(execute, up, high), _page(execute, down, low)
    keys = [*(key for key, _ in reversed(below)), low, high, *(key for key, _ in above)]
    if keys != sorted(keys) or len({*keys}) != len(keys) - (low == high):
        raise damaged(table, low, "keys near it are in a wrong order")
    for key, value in (*above[:1], *below[:1]):
        unseal(table, key, value)


def _page(execute: Execute, query: str, bound: Key) -> list[tuple[Key, bytes]]:
    """Return the rows nearest to a key, from more than one page."""
    rows = execute(query, (bound, _FEW_ROWS)).fetchall()
    if len(rows) == _FEW_ROWS and sum(len(value) for _, value in rows) < _PAGE_BYTES:
        rows = execute(query, (bound, _PAGE_ROWS)).fetchall()
    return rows
