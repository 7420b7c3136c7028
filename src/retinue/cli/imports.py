"""`retinue import`."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import AsJson, Store, flag, second_of
from retinue.cli.output import warn
from retinue.settings import default_of

if TYPE_CHECKING:
    from retinue.cli.import_report import Report
    from retinue.cli.terminal import Bars
    from retinue.ingest.importer import OnProgress
    from retinue.ingest.records import Table

REJECTED = 1
INTERRUPTED = 130

_HELP_FOLLOWS = (
    "Tables of follows (follower, followee, followed_at): .csv .jsonl .parquet, each also with .gz; or pipes, - for"
    " standard input."
)
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
    from retinue.cli.import_report import Report
    from retinue.ingest.records import ACCOUNT_COLUMNS, FOLLOW_COLUMNS
    from retinue.ingest.rejects import RejectsFile
    from retinue.ingest.snapshot import Snapshot
    from retinue.ingest.tables import open_table

    at = _snapshot_second(accounts, follows, snapshot_at)
    with ExitStack() as opened:
        # All files are opened before the store is touched, so that a wrong name or column costs nothing.
        tables = [
            {
                path: opened.enter_context(closing(open_table(path, columns, is_whole=at is not None)))
                for path in paths or []
            }
            for paths, columns in ((accounts, ACCOUNT_COLUMNS), (follows, FOLLOW_COLUMNS))
        ]
        _check_beginnings(*tables)
        assemble.create_store(store)
        rejects = opened.enter_context(closing(RejectsFile(assemble.rejects_path(store))))
        snapshot = None if at is None else opened.enter_context(closing(Snapshot(at)))
        report = Report(rejects, snapshot)
        try:
            asyncio.run(_load(_Plan(store, tables[0], tables[1], report)))
        except KeyboardInterrupt:
            warn("stopped; the same import again goes on from here")
            raise typer.Exit(INTERRUPTED) from None
        finally:
            report.show(as_json=as_json)
            rejects.close()  # the notes say that the rows are in it
            for note in report.notes():
                warn(note)
    if rejects.count:
        raise typer.Exit(REJECTED)


def _check_beginnings(accounts: "dict[Path, Table]", follows: "dict[Path, Table]") -> None:
    """Refuse files whose first rows are all rejected for one reason, before anything is loaded."""
    from retinue.clock import SystemClock
    from retinue.ingest.records import account_record, follow_record
    from retinue.ingest.rejects import check_first_rows

    now = SystemClock().now()
    for path, table in accounts.items():
        check_first_rows(str(path), table, lambda row: account_record(row.values))
    for path, table in follows.items():
        check_first_rows(str(path), table, lambda row: follow_record(row.values, now))


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


@dataclass
class _Plan:
    """The tables to load, and the report on them."""

    store: str
    accounts: "dict[Path, Table]"
    follows: "dict[Path, Table]"
    report: "Report"


async def _load(plan: _Plan) -> None:
    from retinue import assemble
    from retinue.cli.terminal import bars
    from retinue.clock import SystemClock
    from retinue.ingest.importer import Import, end_missing, import_accounts, import_follows

    clock, report, snapshot = SystemClock(), plan.report, plan.report.snapshot
    began = clock.elapsed()
    with closing(assemble.open_graph_writer(plan.store, clock)) as writer, bars() as shown:
        received_at = snapshot.at if snapshot else clock.now()
        bulk = assemble.bulk_writer(writer)
        run = Import(writer, received_at, report.rejects, report.counts, snapshot, bulk, shown.note)
        for importing, tables in ((import_accounts, plan.accounts), (import_follows, plan.follows)):
            for path, table in tables.items():
                file_began = clock.elapsed()
                await importing(run, str(path), table, _bar(shown, path.name, table.size))
                report.seconds[str(path)] = clock.elapsed() - file_began
        if snapshot:
            await end_missing(run, snapshot, _bar(shown, "comparing", snapshot.rows))
        await writer.settle()
    report.total_seconds = clock.elapsed() - began


def _bar(shown: "Bars", what: str, size: int) -> "OnProgress":
    return shown.add(what, size).update
