"""A set of row numbers, one bit for each number."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]


class RowSet:
    """Which rows of a file are passed over."""

    def __init__(self) -> None:
        self._bits = np.zeros(0, np.uint8)

    def add(self, rows: Numbers) -> None:
        """Put rows in."""
        if not len(rows):
            return
        missing = int(rows.max()) // 8 + 1 - len(self._bits)
        if missing > 0:
            self._bits = np.append(self._bits, np.zeros(missing + len(self._bits) // 2, np.uint8))
        np.bitwise_or.at(self._bits, rows >> 3, (1 << (rows & 7)).astype(np.uint8))

    def has(self, rows: Numbers) -> NDArray[np.bool_]:
        """Which of some rows are in."""
        found = np.zeros(len(rows), np.bool_)
        within = (rows >> 3) < len(self._bits)
        inner = rows[within]
        found[within] = (self._bits[inner >> 3] >> (inner & 7)) & 1
        return found
