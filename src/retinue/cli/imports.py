"""`retinue import`."""

import sys
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import AsJson, Store, flag, second_of
from retinue.cli.output import print_json
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.progress import Progress

    from retinue.ingest.bulk import OnProgress, Tally
    from retinue.ingest.rejects import RejectsFile
    from retinue.ingest.snapshot import Snapshot
    from retinue.ingest.tables import Table

REJECTED = 1
INTERRUPTED = 130

_HELP_FOLLOWS = "Tables of follows (follower, followee, followed_at): .csv .jsonl .parquet, each also with .gz."
_HELP_ACCOUNTS = "A table of accounts (username, display_name, ...), loaded before the follows. May be repeated."
_HELP_SNAPSHOT = (
    "The follows are a full dump as of this time (Unix second or ISO 8601): whoever is a follower in it follows nobody"
    " else any more."
)


def import_(
    follows: Annotated[list[Path] | None, typer.Argument(help=_HELP_FOLLOWS)] = None,
    store: Store = default_of("store"),
    accounts: Annotated[list[Path] | None, flag("accounts", _HELP_ACCOUNTS)] = None,
    snapshot_at: Annotated[str, flag("snapshot-at", _HELP_SNAPSHOT, metavar="TIME")] = "",
    as_json: AsJson = False,
) -> None:
    """Load accounts and follows into a store, which is made if there is none.

    Rows that cannot be loaded go to a rejects file beside the store, with line number and reason; the rest is
    loaded, and the exit code is 1. Importing the same files again changes nothing.
    """
    import asyncio

    from retinue import assemble
    from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS
    from retinue.ingest.rejects import RejectsFile
    from retinue.ingest.snapshot import Snapshot
    from retinue.ingest.tables import open_table

    at = _snapshot_second(accounts, follows, snapshot_at)
    with ExitStack() as opened:
        # All files are opened before the store is touched, so that a wrong name or column costs nothing.
        tables = [
            {path: opened.enter_context(closing(open_table(path, columns))) for path in paths or []}
            for paths, columns in ((accounts, ACCOUNT_COLUMNS), (follows, FOLLOW_COLUMNS))
        ]
        assemble.create_store(store)
        rejects = opened.enter_context(closing(RejectsFile(assemble.rejects_path(store))))
        snapshot = None if at is None else opened.enter_context(closing(Snapshot(at)))
        plan = _Plan(store, tables[0], tables[1], rejects, snapshot)
        try:
            asyncio.run(_load(plan))
        except KeyboardInterrupt:
            sys.stderr.write("retinue: stopped; the same import again goes on from here\n")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            _report(plan, as_json=as_json)
    if rejects.count:
        sys.stderr.write(f"retinue: rows that were rejected: {rejects.count:,}; see {rejects.path}\n")
        if snapshot is not None:
            sys.stderr.write(_left_alone(snapshot))
        raise typer.Exit(REJECTED)


def _snapshot_second(accounts: list[Path] | None, follows: list[Path] | None, snapshot_at: str) -> int | None:
    from retinue.clock import SystemClock
    from retinue.errors import InputError

    if not accounts and not follows:
        raise InputError("import: give tables of follows, or --accounts with a table of accounts")
    at = second_of("--snapshot-at", snapshot_at)
    if at is not None and not follows:
        raise InputError("--snapshot-at: give the tables of follows that are the dump")
    if at is not None and at > SystemClock().now():
        raise InputError(f"--snapshot-at: {snapshot_at} is in the future")
    return at


def _left_alone(snapshot: "Snapshot") -> str:
    """What the rejected rows of a dump mean for those that are not in it."""
    if snapshot.nameless:
        reason = f"of {snapshot.nameless:,} rejected rows it cannot be told whose they are"
        return f"retinue: nobody's follows were ended, since {reason}; mend them and import the dump again\n"
    if not snapshot.left_alone:
        return ""
    return f"retinue: accounts whose follows were not ended, since rows were rejected: {snapshot.left_alone:,}\n"


@dataclass
class _Plan:
    """What is to be loaded, and what came of it."""

    store: str
    accounts: "dict[Path, Table]"
    follows: "dict[Path, Table]"
    rejects: "RejectsFile"
    snapshot: "Snapshot | None"
    tallies: "dict[str, Tally]" = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


async def _load(plan: _Plan) -> None:
    from retinue import assemble
    from retinue.clock import SystemClock
    from retinue.ingest.bulk import Import, end_missing, import_accounts, import_follows

    clock, snapshot = SystemClock(), plan.snapshot
    with closing(assemble.open_graph_writer(plan.store, clock)) as writer, _progress() as progress:
        received_at, note = snapshot.at if snapshot else clock.now(), partial(progress.console.print, highlight=False)
        run = Import(writer, received_at, plan.rejects, plan.tallies, snapshot, assemble.bulk_writer(writer), note)
        for importing, tables in ((import_accounts, plan.accounts), (import_follows, plan.follows)):
            for path, table in tables.items():
                began = clock.elapsed()
                await importing(run, str(path), table, _bar(progress, path.name, table.size))
                plan.seconds[str(path)] = clock.elapsed() - began
        if snapshot:
            await end_missing(run, snapshot, _bar(progress, "comparing", snapshot.rows))
        await writer.settle()


def _bar(progress: "Progress", what: str, size: int) -> "OnProgress":
    task = progress.add_task(what, total=size)
    return lambda position: progress.update(task, completed=position)


@contextmanager
def _progress() -> "Iterator[Progress]":
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    console = Console(stderr=True)  # stdout is for the report
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def _report(plan: _Plan, *, as_json: bool) -> None:
    """What came of each file; for people also how many rows a second it took, if it was read to its end."""
    if as_json:
        print_json(plan.tallies)
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("file", title="Import")
    for heading in ("accepted", "duplicate", "rejected", "NULs", "ended", "rows/s"):
        table.add_column(heading, justify="right")
    for name, tally in plan.tallies.items():
        counts = (tally.accepted, tally.duplicate, tally.rejected, tally.nuls_removed, tally.ended)
        rows, seconds = tally.accepted + tally.duplicate + tally.rejected, plan.seconds.get(name)
        rate = f"{rows / seconds:,.0f}" if seconds else ""
        table.add_row(Path(name).name, *(f"{count:,}" for count in counts), rate)
    Console().print(table)
