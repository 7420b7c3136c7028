"""`retinue audit`: verify the audit log, find requests in it, count usage."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.commands import AsJson, StoreUrl, flag, group, setting, store_at, with_access
from retinue.cli.output import print_json, print_line, warn
from retinue.errors import InputError
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retinue.access.contract import Checkpoint
    from retinue.audit.signed_heads import SignedHead
    from retinue.audit.usage import DailyUsage
    from retinue.audit.verify import VerifyReport
    from retinue.store.open import OpenAccess, Store

app = group(help="Read the audit log and verify it.")

_LOST = 3
_MAX_TRIES = 3
_PAUSE_SECONDS = 1.0  # longer than a server needs to write its latest records

Folder = Annotated[str, setting("audit_folder")]


@app.command()
def verify(
    url: StoreUrl = default_of("store"),
    audit_folder: Folder = default_of("audit_folder"),
    head: Annotated[
        str | None, flag("head", "Signed heads to compare with: a file of them, - for standard input, or one head.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the log with the store's checkpoint and with signed heads.

    Exit code 1 if anything was changed, removed or added; else 3 if records are known to be lost.
    """
    heads = [] if head is None else _heads_in(head)
    store = store_at(url)
    report = _report(store, _existing(store, audit_folder), heads)
    if as_json:
        print_json(report)
    else:
        for problem in report.problems:
            print_line(f"PROBLEM  {problem}")
        for loss in report.losses:
            print_line(f"LOST     {loss}")
        for note in report.notes:
            print_line(f"note     {note}")
        lost = f"; {report.lost} are lost" if report.lost else ""
        compared = f"; heads compared: {len(heads)}" if heads else ""
        verdict = "NOT as they were written" if report.problems else "as they were written"
        print_line(f"{report.records} records, {verdict}{lost}{compared}")
    if report.problems:
        raise typer.Exit(1)
    if report.lost:
        raise typer.Exit(_LOST)


@app.command()
def show(
    log_id: Annotated[str, typer.Argument(help="The `log_id` of a response, also in its header x-tt-logid.")],
    url: StoreUrl = default_of("store"),
    audit_folder: Folder = default_of("audit_folder"),
) -> None:
    """Print the records of one request as JSON.

    A refusal may only be part of a summary. Then the summaries of its second are printed.
    """
    from retinue.audit.log_files import records_of
    from retinue.audit.refusals import may_include

    store = store_at(url)
    folder = _existing(store, audit_folder)
    found, sums = [], []
    for record in records_of(folder, _checkpoint(store)):
        if record.is_request and record.log_id == log_id and not record.summed:
            found.append(record)
        elif record.summed and may_include(record, log_id):
            sums.append(record)
    if not found and not sums:
        raise InputError(f"log_id {log_id}: is not in the audit log of {store}")
    if not found:
        warn("this request has no record of its own; refusals of its second are summed up")
    for record in found or sums:
        print_json(record)


@app.command()
def head(url: StoreUrl = default_of("store")) -> None:
    """Print a signed head of the log, to keep elsewhere.

    `retinue audit verify --head` compares the log with it.
    """
    from retinue.audit.hash_chain import ChainHead
    from retinue.audit.signed_heads import sign_head
    from retinue.clock import SystemClock

    checkpoint = _checkpoint(store_at(url))
    print_json(sign_head(ChainHead(checkpoint.count, checkpoint.hash), SystemClock().now(), checkpoint.secret))


@app.command("confirm-clock")
def confirm_clock(url: StoreUrl = default_of("store"), audit_folder: Folder = default_of("audit_folder")) -> None:
    """Confirm that this machine's clock is right.

    After a long stop or a jump of the clock, old files and tokens are only removed once it is confirmed.
    """
    from retinue.audit.trusted_time import TimeFiles
    from retinue.clock import SystemClock

    store, now = store_at(url), SystemClock().now()
    confirmed = TimeFiles(_existing(store, audit_folder), _checkpoint(store).secret).confirmed
    try:
        confirmed.write(now)
    except OSError as error:
        raise InputError(f"{confirmed.path}: cannot be written: {error.strerror}") from error
    time = f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC"
    print_line(f"{time} is confirmed; a running server uses it within a minute")


@app.command()
def usage(
    url: StoreUrl = default_of("store"), audit_folder: Folder = default_of("audit_folder"), as_json: AsJson = False
) -> None:
    """Count requests, successful responses and rows by client and day (UTC).

    Lost records are counted too.

    Exit code 1 if the log is not as it was written.
    """
    from retinue.audit.log_files import describe_loss, missing_at_end, records_of
    from retinue.audit.usage import usage_of
    from retinue.clock import SystemClock

    store = store_at(url)
    folder, checkpoint = _existing(store, audit_folder), _checkpoint(store)
    rows = usage_of(records_of(folder, checkpoint))
    missing = missing_at_end(folder, checkpoint)
    if missing is not None:
        told = describe_loss(missing.count, missing.since, SystemClock().now())
        warn(f"{told} are not in the log; run `retinue audit verify`")
    _print_usage(rows, as_json=as_json)
    if _report(store, folder, []).problems:
        warn("the log was changed, and changed records are not counted: run `retinue audit verify`")
        raise typer.Exit(1)


def _print_usage(rows: "Sequence[DailyUsage]", *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from retinue.cli.terminal import TableColumn, print_table

    headings = ("day", "client key", "requests", "answered", "rows", "lost records")
    counts = [map("{:,}".format, (row.requests, row.answered, row.rows, row.lost)) for row in rows]
    cells = ((row.day, row.client or "(none)", *count) for row, count in zip(rows, counts, strict=True))
    print_table([TableColumn(heading) for heading in headings], cells)


def _report(store: "Store", folder: Path, heads: "Sequence[SignedHead]") -> "VerifyReport":
    """Verify the log. Repeat if the server writes or removes files meanwhile."""
    import asyncio

    from retinue.audit.verify import verify as verify_log

    async def verify_with(access: "OpenAccess") -> "VerifyReport":
        for _ in range(_MAX_TRIES):
            checkpoint = await access.audit_checkpoint()
            report = verify_log(folder, checkpoint, heads)
            if report.missing:
                await asyncio.sleep(_PAUSE_SECONDS)
            elif not report.problems or checkpoint == await access.audit_checkpoint():
                return report
        return verify_log(folder, await access.audit_checkpoint(), heads)

    return with_access(store, verify_with)


def _heads_in(source: str) -> "list[SignedHead]":
    """Return the signed heads in a flag or in its file."""
    from retinue.audit.signed_heads import parse_signed_heads

    if not source:  # such as from a failed command in a script
        raise InputError("--head: is empty; give a file, - for standard input, or one signed head")
    if source.lstrip().startswith("{"):
        return parse_signed_heads(source, "--head")
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--head {source}: cannot be read: {error}") from error
    return parse_signed_heads(text, f"--head {source}")


def _checkpoint(store: "Store") -> "Checkpoint":
    return with_access(store, lambda access: access.audit_checkpoint())


def _existing(store: "Store", named: str) -> Path:
    store.access().close()
    folder = store.paths.audit_folder(named)
    if named and not folder.is_dir():
        raise InputError(f"--audit-folder {named}: does not exist")
    return folder
