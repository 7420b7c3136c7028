"""Writing a group of changes as one: all of it is done, or (after a crash) done by whoever writes next.

First the whole group is written into one row, the redo; only when a quorum has that, the changes themselves follow. New
rows come before deleted ones, so that what moves from one place to another is never in neither; where the graph stands
comes last, so that readers who take notice of it find everything else. A group may be done again, as long as no later
one was begun: every change carries the group's timestamp.
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
    """A session, to read one row."""

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        """Run one read to its end."""
        ...


class RedoLog:
    """The groups of one keyspace. Only the holder of the lease may write them: the session keeps it."""

    def __init__(self, session: RetryingSession) -> None:
        self._session = session
        self._decoder = msgpack.Decoder(list[Change])

    def write(self, changes: list[Change], timestamp: int) -> None:
        """Write a group. When this returns, a quorum has it; where it raises, `redo` finishes it or undoes nothing."""
        body = msgpack.encode(changes)
        self._session.write_all([Statement(_SAVE, (_NAME, timestamp, body, timestamp))])
        self._apply(changes, timestamp)

    def replay(self) -> None:
        """Do the last group once more, to its end."""
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
    """Return the timestamp of the last group that was begun; 0 if none was."""
    found = session.rows(_LAST_TIMESTAMP, (_NAME,))
    return int(found[0][0]) if found else 0


def _statement(change: Change, timestamp: int) -> Statement:
    table = TABLES[change.table]
    if change.columns is None:
        return Statement(table.delete, (timestamp, *change.key))
    values = (change.columns.get(name, UNSET) for name in table.columns)
    return Statement(table.insert, (*change.key, *values, timestamp))
