"""The redo log: groups of changes are applied completely, also after a crash.

The whole group is first written into one row. Its changes follow: new rows before deleted ones, so that a moved entry
is never missing; the graph state last. Every change carries the group's timestamp, so a group may be replayed.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from msgspec import msgpack

from retinue.store.cassandra.retry import RetryingSession
from retinue.store.cassandra.row_buffer import Change
from retinue.store.cassandra.session import UNSET, Statement
from retinue.store.cassandra.table_definitions import GRAPH, TABLES, Row

_NAME = "graph"
_SAVE = "INSERT INTO redo (name, writing, body) VALUES (?, ?, ?) USING TIMESTAMP ?"
_LAST_TIMESTAMP = "SELECT writing FROM redo WHERE name = ?"
_LOAD = "SELECT writing, body FROM redo WHERE name = ?"


class Reads(Protocol):
    """A session that reads rows."""

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]: ...


class RedoLog:
    """The redo log of a keyspace. Only the holder of the lease may write."""

    def __init__(self, session: RetryingSession) -> None:
        self._session = session
        self._decoder = msgpack.Decoder(list[Change])

    def write(self, changes: list[Change], timestamp: int) -> None:
        """Write and apply a group.

        On return a quorum has it. After an error, the next `replay` completes it, if it was logged.
        """
        body = msgpack.encode(changes)
        self._session.write_all([Statement(_SAVE, (_NAME, timestamp, body, timestamp))])
        self._apply(changes, timestamp)

    def replay(self) -> None:
        for timestamp, body in self._session.rows(_LOAD, (_NAME,)):
            self._apply(self._decoder.decode(body), timestamp)

    def _apply(self, changes: Iterable[Change], timestamp: int) -> None:
        kept, deleted, last = [], [], []
        for change in changes:
            if change.columns is None:
                deleted.append(_statement(change, timestamp))
            elif change.table == GRAPH.name:
                last.append(_statement(change, timestamp))
            else:
                kept.append(_statement(change, timestamp))
        for statements in (kept, deleted, last):
            self._session.write_all(statements)


def last_timestamp(session: Reads) -> int:
    """Return the timestamp of the last logged group, or 0."""
    found = session.rows(_LAST_TIMESTAMP, (_NAME,))
    return int(found[0][0]) if found else 0


def _statement(change: Change, timestamp: int) -> Statement:
    table = TABLES[change.table]
    if change.columns is None:
        return Statement(table.delete, (timestamp, *change.key))
    values = (change.columns.get(name, UNSET) for name in table.columns)
    return Statement(table.insert, (*change.key, *values, timestamp))
