"""The tables that a writer works on row by row: their keys and columns, and the statements that this makes. Pure."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

Key = tuple[Any, ...]
Row = tuple[Any, ...]


class Shape:
    """A table. Of the key's columns the first `within` are said when several rows are read at once.

    `is_wide`: those are all but the last one, and rows that share them are asked for together.
    """

    def __init__(
        self, table: str, key: Sequence[str], columns: Sequence[str], *, within: int = 0, is_wide: bool = False
    ) -> None:
        self.is_wide = is_wide
        self.table = table
        self.key = tuple(key)
        self.columns = tuple(columns)
        self.within = within or len(key)

    @cached_property
    def select(self) -> str:
        """One row by its key: its columns."""
        return f"SELECT {self._or_key(self.columns)} FROM {self.table} WHERE {_equal(self.key)}"

    @cached_property
    def insert(self) -> str:
        """One row, all columns, with a timestamp at the end. Columns that are left unset stay as they are."""
        names = (*self.key, *self.columns)
        marks = ", ".join("?" * len(names))
        return f"INSERT INTO {self.table} ({', '.join(names)}) VALUES ({marks}) USING TIMESTAMP ?"

    @cached_property
    def delete(self) -> str:
        """One row; the timestamp comes first."""
        return f"DELETE FROM {self.table} USING TIMESTAMP ? WHERE {_equal(self.key)}"

    @cached_property
    def all_within(self) -> str:
        """The rows that share the first part of the key, with the rest of the key in front."""
        rest = (*self.key[self.within :], *self.columns)
        return f"SELECT {', '.join(rest)} FROM {self.table} WHERE {_equal(self.key[: self.within])}"

    @cached_property
    def some_within(self) -> str:
        """Several rows that share all of the key but its last column, with that in front; its values come as a list."""
        *same, last = self.key
        return f"SELECT {', '.join((last, *self.columns))} FROM {self.table} WHERE {_equal(same)} AND {last} IN ?"

    def _or_key(self, columns: Sequence[str]) -> str:
        return ", ".join(columns) or self.key[0]


def _equal(names: Sequence[str]) -> str:
    return " AND ".join(f"{name} = ?" for name in names)


ACCOUNT = Shape(
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
ACCOUNT_KEY = Shape("account_key", ["key"], ["account"])
USERNAME = Shape("username", ["folded"], ["holder", "claims"])
ENTRY = Shape("entry", ["owner", "kind", "bucket", "position", "account"], ["started_at", "ended_at"], within=3)
LIST = Shape("list", ["owner", "kind"], ["buckets", "next_bucket"], within=1, is_wide=True)
TAKEN = Shape("taken", ["owner", "direction", "block"], ["stretches"], within=2)
PAIR = Shape("pair", ["follower", "followee"], ["moments", "standings"], is_wide=True)
LATE = Shape("late", ["owner", "direction"], [])
POSTDATED = Shape("postdated", ["account", "mirrored", "other", "event", "claimed_at"], ["at"], within=1)
MOVING = Shape("moving", ["slot", "number"], ["account", "merge", "direction", "position"])
CHANGE = Shape("change", ["slot", "revision"], ["account"])
TOMBSTONE = Shape("tombstone", ["mac"], [])
GRAPH = Shape("graph", ["name"], ["body"])
_ALL = (
    ACCOUNT, ACCOUNT_KEY, USERNAME, ENTRY, LIST, TAKEN, PAIR, LATE, POSTDATED, MOVING, CHANGE, TOMBSTONE, GRAPH,
)  # fmt: skip
SHAPES = {shape.table: shape for shape in _ALL}
