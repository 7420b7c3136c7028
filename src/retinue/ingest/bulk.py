"""Bulk import of a large table of follows: staged and sorted on disk, then loaded into the store at once.

The result equals that of storing row by row (`importer.py`), which takes the remaining rows.
"""

import asyncio
from array import array
from collections.abc import Callable, Iterator
from contextlib import closing

from msgspec import Struct

from retinue.ingest.parquet import ParquetTable
from retinue.ingest.records import InputTable, RawRow
from retinue.ingest.staging import Staging, translated
from retinue.ingest.tables import CsvTable
from retinue.store.bulk import BulkWriter, OnShare

# Row by row fewer rows take seconds, and each batch is durable at once, also if the import is interrupted.
LARGE_ROWS = 200_000
_BYTES_PER_ROW = 40  # of CSV, about
_PACKED_BYTES_PER_ROW = 10

# Progress after each step, as a share of the whole.
_STAGED, _NUMBERED = 0.1, 0.25


class BulkResult(Struct, frozen=True):
    """Counts of loaded rows, and the rows that remain."""

    accepted: int
    updated: int
    duplicate: int
    remaining: Iterator[RawRow]


def as_large(table: InputTable) -> CsvTable | ParquetTable | None:
    """Return a table that is to be loaded in bulk."""
    if isinstance(table, ParquetTable | CsvTable) and _count_rows(table) >= LARGE_ROWS:
        return table
    return None


def _count_rows(table: CsvTable | ParquetTable) -> int:
    if isinstance(table, ParquetTable):
        return table.size
    return table.size // (_PACKED_BYTES_PER_ROW if table.source.is_packed else _BYTES_PER_ROW)


async def load_in_bulk(
    table: CsvTable | ParquetTable, writer: BulkWriter, received_at: int, on_progress: Callable[[int], None]
) -> BulkResult:
    """Load a table. Raises `CannotLoadInBulk`, and then nothing was loaded."""
    with translated(), closing(Staging(_count_rows(table), received_at)) as staging:
        return await _load(table, writer, staging, lambda share: on_progress(int(share * table.size)))


async def _load(table: CsvTable | ParquetTable, writer: BulkWriter, staging: Staging, report: OnShare) -> BulkResult:
    staging.stage(table)
    report(_STAGED)
    staging.leave_out([name for names in staging.names() for name in await writer.refused(names)])
    account_ids = array("I")  # four bytes a name, of which there may be ten million
    for names in staging.names():
        account_ids.extend(await writer.account_ids(names))
        await asyncio.sleep(0)  # lets Ctrl-C interrupt the import
    staging.set_account_ids(account_ids)
    report(_NUMBERED)
    loaded = await writer.load(staging, lambda share: report(_NUMBERED + (1 - _NUMBERED) * share))
    remaining = sorted([*staging.other_rows().tolist(), *loaded.remaining.tolist()])
    return BulkResult(
        loaded.accepted, loaded.updated, loaded.duplicate, table.rows_at(remaining) if remaining else iter(())
    )
