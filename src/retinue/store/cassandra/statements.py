"""Statements with values, and batches of writes. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

# Nodes complain of batches of more than ten partitions, and of more than 5 KiB with all that goes with the values.
BATCH_PARTITIONS, BATCH_BYTES = 10, 2_500
# Of one partition: nodes store it as a whole, up to 16 MiB.
MAX_BATCH_ROWS, MAX_BATCH_BYTES = 20_000, 8 * 1024 * 1024

Row = tuple[Any, ...]
_Item = TypeVar("_Item")


class Statement(NamedTuple):
    """A query with values.

    Adjacent writes to one named partition take effect at once.
    """

    query: str
    values: Sequence[Any] = ()
    partition: object = None

    @property
    def size(self) -> int:
        return sum(len(value) for value in self.values if isinstance(value, bytes | str))


def chunks(items: Sequence[_Item], size: int) -> Iterator[Sequence[_Item]]:
    """Yield all items in pieces of a size."""
    return (items[begin : begin + size] for begin in range(0, len(items), size))


def batched(statements: Iterable[Statement]) -> Iterator[list[Statement]]:
    """Combine small writes, because sending dominates their cost.

    Each partition still changes by itself.
    """
    batch: list[Statement] = []
    partitions = size = 0
    for partition, group in groupby(statements, key=lambda statement: statement.partition):
        for some in _cut([*group]) if partition is not None else ([statement] for statement in group):
            length = sum(statement.size for statement in some)
            if batch and (partitions == BATCH_PARTITIONS or size + length > BATCH_BYTES):
                yield batch
                batch, partitions, size = [], 0, 0
            batch += some
            partitions, size = partitions + 1, size + length
    if batch:
        yield batch


def _cut(statements: list[Statement]) -> Iterator[list[Statement]]:
    """Split statements that are too large for one message."""
    begin = size = 0
    for index, statement in enumerate(statements):
        size += statement.size
        if size > MAX_BATCH_BYTES or index - begin == MAX_BATCH_ROWS:
            yield statements[begin:index]
            begin, size = index, statement.size
    yield statements[begin:]
