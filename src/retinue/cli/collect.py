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
from retinue.errors import InputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from retinue.client.clients import ClientOptions
    from retinue.collect.collection import Manifest
    from retinue.collect.collector import CollectPlan, CollectResult
    from retinue.collect.journal import ListName
    from retinue.collect.progress import Item, Pool, Progress

INCOMPLETE = 1
MAYBE_CAPPED = 3
_MAX_SHOWN_LISTS = 10
_ROWS_PER_WRITE = 1_000
_MAX_NAME_BYTES = 200  # of the 255 of file systems; endings are added
# User info comes last: its quota is smaller, and lists do not depend on it.
LISTS: "tuple[ListName, ...]" = ("following", "followers", "info")
FORMATS = ("parquet", "csv", "jsonl", "graphml")

_HELP_USERNAMES = "A text file with one username a line. Lines that begin with # are skipped."
_HELP_FOLDER = "Folder of the collection. A missing folder is created; an existing collection is resumed."
_HELP_SECRET = "The client secret. Other users of the machine can see it in a command line, not in the environment."  # noqa: S105
_HELP_FORMAT = f"Formats of files to write, separated by commas: {', '.join(FORMATS)}."
_HELP_INFO_CALLS = "Daily quota (UTC) of calls for user info and the counts in profiles."
_HELP_CONCURRENCY = "Number of lists to read at the same time."
_HELP_WAIT = "When the daily quota is spent, continue after 00:00 UTC instead of stopping."

app = group(invoke_without_command=True)


@app.callback()
def collect(
    context: typer.Context,
    usernames: Annotated[Path | None, flag("usernames", _HELP_USERNAMES)] = None,
    folder: Annotated[Path | None, flag("output", _HELP_FOLDER, "-o")] = None,
    server: Annotated[str, flag("server", "URL of the server.")] = "https://open.tiktokapis.com",
    client_key: Annotated[str, flag("client-key", "The client key.")] = "",
    client_secret: Annotated[str, flag("client-secret", _HELP_SECRET)] = "",
    lists: Annotated[str, flag("lists", f"Lists to collect, separated by commas: {', '.join(LISTS)}.")] = "following",
    kinds: Annotated[str, flag("format", _HELP_FORMAT)] = "parquet",
    into: Annotated[str, flag("into", "A new store for the complete graph, which `retinue serve` can serve.")] = "",
    calls_per_day: Annotated[int, flag("calls-per-day", "Daily quota (UTC) of calls for lists.", min=1)] = 20_000,
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
    from retinue.collect.collector import CollectPlan
    from retinue.collect.progress import Item

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
    file = collect_names.read(usernames)
    items = [Item(name, kind) for kind in LISTS if kind in chosen for name in file.usernames]
    calls: dict[Pool, int] = {"lists": calls_per_day, "info": info_calls_per_day}
    plan = CollectPlan(items, calls, concurrency, "wait" if wait else "raise")
    output = _Output(formats, into, file.rejected, spreadsheet_safe)
    _collect(plan, folder, output, (server, client_key, client_secret))


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
    from retinue.collect.diff import FollowChange, changes, comparable

    compared = comparable(old, new)
    encode = csv_encoder(*FollowChange._fields, spreadsheet_safe=spreadsheet_safe)
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


def _collect(plan: "CollectPlan", folder: Path, output: _Output, access: tuple[str, str, str]) -> None:
    """Collect, write and report. Make the mirror if the collection is complete."""
    from retinue.clock import SystemClock
    from retinue.collect import collection

    with ending_in_order(), collection.lock_folder(folder), _reporting_interrupt():
        progress = collection.open_collection(folder, access[0].rstrip("/"), SystemClock().now())
        plan = _as_spelled(plan, progress)
        result, pace = _run(plan, folder, progress, access)
        manifest = _write(folder, output, plan.items)
        _report(manifest, result, pace)
        is_missing = bool(output.rejected) or not manifest.is_read
        if output.rejected:
            warn(f"skipped lines without a usable username: {output.rejected:,}")
        if output.into and is_missing:
            warn(f"--into {output.into}: is created once {folder} is complete")
        if output.rejected or progress.incomplete(plan.items) or (output.into and is_missing):
            raise typer.Exit(INCOMPLETE)
        if output.into:
            collect_mirror.make(folder, output.into)
        if manifest.maybe_capped:
            raise typer.Exit(MAYBE_CAPPED)


@contextmanager
def _reporting_interrupt() -> "Iterator[None]":
    """Report an early end, after which the collection can be resumed."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"{error}; run the same command again to resume") from error
    except KeyboardInterrupt:
        warn("Interrupted. Run the same command again to resume.")
        raise


def _as_spelled(plan: "CollectPlan", progress: "Progress") -> "CollectPlan":
    """Return the plan with names spelled as in the collection."""
    from msgspec.structs import replace

    from retinue import names

    known = {names.fold(place.name): place.name for place in progress.items}
    return replace(
        plan, items=[place._replace(name=known.get(names.fold(place.name), place.name)) for place in plan.items]
    )


def _run(
    plan: "CollectPlan", folder: Path, progress: "Progress", access: tuple[str, str, str]
) -> "tuple[CollectResult, str]":
    """Collect with a progress bar. Return the result and a sentence on the pace."""
    from retinue.cli.collect_view import view
    from retinue.client import AsyncClient, RetryPolicy, Runtime
    from retinue.collect.collection import PAGES
    from retinue.collect.collector import Collector
    from retinue.collect.journal import Journal

    server, key, secret = access
    runtime = Runtime()
    began, before = runtime.clock.elapsed(), progress.pages
    with view(plan, progress, runtime.clock) as shown:

        async def collect() -> "CollectResult":
            policy, on_wait = RetryPolicy(quota=plan.quota), shown.on_wait
            options: ClientOptions = {"policy": policy, "connections": plan.concurrency, "on_wait": on_wait}
            async with AsyncClient(key, secret, server, **options) as client:
                with closing(Journal(folder / PAGES)) as journal:
                    collector = Collector(client, journal, progress, runtime, shown.on_progress, on_wait)
                    return await collector.run(plan)

        result = run(collect)
    seconds, pages = runtime.clock.elapsed() - began, progress.pages - before
    return result, f"read {pages:,} pages in {seconds:,.1f} s ({pages / seconds:,.0f} a second)" if pages else ""


def _write(folder: Path, output: _Output, wanted: "Sequence[Item]") -> "Manifest":
    """Write the tables and the manifest."""
    from retinue.cli.terminal import bar
    from retinue.clock import SystemClock
    from retinue.collect import collection

    kinds, now = [*output.kinds, "parquet"] if output.into else output.kinds, SystemClock().now()
    with bar(f"writing {folder}") as on_progress:
        return collection.write_tables(
            folder, kinds, wanted, now, lambda rows: on_progress(rows, None), spreadsheet_safe=output.spreadsheet_safe
        )


def _report(manifest: "Manifest", result: "CollectResult", pace: str) -> None:
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
    for place, reason in sorted(result.failed.items()):
        warn(f"{place.list} of {place.name}: {reason}")
    if result.stopped:
        warn(f"stopped early: {result.stopped}; run the same command again to resume")
    for pool, second in result.resets_at.items():
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
    try:
        is_long = len(path.name.encode()) > _MAX_NAME_BYTES
    except UnicodeEncodeError:
        raise InputError(f"{flag_name}: {str(path).encode(errors='replace').decode()} is not UTF-8 text") from None
    if is_long:
        raise InputError(f"{flag_name}: the name {path.name} has more than {_MAX_NAME_BYTES} bytes")


def _chosen(name: str, text: str, known: tuple[str, ...]) -> list[str]:
    found = list(dict.fromkeys(part.strip() for part in text.split(",")))
    for part in found:
        if part not in known:
            raise InputError(f"{name}: {part!r} is not one of {', '.join(known)}")
    return found
