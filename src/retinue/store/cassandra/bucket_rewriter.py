"""Rewriting of large buckets, and removal of unused ones.

The rows of a due bucket are copied into new ones, the list's partitioning changes, readers get time to notice, and only
then the old bucket is removed. A kill in between loses only disk space.
"""

from collections.abc import Callable
from typing import NamedTuple

from retinue.store.cassandra.accounts import revise, row_of, save_row
from retinue.store.cassandra.partitioning import Bucket, Partitioning, partitioning_of
from retinue.store.cassandra.partitioning import row_of as row_of_partitioning
from retinue.store.cassandra.row_buffer import RowBuffer
from retinue.store.cassandra.session import UNSET, Statement
from retinue.store.cassandra.table_definitions import ENTRY, LIST, Row
from retinue.store.cassandra.table_scan import scan

# Readers check for changes once a second, and a page takes less than one.
NOTICE_SECONDS = 2.0
_REMOVE = "DELETE FROM entry USING TIMESTAMP ? WHERE owner = ? AND kind = ? AND bucket = ?"
_LIST = "owner, kind, buckets, next_bucket"


class _Due(NamedTuple):
    owner: int
    kind: str
    bucket: Bucket


class BucketRewriter:
    """Runs between a writer's groups, with its lease.

    `commit` writes the changes as a group, and `timestamp` returns that of the next one.
    """

    def __init__(
        self,
        buffer: RowBuffer,
        renew_lease: Callable[[], None],
        commit: Callable[[], None],
        timestamp: Callable[[], int],
        pause: Callable[[float], object],
    ) -> None:
        self._buffer = buffer
        self._renew_lease = renew_lease
        self._commit = commit
        self._timestamp = timestamp
        self._pause = pause

    def run(self) -> None:
        """Rewrite the due buckets of lists that the last group changed."""
        due = [
            _Due(owner, kind, bucket)
            for owner, kind in self._buffer.last_changed(LIST)
            for bucket in self._partitioning(owner, kind).buckets
            if bucket.is_due
        ]
        if not due:
            return
        for each in due:
            self._copy(each)
        self._commit()
        self._pause(NOTICE_SECONDS)
        self._remove([(each.owner, each.kind, each.bucket.number) for each in due], self._timestamp())

    def remove_unused(self) -> None:
        """Remove buckets that are no longer used."""
        for owner, kind, *row in scan(self._buffer.session, _LIST, "list", "owner"):
            self._renew_lease()  # most lists have no unused buckets
            partitioning = partitioning_of(tuple(row))
            used = {bucket.number for bucket in partitioning.buckets}
            self._remove(
                [(owner, kind, number) for number in range(partitioning.next_bucket) if number not in used],
                self._timestamp(),
            )

    def _copy(self, due: _Due) -> None:
        """Copy a bucket's rows into new buckets. Remains of a killed attempt are removed first."""
        buffer = self._buffer
        owner, kind, old = due
        rows = list(buffer.rows_by_prefix(ENTRY, (owner, kind, old.number)))
        before = self._partitioning(owner, kind)
        partitioning = before.rewritten(old, [row[0] for row in rows])
        timestamp = self._timestamp()
        new = {bucket.number for bucket in partitioning.buckets} - {bucket.number for bucket in before.buckets}
        self._remove([(owner, kind, number) for number in new], timestamp - 1)
        copies = (
            Statement(ENTRY.insert, (owner, kind, partitioning.holding(row[0]).number, *_as_is(row), timestamp))
            for row in rows
        )
        buffer.session.write_all(copies)
        buffer.put(LIST, (owner, kind), row_of_partitioning(partitioning))
        save_row(buffer, owner, row_of(buffer, owner)._replace(is_partitioned=True))
        revise(buffer, owner)

    def _partitioning(self, owner: int, kind: str) -> Partitioning:
        return partitioning_of(self._buffer.get(LIST, (owner, kind)))

    def _remove(self, buckets: list[tuple[int, str, int]], timestamp: int) -> None:
        self._buffer.session.write_all(Statement(_REMOVE, (timestamp, *bucket)) for bucket in buckets)


def _as_is(row: Row) -> Row:
    """Replace nulls by UNSET for a new row. Writing a null would store a tombstone."""
    return tuple(UNSET if value is None else value for value in row)
