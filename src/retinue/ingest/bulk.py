"""Import of a large table of follows: staged and sorted on disk, then loaded into the store in one go.

Rows that are not ordinary are left to the import row by row (`importer.py`), whose result this one equals.
"""

import asyncio
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from retinue.ingest.parquet import ParquetTable
from retinue.ingest.rows import RawRow, Table
from retinue.ingest.staging import CannotStage, Staging, translated
from retinue.ingest.tables import CsvTable
from retinue.store.bulk import BulkWriter, OnShare

# Below that many rows the other way takes seconds; and each of its batches is there at once, and stays when stopped.
LARGE_ROWS = 200_000
_BYTES_PER_ROW = 40  # of CSV, about
_PACKED_BYTES_PER_ROW = 10

# What the steps take, as shares of the whole.
_STAGED, _NUMBERED, _SORTED = 0.1, 0.25, 0.4


class Outcome:
    """What a load made of a table: rows that were accepted or said nothing new, and the rest of the table."""

    def __init__(self, accepted: int, duplicate: int, rest: "Rest") -> None:
        self.accepted = accepted
        self.duplicate = duplicate
        self.rest = rest


class Rest:
    """The rows of a table that a load has left, as a table."""

    def __init__(self, table: CsvTable | ParquetTable, numbers: Iterable[int]) -> None:
        self._table = table
        self._numbers = list(numbers)
        self.size = table.size

    @property
    def position(self) -> int:
        """All of the table was looked at."""
        return self.size

    def __iter__(self) -> Iterator[RawRow]:
        return self._table.rows_at(self._numbers) if self._numbers else iter(())

    def close(self) -> None:
        """Nothing is held."""


def large(table: Table) -> CsvTable | ParquetTable | None:
    """The table, if it is large and of a kind that can be loaded at once."""
    if isinstance(table, ParquetTable):
        return table if table.size >= LARGE_ROWS else None
    if isinstance(table, CsvTable):
        return table if _rows_in(table) >= LARGE_ROWS else None
    return None


def _rows_in(table: CsvTable | ParquetTable) -> int:
    """How many rows a table has, about."""
    if isinstance(table, ParquetTable):
        return table.size
    return table.size // (_PACKED_BYTES_PER_ROW if table.source.is_packed else _BYTES_PER_ROW)


async def load(
    table: CsvTable | ParquetTable, writer: BulkWriter, received_at: int, on_progress: Callable[[int], None]
) -> Outcome | str:
    """Load a table; or say why all of it has to be taken row by row."""
    try:
        with translated(), closing(Staging(_rows_in(table), received_at)) as staging:
            return await _load(table, writer, staging, lambda share: on_progress(int(share * table.size)))
    except CannotStage as reason:
        return str(reason).splitlines()[0]


async def _load(table: CsvTable | ParquetTable, writer: BulkWriter, staging: Staging, report: OnShare) -> Outcome:
    staging.stage(table)
    report(_STAGED)
    staging.leave_out([name for names in staging.names() for name in await writer.refused(names)])
    numbers = array("I")  # four bytes a name, of which there may be ten million
    for names in staging.names():
        numbers.extend(await writer.numbers(names))
        await asyncio.sleep(0)  # here an import may be interrupted
    staging.number(numbers)
    report(_NUMBERED)
    staging.sort()
    await asyncio.sleep(0)
    report(_SORTED)
    loaded = await writer.load(staging, lambda share: report(_SORTED + (1 - _SORTED) * share))
    left = [*staging.unusual().tolist(), *loaded.left.tolist()]  # a row is in one of them
    return Outcome(loaded.accepted, loaded.duplicate, Rest(table, sorted(left)))
