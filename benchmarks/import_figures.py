"""What loads of follows took, pure: one line each."""

from collections.abc import Sequence
from dataclasses import dataclass

_MIB = 1024 * 1024
_HEAD = ("", "follows", "seconds", "follows/s", "memory MiB", "temporary MiB", "bytes a follow")


@dataclass(frozen=True, slots=True)
class Load:
    """One load: how many follows, how long, peaks of memory and of temporary disk, and what they take on disk."""

    name: str
    follows: int
    seconds: float
    memory_bytes: int
    temporary_bytes: int
    stored_bytes: int

    @property
    def follows_per_second(self) -> float:
        """How fast it was."""
        return self.follows / self.seconds

    @property
    def bytes_a_follow(self) -> float:
        """What a follow takes on disk, with both directions and all indexes."""
        return self.stored_bytes / self.follows


def lines(loads: Sequence[Load]) -> list[str]:
    """A table with a head."""
    rows = [_HEAD, *map(_cells, loads)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def _cells(load: Load) -> tuple[str, ...]:
    return (
        load.name,
        f"{load.follows:,}",
        f"{load.seconds:,.1f}",
        f"{load.follows_per_second:,.0f}",
        f"{load.memory_bytes / _MIB:,.0f}",
        f"{load.temporary_bytes / _MIB:,.0f}",
        f"{load.bytes_a_follow:.1f}",
    )
