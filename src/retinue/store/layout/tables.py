"""The tables of a graph, and the contract of engines.

A row is a key and bytes. A key is a number, a text, or a pair of 31 and 32 bits. A pair is one number too: rows with
the same first number are adjacent, ordered by the second.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from retinue.model import Direction

LAST_SECOND = 0xFFFFFFFF  # the last slot of a list
LARGEST_ID = 0x7FFFFFFF
LARGEST_KEY = 0x7FFFFFFFFFFFFFFF

SECRET, STORE_ID, TOMBSTONES = "secret", "store_id", "tombstones"  # keys of the table META
SECRET_BYTES = 32

_SHIFT = 32

Key = int | str
NumberRows = list[tuple[int, bytes]]


class KeyKind(Enum):
    """The form of a table's keys."""

    NUMBER = "number"
    PAIR = "pair"
    TEXT = "text"


class Table(Struct, frozen=True, eq=False):
    """A table. Its `number` goes into checksums, so it never changes."""

    number: int
    name: str
    keys: KeyKind = KeyKind.NUMBER


class ListTables(NamedTuple):
    """The tables of all lists of one direction.

    An owner's blocks and runs are keyed by owner and first slot, facts by owner, histories by owner and other account.
    """

    visible: Table
    hidden: Table
    runs: Table
    facts: Table
    histories: Table


def _list_tables(first: int, direction: Direction) -> ListTables:
    name = direction.value
    return ListTables(
        Table(first, name, KeyKind.PAIR),
        Table(first + 1, f"{name}_hidden", KeyKind.PAIR),
        Table(first + 2, f"{name}_run", KeyKind.PAIR),
        Table(first + 3, f"{name}_facts"),
        Table(first + 4, f"{name}_history", KeyKind.PAIR),
    )


META = Table(1, "meta", KeyKind.TEXT)
ACCOUNT = Table(2, "account")
ACCOUNT_KEY = Table(3, "account_key", KeyKind.TEXT)
USERNAME = Table(4, "username", KeyKind.TEXT)
CLAIM = Table(5, "claim", KeyKind.TEXT)
CHANGE = Table(6, "change")
RELOCATION = Table(7, "relocation", KeyKind.PAIR)
TOMBSTONE = Table(8, "tombstone", KeyKind.TEXT)
FUTURE_EVENT = Table(9, "future_event", KeyKind.PAIR)
LISTS = {
    Direction.FOLLOWING: _list_tables(10, Direction.FOLLOWING),
    Direction.FOLLOWERS: _list_tables(20, Direction.FOLLOWERS),
}
TABLES = (
    *(META, ACCOUNT, ACCOUNT_KEY, USERNAME, CLAIM, CHANGE, RELOCATION, TOMBSTONE, FUTURE_EVENT),
    *(table for tables in LISTS.values() for table in tables),
)


def new_meta() -> dict[str, bytes]:
    """Return the rows of the table META of a new store."""
    return {SECRET: secrets.token_bytes(SECRET_BYTES), STORE_ID: new_store_id()}


def new_store_id() -> bytes:
    """Return a random id, by which a row file knows its store."""
    return secrets.token_bytes(16)


def pair_key(first: int, second: int) -> int:
    """Return the key of a pair of numbers."""
    return first << _SHIFT | second


def first_of(key: int) -> int:
    """Return the first number of a pair."""
    return key >> _SHIFT


def second_of(key: int) -> int:
    """Return the second number of a pair."""
    return key & LAST_SECOND


class Changes(NamedTuple):
    """Ascending rows to write to one table, and keys to remove."""

    table: Table
    puts: list[tuple[Key, bytes]]
    deletes: list[Key]


class Source(Protocol):
    """Read access to sealed rows (`sealing.py`) of one state of the store."""

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, in their order."""
        ...

    def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        """Return at most `limit` rows between two keys, both included. Pairs: of a few first numbers."""
        ...

    def rows_of(self, table: Table, owners: Sequence[int]) -> NumberRows:
        """Return all rows of ascending first numbers, ordered by key."""
        ...

    def has_rows(self, table: Table) -> bool:
        """Return False only if a table is empty."""
        ...

    def all_rows(self, table: Table) -> Iterator[tuple[Any, bytes]]:
        """Yield every row of a table. Rows of one first number are adjacent, ascending."""
        ...


class Engine(Source, Protocol):
    """The rows of a store, for one writer at a time."""

    has_bulk: bool  # whether it has `write`
    group_size: int  # the largest number of records or events of one unit of work

    def exclusive(self, *, is_durable: bool = False) -> AbstractContextManager[bool]:
        """Keep other writers out during the block.

        The block gets whether another writer may have changed rows since the last one. Uncommitted changes are lost at
        its end. If durable, commits survive a power loss.
        """
        ...

    def group_seconds(self) -> float:
        """Return how long this unit of work may take: less if another writer waits."""
        ...

    def commit(self, changes: Iterable[Changes]) -> None:
        """Write all changes or none, even if killed. Ends the unit of work."""
        ...

    def write(self, changes: Changes) -> None:
        """Write changes before the commit, if they are too many for memory."""
        ...

    def compact(self) -> None:
        """Remove every byte that is not stored any more."""
        ...

    def settle(self) -> None:
        """Make all commits so far survive a power loss."""
        ...

    def close(self) -> None:
        """Release files and connections."""
        ...
