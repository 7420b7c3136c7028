"""The redo log: all statements of a group, saved before its commit and run after.

Their timestamps are the group's number. So any writer may repeat them at any time without changing what a later group
has written.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

from msgspec import MsgspecError, Struct, msgpack

from retinue.errors import StoreUnavailable
from retinue.store.cassandra.lease import Commits
from retinue.store.cassandra.retry import RetryingSession
from retinue.store.cassandra.statements import Statement

PIECE_BYTES = 256 * 1024
_OVERHEAD_BYTES = 64  # of a statement in the log, beside its value

# The statements of a group. The values of each begin with its partition key; `SET` and `DROP` are for tables of keys.
SET, DROP, PUT, POINT, ERASE, DIVIDE = range(6)
_QUERIES = (
    "INSERT INTO {} (key, value) VALUES (?, ?) USING TIMESTAMP ?",
    "DELETE FROM {} USING TIMESTAMP ? WHERE key = ?",
    "INSERT INTO {} (owner, part, kind, slot, value) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP ?",
    "INSERT INTO {} (owner, part, kind, slot, value, child) VALUES (?, ?, ?, ?, ?, ?) USING TIMESTAMP ?",
    "DELETE FROM {} USING TIMESTAMP ? WHERE owner = ? AND part = ? AND kind = ? AND slot > ? AND slot < ?",
    "INSERT INTO {} (name, owner, parts) VALUES (?, ?, ?) USING TIMESTAMP ?",
)
_DELETIONS = frozenset((DROP, ERASE))
_KEY_COLUMNS = (1, 1, 2, 2, 2, 1)

_SAVE = "INSERT INTO redo (writer, attempt, piece, body) VALUES (?, ?, ?, ?) USING TIMESTAMP ?"
_LOAD = "SELECT piece, body FROM redo WHERE writer = ? AND attempt = ?"
_REMOVE = "DELETE FROM redo USING TIMESTAMP ? WHERE writer = ? AND attempt <= ?"


class Write(Struct, frozen=True, array_like=True, gc=False):
    """One statement.

    Lower phases run first. In a phase, statements for one partition take effect at once.
    """

    phase: int
    table: str
    verb: int
    values: tuple[Any, ...]

    @property
    def partition(self) -> tuple[Any, ...]:
        return (self.table, *self.values[: _KEY_COLUMNS[self.verb]])

    @property
    def size(self) -> int:
        return _OVERHEAD_BYTES + sum(len(value) for value in self.values if isinstance(value, bytes | str))


_encode = msgpack.Encoder().encode
_decode = msgpack.Decoder(list[Write]).decode


class RedoLog:
    """The redo log of one writer, and access to those of others."""

    def __init__(self, session: RetryingSession, writer: str) -> None:
        self._session = session
        self.writer = writer
        self.attempt = 0

    def save(self, writes: Iterable[Write], group: int) -> tuple[int, int]:
        """Store the log of a group; return attempt and number of pieces."""
        self.attempt += 1
        pieces = [_encode(piece) for piece in _pieces(writes)]
        self._session.write_all(
            Statement(_SAVE, (self.writer, self.attempt, number, body, group), (self.writer, number))
            for number, body in enumerate(pieces)
        )
        return self.attempt, len(pieces)

    def load(self, commits: Commits) -> list[Write]:
        pieces: dict[int, bytes] = dict(self._session.rows(_LOAD, (commits.writer, commits.attempt)))
        try:
            return [write for number in range(commits.pieces or 0) for write in _decode(pieces[number])]
        except (KeyError, MsgspecError) as error:
            raise StoreUnavailable(f"the redo log of group {commits.committed} is not whole; it is damaged") from error

    def run(self, writes: Iterable[Write], group: int) -> None:
        for _, phase in groupby(sorted(writes, key=_order), key=lambda write: write.phase):
            self._session.write_all(_statement(write, group) for write in phase)

    def remove(self, group: int, writer: str | None = None, attempt: int | None = None) -> None:
        values = (group, writer or self.writer, attempt or self.attempt)
        self._session.write_all([Statement(_REMOVE, values)])


def _order(write: Write) -> tuple[Any, ...]:
    return (write.phase, *write.partition)


def _statement(write: Write, group: int) -> Statement:
    values = (group, *write.values) if write.verb in _DELETIONS else (*write.values, group)
    return Statement(_QUERIES[write.verb].format(write.table), values, write.partition)


def _pieces(writes: Iterable[Write]) -> Iterator[list[Write]]:
    piece: list[Write] = []
    size = 0
    for write in writes:
        piece.append(write)
        size += write.size
        if size >= PIECE_BYTES:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece
