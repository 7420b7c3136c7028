"""Into which buckets a list is cut, and when one has to be written anew. Pure.

A partition must not grow without end, and must not fill up with the tombstones of deleted rows: they would stand in
front of each page. So a bucket that holds too much of either is written anew, into buckets of other numbers.
"""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from retinue.store.cassandra.table_definitions import Row

MAX_ROWS = 50_000  # some 3 MB; nodes like partitions below 100 MB, and page through them the better the smaller
MAX_REMOVED = 1_000


class Bucket(Struct, frozen=True):
    """A bucket: the lowest position that it may hold, its number, its rows, and how many rows were deleted of it."""

    lowest: int
    number: int
    rows: int = 0
    removed: int = 0

    @property
    def is_due(self) -> bool:
        """Whether it has to be written anew."""
        return self.rows > MAX_ROWS or self.removed > max(MAX_REMOVED, self.rows // 4)


class Partitioning(Struct, frozen=True):
    """How a list is cut: its buckets, newest first. Numbers from `next_bucket` on were never used."""

    buckets: tuple[Bucket, ...] = (Bucket(0, 0),)
    next_bucket: int = 1

    @property
    def rows(self) -> int:
        """How many entries the list has."""
        return sum(bucket.rows for bucket in self.buckets)

    @property
    def is_plain(self) -> bool:
        """Whether all of it is in bucket 0, where a list is looked for unless somebody says otherwise."""
        return len(self.buckets) == 1 and self.buckets[0].number == 0

    def holding(self, position: int) -> Bucket:
        """The bucket that holds a position."""
        return next(bucket for bucket in self.buckets if bucket.lowest <= position)

    def reaching(self, bound: int) -> Sequence[Bucket]:
        """The buckets that hold positions at or before a bound, newest first."""
        return [bucket for bucket in self.buckets if bucket.lowest <= bound]

    def counted(self, position: int, *, rows: int, removed: int) -> "Partitioning":
        """With so many rows and deletions more in the bucket that holds a position."""
        held = self.holding(position)
        new = replace(held, rows=held.rows + rows, removed=held.removed + removed)
        return replace(self, buckets=tuple(new if bucket is held else bucket for bucket in self.buckets))

    def rewritten(self, old: Bucket, positions: Sequence[int]) -> "Partitioning":
        """With new buckets instead of one that holds these positions, newest first. Each begins half full.

        One that is empty goes, if it is not the only one: its seconds fall to a neighbour.
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
    """The cut in a row of the table `list`."""
    if row is None or row[0] is None:
        return UNPARTITIONED
    buckets, next_bucket = row
    return Partitioning(tuple(Bucket(*bucket) for bucket in buckets), next_bucket)


def row_of(partitioning: Partitioning) -> Row:
    """The row for a cut."""
    buckets = [(bucket.lowest, bucket.number, bucket.rows, bucket.removed) for bucket in partitioning.buckets]
    return buckets, partitioning.next_bucket
