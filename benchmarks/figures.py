"""Medians with their ranges, and tables of them."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Spread:
    """A median with its range."""

    median: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        low, high = format(self.low, form), format(self.high, form)
        return f"{self.median:{form}} ({low}-{high})"


def spread(values: Iterable[float]) -> Spread:
    """Return the median and the range."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each row, in aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
