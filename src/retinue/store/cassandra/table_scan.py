"""Scans of whole tables, however many rows were deleted.

Nodes refuse a read that passes over too many deleted rows, so a refused range is read in halves.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, Protocol

from retinue.store.cassandra.session import ReadRefused, Row

_LOWEST, _HIGHEST = -(1 << 63), (1 << 63) - 1  # tokens; no partition has the lowest


class Streams(Protocol):
    """A session that runs long reads."""

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]: ...


def scan(session: Streams, columns: str, table: str, key: str) -> Iterator[Row]:
    """Yield these columns of all rows. Memory holds one partition."""
    return _scan(session, f"SELECT token({key}), {columns} FROM {table}", key)


def scan_partitions(session: Streams, table: str, key: str) -> Iterator[Row]:
    """Yield the key of each partition."""
    return _scan(session, f"SELECT DISTINCT token({key}), {key} FROM {table}", key)


def _scan(session: Streams, query: str, key: str) -> Iterator[Row]:
    query = f"{query} WHERE token({key}) > ? AND token({key}) <= ?"
    ranges = [(_LOWEST, _HIGHEST)]
    while ranges:
        done, last = ranges.pop()
        try:
            for token, rows in groupby(session.stream(query, (done, last)), lambda row: row[0]):
                partition = [row[1:] for row in rows]
                done = token
                yield from partition
        except ReadRefused:
            if last == done + 1:  # one partition alone is too much
                raise
            middle = (done + last) // 2
            ranges += [(middle, last), (done, middle)]
