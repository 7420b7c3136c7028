"""The places of the layout's tables in the keyspace.

All rows of a list are in one partition, so readers see a group's changes of a list all at once. Each table of a
direction is a `kind` of rows there.
"""

from typing import Any, NamedTuple

from retinue.model import Direction
from retinue.store.layout.tables import (
    ACCOUNT,
    ACCOUNT_KEY,
    CHANGE,
    CLAIM,
    FUTURE_EVENT,
    LISTS,
    META,
    RELOCATION,
    TOMBSTONE,
    USERNAME,
    Table,
    first_of,
    pair_key,
    second_of,
)

LAST_SLOT = 1 << 62
NEWEST = 0  # the part of a list that is not divided, else its newest one
_REVISIONS_SHIFT = 12  # 4,096 revisions in one partition


class TablePlace(NamedTuple):
    """The place of a table with owners and slots."""

    name: str  # of the table in the keyspace
    kind: int
    is_divisible: bool = False  # into parts


PLAIN = frozenset((META, ACCOUNT, ACCOUNT_KEY, USERNAME, CLAIM, TOMBSTONE))
_FACTS = frozenset(tables.facts for tables in LISTS.values())
PLACES = {
    CHANGE: TablePlace("change", 0),
    RELOCATION: TablePlace("relocation", 0),
    FUTURE_EVENT: TablePlace("future_event", 0),
} | {
    table: TablePlace(direction.value, kind, table not in _FACTS)
    for direction in Direction
    for kind, table in enumerate(LISTS[direction])
}


def slot_of(table: Table, key: Any) -> tuple[int, int]:
    """Return owner and slot of a key."""
    if table is CHANGE:
        return key >> _REVISIONS_SHIFT, key
    return (key, 0) if table in _FACTS else (first_of(key), second_of(key))


def key_of(table: Table, owner: int, slot: int) -> int:
    """Return the key of an owner's slot."""
    if table is CHANGE:
        return slot
    return owner if table in _FACTS else pair_key(owner, slot)


def is_single(table: Table) -> bool:
    """Return whether readers never scan past removed rows."""
    return table is CHANGE or table in _FACTS
