"""Rows of tables of any kind, and the check of their columns."""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from retinue.errors import InputError
from retinue.ingest.records import Columns


class RawRow(NamedTuple):
    """One row as the file has it; with a `fault` its values cannot be read. `line` is a row number in Parquet.

    `replaced` counts the lone surrogates in its text, each of which is U+FFFD in its values; `changed` has the fields
    with such a value.
    """

    line: int
    values: dict[str, Any]
    text: str
    fault: str = ""
    replaced: int = 0
    changed: frozenset[str] = frozenset()


class Table(Protocol):
    """An opened file."""

    size: int

    @property
    def position(self) -> int:
        """How far reading is, of `size`."""
        ...

    def __iter__(self) -> Iterator[RawRow]: ...

    def close(self) -> None:
        """Give the file back."""
        ...


def check_columns(file: str, found: list[str], columns: Columns) -> None:
    """Refuse a table with other columns than these. Raises `InputError`."""
    for wrong, names in (
        ("lacks the column", [name for name in columns.required if name not in found]),
        ("has the unknown column", [name for name in found if name not in columns.known]),
        ("has more than one column", [name for name in found if found.count(name) > 1]),
    ):
        if names:
            known = ", ".join(columns.required + columns.optional)
            raise InputError(f"{file}: {wrong} {names[0]!r}; columns are {known}; found: {', '.join(found)[:200]}")
