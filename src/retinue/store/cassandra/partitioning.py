"""The partitioning of a list into buckets, and their limits. Pure.

A partition must not grow without bound, nor fill up with tombstones, which each page would have to read past. A due
bucket is rewritten into new ones.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from retinue.store.cassandra.table_definitions import Row

MAX_ROWS = 50_000  # some 3 MB; small partitions are paged faster, and nodes expect less than 100 MB
MAX_REMOVED = 1_000


class Bucket(Struct, frozen=True):
    """A bucket: its lowest position, number, rows, and deleted rows."""

    lowest: int
    number: int
    rows: int = 0
    removed: int = 0

    @property
    def is_due(self) -> bool:
        return self.rows > MAX_ROWS or self.removed > max(MAX_REMOVED, self.rows // 4)


class Partitioning(Struct, frozen=True):
    """The buckets of a list, newest first. Numbers from `next_bucket` on were never used."""

    buckets: tuple[Bucket, ...] = (Bucket(0, 0),)
    next_bucket: int = 1

    @property
    def rows(self) -> int:
        return sum(bucket.rows for bucket in self.buckets)

    @property
    def is_plain(self) -> bool:
        """Whether all entries are in bucket 0, as readers assume by default."""
        return len(self.buckets) == 1 and self.buckets[0].number == 0

    def holding(self, position: int) -> Bucket:
        """Return the bucket that holds a position."""
        return next(bucket for bucket in self.buckets if bucket.lowest <= position)

    def reaching(self, bound: int) -> Sequence[Bucket]:
        """Return the buckets with positions up to a bound, newest first."""
        return [bucket for bucket in self.buckets if bucket.lowest <= bound]

    def counted(self, position: int, *, rows: int, removed: int) -> "Partitioning":
        """Return it with more rows and deletions in a position's bucket."""
        held = self.holding(position)
        new = replace(held, rows=held.rows + rows, removed=held.removed + removed)
        return replace(self, buckets=tuple(new if bucket is held else bucket for bucket in self.buckets))

    def rewritten(self, old: Bucket, positions: Sequence[int]) -> "Partitioning":
        """Return it with new, half-full buckets instead of `old`.

        `positions` are those in `old`, newest first.
        """
        if not positions and len(self.buckets) > 1:
            kept = [bucket for bucket in self.buckets if bucket != old]
            kept[-1] = replace(kept[-1], lowest=0)
            return Partitioning(tuple(kept), self.next_bucket)
        size = MAX_ROWS // 2
        lowest = [positions[min(end, len(positions)) - 1] for end in range(size, len(positions) + size, size)]
        lowest[-1:] = [old.lowest]  # the oldest reaches down as far as the old one did
        new = tuple(
            Bucket(position, self.next_bucket + index, min(size, len(positions) - index * size))
            for index, position in enumerate(lowest)
        )
        at = self.buckets.index(old)
        buckets = (*self.buckets[:at], *new, *self.buckets[at + 1 :])
        return Partitioning(buckets, self.next_bucket + len(new))


UNPARTITIONED = Partitioning()


def partitioning_of(row: Row | None) -> Partitioning:
    """Return the partitioning in a row of the table `list`."""
    if row is None or row[0] is None:
        return UNPARTITIONED
    buckets, next_bucket = row
    return Partitioning(tuple(Bucket(*bucket) for bucket in buckets), next_bucket)


def row_of(partitioning: Partitioning) -> Row:
    """Return the row for a partitioning."""
    buckets = [(bucket.lowest, bucket.number, bucket.rows, bucket.removed) for bucket in partitioning.buckets]
    return buckets, partitioning.next_bucket
