"""What loads of accounts or follows took, pure: one line each."""

from collections.abc import Sequence
from dataclasses import dataclass

_MIB = 1024 * 1024
_HEAD = ("", "rows", "seconds", "rows/s", "memory MiB", "temporary MiB", "bytes a row")


@dataclass(frozen=True, slots=True)
class Load:
    """One load: how many rows, how long, peaks of memory and of temporary disk, and what they take on disk."""

    name: str
    rows: int
    seconds: float
    memory_bytes: int
    temporary_bytes: int
    stored_bytes: int

    @property
    def rows_per_second(self) -> float:
        """How fast it was."""
        return self.rows / self.seconds

    @property
    def bytes_a_row(self) -> float:
        """What a row takes on disk; of a follow, with both directions and all indexes."""
        return self.stored_bytes / self.rows


def lines(loads: Sequence[Load]) -> list[str]:
    """A table with a head."""
    rows = [_HEAD, *map(_cells, loads)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cells(load: Load) -> tuple[str, ...]:
    return (
        load.name,
        f"{load.rows:,}",
        f"{load.seconds:,.1f}",
        f"{load.rows_per_second:,.0f}",
        f"{load.memory_bytes / _MIB:,.0f}",
        f"{load.temporary_bytes / _MIB:,.0f}",
        f"{load.bytes_a_row:.1f}",
    )
