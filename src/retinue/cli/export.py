"""`retinue export`."""

from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.flags import SpreadsheetSafe, Store, flag, require_csv
from retinue.cli.output import print_line
from retinue.cli.signals import ending_in_order
from retinue.settings import default_of


class Format(Enum):
    """The kinds of files."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    GRAPHML = "graphml"


_HELP_FOLDER = "A folder that is made for the files; nothing may be there yet."
_HELP_FORMAT = "What to write: two tables, accounts and follows, that `retinue import` reads, or one GraphML file."
_HELP_HISTORY = "Write follows that have ended too, with their ends. Without it: what stands now."


def export(
    folder: Annotated[Path, typer.Argument(help=_HELP_FOLDER)],
    store: Store = default_of("store"),
    kind: Annotated[Format, flag("format", _HELP_FORMAT)] = Format.PARQUET,
    history: Annotated[bool, flag("history", _HELP_HISTORY)] = False,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Write a store's whole graph into files, private and withheld accounts included.

    The store may be in use meanwhile. Importing the tables of an export with --history into an empty store gives
    an equal graph: the same rows in the same order, the same cursors, the same lists as of any second.
    """
    from retinue import assemble
    from retinue.cli.progress import bar
    from retinue.export import files

    require_csv(kind is Format.CSV, spreadsheet_safe)
    options = files.ExportOptions(kind.value, history, spreadsheet_safe)
    with ending_in_order(), closing(assemble.open_whole(store)) as graph, bar(f"reading {store}") as on_progress:
        exported = files.export(graph, folder, options, lambda rows: on_progress(rows, None))
    names = ", ".join(path.name for path in exported.files)
    print_line(f"Exported {exported.accounts:,} accounts and {exported.follows:,} follows to {folder} ({names}).")
