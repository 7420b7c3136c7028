"""Batch inserts. A statement for many rows saves the time to begin and end one for each."""

from collections.abc import Sequence

import apsw
import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

ROWS_PER_STATEMENT = 32
ROWS_AT_ONCE = 4_000 * ROWS_PER_STATEMENT  # in memory as Python objects


def insert(
    connection: apsw.Connection, table: str, columns: Sequence[Numbers], row: str = "", on_conflict: str = ""
) -> None:
    """Insert rows, given by columns. `row` has a `?` for each column, and constants."""
    row = row or f"({', '.join('?' * len(columns))})"
    for start in range(0, len(columns[0]), ROWS_AT_ONCE):
        values = np.stack([column[start : start + ROWS_AT_ONCE] for column in columns], axis=1)
        many = len(values) // ROWS_PER_STATEMENT * ROWS_PER_STATEMENT
        for rows, part in ((ROWS_PER_STATEMENT, values[:many]), (1, values[many:])):
            statement = f"INSERT INTO {table} VALUES {', '.join([row] * rows)} {on_conflict}"
            connection.executemany(statement, part.reshape(-1, rows * len(columns)).tolist())
