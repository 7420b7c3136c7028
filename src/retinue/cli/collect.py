"""`retinue collect`: collect lists from TikTok or another server of its API; verify and compare collections."""

from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli import collect_mirror, collect_names
from retinue.cli.commands import SpreadsheetSafe, flag, group, require_csv
from retinue.cli.output import csv_encoder, print_exactly, print_line, warn
from retinue.cli.signals import ending_in_order, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retinue.client.clients import Options
    from retinue.collect.collection import Manifest
    from retinue.collect.collector import Outcome, Plan, Watching
    from retinue.collect.progress import Place, Pool, Progress

INCOMPLETE = 1
MAYBE_CAPPED = 3
_MAX_SHOWN_LISTS = 10
_ROWS_PER_WRITE = 1_000
_MAX_NAME_BYTES = 200  # of the 255 of file systems; endings are added
LISTS = ("following", "followers", "info")
FORMATS = ("parquet", "csv", "jsonl", "graphml")

_HELP_USERNAMES = "A text file with one username a line. Lines that begin with # are skipped."
_HELP_FOLDER = "Folder of the collection. A missing folder is created; an existing collection is resumed."
_HELP_SERVER = "URL of the server."
_HELP_KEY = "The client key."
_HELP_SECRET = "The client secret. Other users of the machine can see it in a command line, not in the environment."  # noqa: S105
_HELP_LISTS = f"Lists to collect, separated by commas: {', '.join(LISTS)}."
_HELP_FORMAT = f"Formats of files to write, separated by commas: {', '.join(FORMATS)}."
_HELP_INTO = "A new store for the complete graph, which `retinue serve` can serve."
_HELP_CALLS = "Daily quota (UTC) of calls for lists."
_HELP_INFO_CALLS = "Daily quota (UTC) of calls for user info and the counts in profiles."
_HELP_CONCURRENCY = "Number of lists to read at the same time."
_HELP_WAIT = "When the daily quota is spent, continue after 00:00 UTC instead of stopping."

app = group(invoke_without_command=True)


@app.callback()
def collect(
    context: typer.Context,
    usernames: Annotated[Path | None, flag("usernames", _HELP_USERNAMES)] = None,
    folder: Annotated[Path | None, flag("output", _HELP_FOLDER, "-o")] = None,
    server: Annotated[str, flag("server", _HELP_SERVER)] = "https://open.tiktokapis.com",
    client_key: Annotated[str, flag("client-key", _HELP_KEY)] = "",
    client_secret: Annotated[str, flag("client-secret", _HELP_SECRET)] = "",
    lists: Annotated[str, flag("lists", _HELP_LISTS)] = "following",
    kinds: Annotated[str, flag("format", _HELP_FORMAT)] = "parquet",
    into: Annotated[str, flag("into", _HELP_INTO)] = "",
    calls_per_day: Annotated[int, flag("calls-per-day", _HELP_CALLS, min=1)] = 20_000,
    info_calls_per_day: Annotated[int, flag("info-calls-per-day", _HELP_INFO_CALLS, min=0)] = 1_000,
    concurrency: Annotated[int, flag("concurrency", _HELP_CONCURRENCY, min=1, max=1_000)] = 16,
    wait: Annotated[bool, flag("wait", _HELP_WAIT)] = False,
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Collect the lists of many accounts, page by page, into a folder.

    Each page is saved before the next request. Run the same command again to resume after any interruption. Exit code 1
    if something is still missing, 3 if the service may have capped a list.
    """
    if context.invoked_subcommand is not None:
        return
    from retinue.collect.collector import Plan
    from retinue.errors import InputError

    if usernames is None or folder is None:
        raise InputError("collect: give --usernames with a file of them, and --output with a folder")
    if not client_key or not client_secret:
        raise InputError("collect: give --client-key and --client-secret, best in the environment (--help names both)")
    chosen, formats = _chosen("--lists", lists, LISTS), _chosen("--format", kinds, FORMATS)
    require_csv("csv" in formats, spreadsheet_safe)
    if "info" in chosen and info_calls_per_day == 0:
        raise InputError("--info-calls-per-day: 0 calls, and --lists wants info")
    for name, path in (("--output", folder), ("--into", Path(into))):
        _check_path(name, path)
    if into:
        collect_mirror.check_place(into)
    found = collect_names.read(usernames)
    wanted = _places(found.usernames, chosen)
    calls: dict[Pool, int] = {"lists": calls_per_day, "info": info_calls_per_day}
    plan = Plan(wanted, calls, concurrency, "wait" if wait else "stop")
    _collect(
        plan, folder, _Output(formats, into, found.rejected, spreadsheet_safe), (server, client_key, client_secret)
    )


@app.command()
def verify(folder: Annotated[Path, typer.Argument(help="The folder of a collection.")]) -> None:
    """Verify a collection: every file, every page, every list's order."""
    from retinue.collect.verify import verify as verify_collection

    found = verify_collection(folder)
    for problem in found.problems:
        warn(problem, source=str(folder))
    if found.problems:
        raise typer.Exit(1)
    if found.manifest is None:
        state = "no tables have been written"
    elif found.newer:
        state = f"{found.newer:,} responses arrived after the tables were written"
    else:
        read = "maybe capped" if found.manifest.maybe_capped else "complete"
        state = read if found.manifest.is_read else "not complete"
    print_line(f"{folder}: {found.pages:,} pages with {found.rows:,} rows are as they came; {state}.")
    if found.manifest is not None:
        _report_capped(found.manifest)
        if found.manifest.maybe_capped:
            raise typer.Exit(MAYBE_CAPPED)


@app.command()
def diff(
    old: Annotated[Path, typer.Argument(help="The folder of an earlier collection.")],
    new: Annotated[Path, typer.Argument(help="The folder of a later one, of the same accounts.")],
    spreadsheet_safe: SpreadsheetSafe = False,
) -> None:
    """Print the follows and unfollows between two collections as CSV.

    Only lists that are complete in both are compared. A renamed account appears as two.
    """
    from retinue.collect.diff import Change, changes, comparable

    compared = comparable(old, new)
    encode = csv_encoder(*Change._fields, spreadsheet_safe=spreadsheet_safe)
    followed = changes(old, new, compared.lists)
    print_exactly(encode(()))
    while rows := list(islice(followed, _ROWS_PER_WRITE)):
        print_exactly(encode(rows))
    if compared.left_out:
        some = ", ".join(f"{place.list} of {place.name}" for place in compared.left_out[:3])
        warn(f"skipped, as they are not complete in both: {len(compared.left_out):,} lists ({some})")


@dataclass(frozen=True)
class _Output:
    """The requested output. `rejected`: the number of lines in the file that are not usernames."""

    kinds: list[str]
    into: str
    rejected: int
    spreadsheet_safe: bool


def _collect(plan: "Plan", folder: Path, output: _Output, access: tuple[str, str, str]) -> None:
    """Collect, write and report. Make the mirror if the collection is complete."""
    from retinue.clock import SystemClock
    from retinue.collect import collection

    with ending_in_order(), collection.held(folder), _resumable():
        progress = collection.opened(folder, access[0].rstrip("/"), SystemClock().now())
        plan = _as_spelled(plan, progress)
        outcome, pace = _timed(plan, folder, progress, access)
        manifest = _write(folder, output, plan.wanted)
        _report(manifest, outcome, pace)
        is_missing = bool(output.rejected) or not manifest.is_read
        if output.rejected:
            warn(f"skipped lines without a usable username: {output.rejected:,}")
        if output.into and is_missing:
            warn(f"--into {output.into}: is created once {folder} is complete")
        if output.rejected or progress.waiting(plan.wanted) or (output.into and is_missing):
            raise typer.Exit(INCOMPLETE)
        if output.into:
            collect_mirror.make(folder, output.into)
        if progress.maybe_capped(progress.standings):
            raise typer.Exit(MAYBE_CAPPED)


@contextmanager
def _resumable() -> "Iterator[None]":
    """Report an early end, after which the collection can be resumed."""
    from retinue.errors import StoreError

    try:
        yield
    except OSError as error:
        raise StoreError(f"{error}; run the same command again to resume") from error
    except KeyboardInterrupt:
        warn("Interrupted. Run the same command again to resume.")
        raise


def _as_spelled(plan: "Plan", progress: "Progress") -> "Plan":
    """Return the plan with names spelled as in the collection."""
    from msgspec.structs import replace

    from retinue import names

    known = {names.fold(place.name): place.name for place in progress.standings}
    return replace(
        plan, wanted=[place._replace(name=known.get(names.fold(place.name), place.name)) for place in plan.wanted]
    )


def _timed(plan: "Plan", folder: Path, progress: "Progress", access: tuple[str, str, str]) -> "tuple[Outcome, str]":
    """Collect. Return the outcome and a sentence on the pace."""
    from retinue.clock import SystemClock

    clock = SystemClock()
    began, before = clock.elapsed(), progress.pages
    outcome = _run(plan, folder, progress, access)
    seconds, pages = clock.elapsed() - began, progress.pages - before
    return outcome, f"read {pages:,} pages in {seconds:,.1f} s ({pages / seconds:,.0f} a second)" if pages else ""


def _run(plan: "Plan", folder: Path, progress: "Progress", access: tuple[str, str, str]) -> "Outcome":
    """Collect with a progress bar."""
    from retinue.cli.collect_view import view
    from retinue.client import AsyncClient, Outside, Policy
    from retinue.collect.collection import PAGES
    from retinue.collect.collector import Collector
    from retinue.collect.journal import Journal

    server, key, secret = access
    outside = Outside()

    async def collect(watching: "Watching") -> "Outcome":
        policy = Policy(quota="wait" if plan.quota == "wait" else "raise")
        options: Options = {"policy": policy, "connections": plan.concurrency, "on_wait": watching.waits}
        async with AsyncClient(key, secret, server, **options) as client:
            with closing(Journal(folder / PAGES)) as journal:
                return await Collector(client, journal, progress, outside, watching).run(plan)

    with view(plan, progress, outside.clock) as watching:
        return run(lambda: collect(watching))


def _write(folder: Path, output: _Output, wanted: "Sequence[Place]") -> "Manifest":
    """Write the tables and the manifest."""
    from retinue.cli.terminal import bar
    from retinue.clock import SystemClock
    from retinue.collect import collection

    kinds, now = [*output.kinds, "parquet"] if output.into else output.kinds, SystemClock().now()
    with bar(f"writing {folder}") as on_progress:
        return collection.write(
            folder, kinds, wanted, now, lambda rows: on_progress(rows, None), spreadsheet_safe=output.spreadsheet_safe
        )


def _report(manifest: "Manifest", outcome: "Outcome", pace: str) -> None:
    """Print the state of the collection and the errors of this run."""
    from datetime import UTC, datetime

    if pace:
        print_line(pace)
    for name in LISTS:
        if states := manifest.lists.get(name):
            print_line(f"{name}: {', '.join(f'{count:,} {state}' for state, count in states.items())}")
        if counts := manifest.counts.get(name):
            figures = f"{counts.rows:,} rows, profiles count {counts.profile_count:,}, gap {counts.gap:,}"
            print_line(f"{name}: {figures} (lists with a known count: {counts.lists:,})")
    print_line(f"{manifest.pages:,} pages, {manifest.rows:,} rows")
    _report_capped(manifest)
    for place, reason in sorted(outcome.failed.items()):
        warn(f"{place.list} of {place.name}: {reason}")
    if outcome.stopped:
        warn(f"stopped early: {outcome.stopped}; run the same command again to resume")
    for pool, second in outcome.resets_at.items():
        at = datetime.fromtimestamp(second, UTC).isoformat()
        warn(f"the daily quota for {pool} is spent; run the same command again after {at} to resume")


def _report_capped(manifest: "Manifest") -> None:
    for capped in manifest.maybe_capped[:_MAX_SHOWN_LISTS]:
        warn(f"{capped}")
    if more := len(manifest.maybe_capped[_MAX_SHOWN_LISTS:]):
        warn(f"{more:,} more lists may be capped; the table lists has them")
    if number := manifest.uncounted_likely_caps:
        lists = f"lists that end at a likely cap with an unknown count: {number:,}"
        warn(f"{lists}; run the same command again to request missing counts")


def _check_path(flag_name: str, path: Path) -> None:
    """Raise `InputError` for names that would be refused later."""
    from retinue.errors import InputError

    try:
        is_long = len(path.name.encode()) > _MAX_NAME_BYTES
    except UnicodeEncodeError:
        raise InputError(f"{flag_name}: {str(path).encode(errors='replace').decode()} is not UTF-8 text") from None
    if is_long:
        raise InputError(f"{flag_name}: the name {path.name} has more than {_MAX_NAME_BYTES} bytes")


def _chosen(name: str, text: str, known: tuple[str, ...]) -> list[str]:
    from retinue.errors import InputError

    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for part in found:
        if part not in known:
            raise InputError(f"{name}: {part!r} is not one of {', '.join(known)}")
    return found


def _places(names: list[str], lists: list[str]) -> "list[Place]":
    from retinue.collect.progress import Place

    # User info comes last: its quota is smaller, and lists do not depend on it.
    kinds = [kind for kind in LISTS if kind in lists]
    return [Place(name, kind) for kind in kinds for name in names]  # type: ignore[arg-type]  # they were checked
