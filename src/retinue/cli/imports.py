"""`retinue import`."""

import asyncio
import sys
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import AsJson, Store, flag
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from retinue.ingest.bulk import OnProgress, Tally
    from retinue.ingest.rejects import RejectsFile
    from retinue.ingest.tables import Table

REJECTED = 1
INTERRUPTED = 130

_HELP_FOLLOWS = "Tables of follows (follower, followee, followed_at): .csv .jsonl .parquet, each also with .gz."
_HELP_ACCOUNTS = "A table of accounts (username, display_name, ...), loaded before the follows. May be repeated."


def import_(
    follows: Annotated[list[Path] | None, typer.Argument(help=_HELP_FOLLOWS)] = None,
    store: Store = default_of("store"),
    accounts: Annotated[list[Path] | None, flag("accounts", _HELP_ACCOUNTS)] = None,
    as_json: AsJson = False,
) -> None:
    """Load accounts and follows into a store, which is made if there is none.

    Rows that cannot be loaded go to a rejects file beside the store, with line number and reason; the rest is
    loaded, and the exit code is 1. Importing the same files again changes nothing.
    """
    from retinue import assemble
    from retinue.errors import InputError
    from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS
    from retinue.ingest.rejects import RejectsFile
    from retinue.ingest.tables import open_table

    if not accounts and not follows:
        raise InputError("import: give tables of follows, or --accounts with a table of accounts")
    tallies: dict[str, Tally] = {}
    with ExitStack() as opened:
        # All files are opened before the store is touched, so that a wrong name or column costs nothing.
        tables = [
            {path: opened.enter_context(closing(open_table(path, columns))) for path in paths or []}
            for paths, columns in ((accounts, ACCOUNT_COLUMNS), (follows, FOLLOW_COLUMNS))
        ]
        assemble.create_store(store)
        rejects = opened.enter_context(closing(RejectsFile(assemble.rejects_path(store))))
        try:
            asyncio.run(_load(store, tables[0], tables[1], rejects, tallies))
        except KeyboardInterrupt:
            sys.stderr.write("retinue: stopped; the same import again goes on from here\n")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            _report(tallies, as_json=as_json)
    if rejects.count:
        sys.stderr.write(f"retinue: rows that were rejected: {rejects.count:,}; see {rejects.path}\n")
        raise typer.Exit(REJECTED)


async def _load(
    store: str,
    accounts: "dict[Path, Table]",
    follows: "dict[Path, Table]",
    rejects: "RejectsFile",
    tallies: "dict[str, Tally]",
) -> None:
    from retinue import assemble
    from retinue.clock import SystemClock
    from retinue.ingest.bulk import Import, import_accounts, import_follows

    clock = SystemClock()
    with closing(assemble.open_graph_writer(store, clock)) as writer, _progress() as progress:
        run = Import(writer, clock.now(), rejects, tallies)
        for path, table in accounts.items():
            await import_accounts(run, str(path), table, _bar(progress, path, table))
        for path, table in follows.items():
            await import_follows(run, str(path), table, _bar(progress, path, table))
        await writer.settle()


def _bar(progress: "Progress", path: Path, table: "Table") -> "OnProgress":
    task = progress.add_task(path.name, total=table.size)
    return lambda position: progress.update(task, completed=position)


@contextmanager
def _progress() -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)  # stdout is for the report
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def _report(tallies: "dict[str, Tally]", *, as_json: bool) -> None:
    if as_json:
        from msgspec import json

        typer.echo(json.encode(tallies).decode())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("file", title="Import")
    for heading in ("accepted", "duplicate", "rejected", "NULs removed"):
        table.add_column(heading, justify="right")
    for name, tally in tallies.items():
        counts = (tally.accepted, tally.duplicate, tally.rejected, tally.nuls_removed)
        table.add_row(Path(name).name, *(f"{count:,}" for count in counts))
    Console().print(table)
