"""The tables that a writer uses row by row: keys, columns and statements. Pure."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

Key = tuple[Any, ...]
Row = tuple[Any, ...]


class TableDefinition:
    """A table.

    `prefix_length` columns of the key select several rows. `is_wide`: they are all but the last one, and rows that
    share them are read together.
    """

    def __init__(
        self, name: str, key: Sequence[str], columns: Sequence[str], *, prefix_length: int = 0, is_wide: bool = False
    ) -> None:
        self.is_wide = is_wide
        self.name = name
        self.key = tuple(key)
        self.columns = tuple(columns)
        self.prefix_length = prefix_length or len(key)

    @cached_property
    def select(self) -> str:
        return f"SELECT {self._or_key(self.columns)} FROM {self.name} WHERE {_equal(self.key)}"

    @cached_property
    def insert(self) -> str:
        """Insert one row; the timestamp comes last. Unset columns stay as they are."""
        names = (*self.key, *self.columns)
        marks = ", ".join("?" * len(names))
        return f"INSERT INTO {self.name} ({', '.join(names)}) VALUES ({marks}) USING TIMESTAMP ?"

    @cached_property
    def delete(self) -> str:
        """Delete one row; the timestamp comes first."""
        return f"DELETE FROM {self.name} USING TIMESTAMP ? WHERE {_equal(self.key)}"

    @cached_property
    def select_prefix(self) -> str:
        rest = (*self.key[self.prefix_length :], *self.columns)
        return f"SELECT {', '.join(rest)} FROM {self.name} WHERE {_equal(self.key[: self.prefix_length])}"

    @cached_property
    def select_many(self) -> str:
        """Select rows that differ in the key's last column. It is bound as a list."""
        *same, last = self.key
        return f"SELECT {', '.join((last, *self.columns))} FROM {self.name} WHERE {_equal(same)} AND {last} IN ?"

    def _or_key(self, columns: Sequence[str]) -> str:
        return ", ".join(columns) or self.key[0]


def _equal(names: Sequence[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in names)


ACCOUNT = TableDefinition(
    "account",
    ["id"],
    [
        "key",
        "folded",
        "username",
        "username_at",
        "display_name",
        "display_name_at",
        "visibility",
        "visibility_at",
        "said",
        "claimed",
        "moving",
        "is_cut",
    ],
)
ACCOUNT_KEY = TableDefinition("account_key", ["key"], ["account"])
USERNAME = TableDefinition("username", ["folded"], ["holder", "claims"])
ENTRY = TableDefinition(
    "entry", ["owner", "kind", "bucket", "position", "account"], ["started_at", "ended_at"], prefix_length=3
)
LIST = TableDefinition("list", ["owner", "kind"], ["buckets", "next_bucket"], prefix_length=1, is_wide=True)
TAKEN = TableDefinition("taken", ["owner", "direction", "block"], ["stretches"], prefix_length=2)
PLACED_INTERVALS = "standings"  # the name of their column in the keyspace
PAIR = TableDefinition("pair", ["follower", "followee"], ["moments", PLACED_INTERVALS], is_wide=True)
LATE = TableDefinition("late", ["owner", "direction"], [])
FUTURE_EVENT = TableDefinition(
    "postdated", ["account", "mirrored", "other", "event", "claimed_at"], ["at"], prefix_length=1
)
RELOCATION = TableDefinition("moving", ["slot", "number"], ["account", "merge", "direction", "position"])
CHANGE = TableDefinition("change", ["slot", "revision"], ["account"])
TOMBSTONE = TableDefinition("tombstone", ["mac"], [])
GRAPH = TableDefinition("graph", ["name"], ["body"])
_ALL = (
    ACCOUNT, ACCOUNT_KEY, USERNAME, ENTRY, LIST, TAKEN, PAIR, LATE, FUTURE_EVENT, RELOCATION, CHANGE, TOMBSTONE, GRAPH,
)  # fmt: skip
TABLES = {table.name: table for table in _ALL}
