"""`retinue export`."""

from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.commands import SpreadsheetSafe, StoreUrl, flag, require_csv, store_at
from retinue.cli.output import print_line
from retinue.cli.signals import ending_in_order
from retinue.settings import default_of


class ExportFormat(Enum):
    """The formats of files."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    GRAPHML = "graphml"


_HELP_FORMAT = "Two tables, accounts and follows, that `retinue import` reads, or one GraphML file."


def export(
    folder: Annotated[Path, typer.Argument(help="A new folder for the files.")],
    url: StoreUrl = default_of("store"),
    kind: Annotated[ExportFormat, flag("format", _HELP_FORMAT)] = ExportFormat.PARQUET,
    history: Annotated[bool, flag("history", "Include ended follows, with their ends.")] = False,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Write a store's whole graph into files, private and withheld accounts included.

    The store may be in use meanwhile. Importing the tables of an export with --history into an empty store gives
    an equal graph: the same rows in the same order, the same cursors, the same lists as of any second.
    """
    from retinue.cli.terminal import bar
    from retinue.export import files

    require_csv(kind is ExportFormat.CSV, spreadsheet_safe)
    options = files.ExportOptions(kind.value, history, spreadsheet_safe)
    store = store_at(url)
    with ending_in_order(), closing(store.scan()) as graph, bar(f"reading {store}") as on_progress:
        exported = files.export(graph, folder, options, lambda rows: on_progress(rows, None))
    names = ", ".join(path.name for path in exported.files)
    print_line(f"Exported {exported.accounts:,} accounts and {exported.follows:,} follows to {folder} ({names}).")
