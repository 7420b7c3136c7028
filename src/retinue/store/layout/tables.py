"""The tables of a graph and the contract of the engines that hold them. Knows no technology, and no rule.

A row is a key and bytes. Keys are numbers, pairs of numbers or texts; a pair of 31 and 32 bits is one number too, so
that an engine may keep it as an integer: rows of one first number are adjacent, in the order of the second.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from enum import Enum
from typing import NamedTuple, Protocol

from msgspec import Struct

from retinue.model import Direction

LAST_SECOND = 0xFFFFFFFF  # the last slot of a list
LARGEST_ID = 0x7FFFFFFF
LARGEST_KEY = 0x7FFFFFFFFFFFFFFF

_SHIFT = 32

Key = int | str


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
    """The tables of all lists of one direction. Keys: owner and first slot, owner, owner and the other account."""

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


def pair_key(first: int, second: int) -> int:
    """Return the key of two numbers of 31 and 32 bits."""
    return first << _SHIFT | second


def first_of(key: int) -> int:
    """Return the first number of a pair."""
    return key >> _SHIFT


def second_of(key: int) -> int:
    """Return the second number of a pair."""
    return key & LAST_SECOND


class Changes(NamedTuple):
    """Rows of one table to be written, by ascending keys, and keys to be removed."""

    table: Table
    puts: list[tuple[Key, bytes]]
    deletes: list[Key]


class Source(Protocol):
    """Read access to rows, all of one state of the store. Values are sealed (`sealing.py`)."""

    def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys, in their order."""
        ...

    def scan(
        self, table: Table, low: Key, high: Key, *, reverse: bool = False, limit: int = -1
    ) -> list[tuple[Key, bytes]]:
        """Return the rows from one key to another, both included, at most `limit` of them if that is not -1.

        Tables of texts are not scanned, and of pairs only a few first numbers.
        """
        ...

    def rows_of(self, table: Table, owners: Sequence[int]) -> list[tuple[int, bytes]]:
        """Return the rows of ascending first numbers, in the order of their keys."""
        ...

    def has_rows(self, table: Table) -> bool:
        """Return whether a table may have rows; False only if it has none."""
        ...

    def all_rows(self, table: Table) -> Iterator[tuple[Key, bytes]]:
        """Yield every row of a table; those of one first number are adjacent and ascending."""
        ...


class Engine(Source, Protocol):
    """The rows of a store, for one writer at a time."""

    def exclusive(self, *, is_durable: bool = False) -> AbstractContextManager[bool]:
        """Hold the store alone during the block, which gets whether another writer may have been here since.

        What is not committed in the block is lost. If durable, commits in it survive a power loss.
        """
        ...

    def commit(self, changes: Iterable[Changes]) -> None:
        """Write rows, all or none, also if the process is killed, and end the unit of work."""
        ...

    def write(self, changes: Changes) -> None:
        """Write rows of the unit at hand before its commit, when there are too many for memory.

        Raises `NotImplementedError` if this engine cannot.
        """
        ...
