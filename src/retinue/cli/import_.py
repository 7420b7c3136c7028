"""`retinue import`."""

from pathlib import Path
from typing import Annotated

import typer

from retinue.cli.commands import AsJson, StoreUrl, flag, second_of, store_at
from retinue.cli.output import warn
from retinue.errors import InputError
from retinue.settings import default_of

REJECTED = 1
INTERRUPTED = 130

_HELP_FOLLOWS = (
    "Tables of follows (follower, followee, followed_at): .csv .jsonl .parquet, each also with .gz; or pipes, - for"
    " standard input."
)
_HELP_ACCOUNTS = "A table of accounts (username, display_name, ...), loaded before the follows. May be repeated."
_HELP_SNAPSHOT = (
    "The follows are a full dump as of this time (Unix second or ISO 8601). For each follower in the dump, follows in"
    " the store that are missing in the dump end at this time."
)


def import_(
    follows: Annotated[list[Path] | None, typer.Argument(help=_HELP_FOLLOWS)] = None,
    url: StoreUrl = default_of("store"),
    accounts: Annotated[list[Path] | None, flag("accounts", _HELP_ACCOUNTS)] = None,
    snapshot_at: Annotated[str, flag("snapshot-at", _HELP_SNAPSHOT, metavar="TIME")] = "",
    as_json: AsJson = False,
) -> None:
    """Load accounts and follows into a store. A missing store is created.

    Rows that cannot be loaded go to a rejects file beside the store, with line number and reason; the rest is
    loaded, and the exit code is 1. Importing the same files again changes nothing.
    """
    from retinue.cli.import_report import load
    from retinue.clock import SystemClock
    from retinue.ingest.import_run import Sources, open_import

    clock = SystemClock()
    at = _snapshot_second(accounts, follows, snapshot_at, clock.now())
    with open_import(store_at(url), Sources(follows or [], accounts or [], at), clock) as run:
        try:
            load(run, as_json=as_json)
        except KeyboardInterrupt:
            warn("Interrupted. Run the same import again to resume.")
            raise typer.Exit(INTERRUPTED) from None
    if run.results.rejects.count:
        raise typer.Exit(REJECTED)


def _snapshot_second(accounts: list[Path] | None, follows: list[Path] | None, text: str, now: int) -> int | None:
    if not accounts and not follows:
        raise InputError("import: give tables of follows, or --accounts with a table of accounts")
    at = second_of("--snapshot-at", text)
    if at is not None and not follows:
        raise InputError("--snapshot-at: give the tables of follows that are the dump")
    if at is not None and at > now:
        raise InputError(f"--snapshot-at: {text} is in the future")
    return at
