"""`retinue audit`: is the log what was written, what became of a request, who used how much."""

import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import AsJson, Store, flag, setting
from retinue.cli.groups import group
from retinue.cli.output import print_json, print_line, warn
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from retinue.audit.signed_heads import SignedHead
    from retinue.audit.usage import Usage
    from retinue.audit.verify import VerifyReport
    from retinue.store.contract import Checkpoint

app = group(help="Read the audit log and verify it.")

_LOST = 3
_MOST_TRIES = 3
_PAUSE_SECONDS = 1.0  # by then a server that can write has written what it had

Folder = Annotated[str, setting("audit_folder")]


@app.command()
def verify(
    store: Store = default_of("store"),
    audit_folder: Folder = default_of("audit_folder"),
    head: Annotated[
        str | None, flag("head", "Heads to compare with: a file of them, - for standard input, or one head.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare the log with what the store knows of it, and with heads that were kept elsewhere.

    Exit code 1 if anything was changed, removed or added; else 3 if records are known to be lost.
    """
    heads = [] if head is None else _heads_in(head)
    findings = _findings(store, _existing(store, audit_folder), heads)
    if as_json:
        print_json(findings)
    else:
        for problem in findings.problems:
            print_line(f"PROBLEM  {problem}")
        for loss in findings.losses:
            print_line(f"LOST     {loss}")
        for note in findings.notes:
            print_line(f"note     {note}")
        lost = f"; {findings.lost} are lost" if findings.lost else ""
        compared = f"; heads compared: {len(heads)}" if heads else ""
        verdict = "NOT as they were written" if findings.problems else "as they were written"
        print_line(f"{findings.records} records, {verdict}{lost}{compared}")
    if findings.problems:
        raise typer.Exit(1)
    if findings.lost:
        raise typer.Exit(_LOST)


@app.command()
def show(
    log_id: Annotated[str, typer.Argument(help="As in an answer's `log_id`, or the header x-tt-logid.")],
    store: Store = default_of("store"),
    audit_folder: Folder = default_of("audit_folder"),
) -> None:
    """Print what is remembered of one request, as JSON; of a refusal that was summed up, the sums of its second."""
    from retinue.audit.refusals import may_hold
    from retinue.audit.verify import records_of
    from retinue.errors import InputError

    folder = _existing(store, audit_folder)
    found, sums = [], []
    for record in records_of(folder, _checkpoint(store)):
        if record.is_request and record.log_id == log_id and not record.summed:
            found.append(record)
        elif record.summed and may_hold(record, log_id):
            sums.append(record)
    if not found and not sums:
        raise InputError(f"log_id {log_id}: is not in the audit log of {store}")
    if not found:
        warn("there is no record of this request alone; refusals of its second are summed up")
    for record in found or sums:
        print_json(record)


@app.command()
def head(store: Store = default_of("store")) -> None:
    """Print a signed head of the log, in one line to be kept elsewhere: `retinue audit verify --head` takes it."""
    from retinue.audit.hash_chain import ChainHead
    from retinue.audit.signed_heads import signed_head
    from retinue.clock import SystemClock

    checkpoint = _checkpoint(store)
    print_json(signed_head(ChainHead(checkpoint.count, checkpoint.hash), SystemClock().now(), checkpoint.secret))


@app.command("confirm-clock")
def confirm_clock(store: Store = default_of("store"), audit_folder: Folder = default_of("audit_folder")) -> None:
    """Confirm that this machine's clock is right, after a long stop or a jump: then old files and tokens go again."""
    from retinue.audit import trusted_time
    from retinue.clock import SystemClock
    from retinue.errors import InputError

    now = SystemClock().now()
    files = trusted_time.TimeFiles(_existing(store, audit_folder), _checkpoint(store).secret)
    try:
        trusted_time.confirm_clock(files, now)
    except OSError as error:
        raise InputError(f"{files.confirmed}: cannot be written: {error.strerror}") from error
    print_line(
        f"{datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M:%S} UTC is confirmed; a server takes it within a minute"
    )


@app.command()
def usage(
    store: Store = default_of("store"), audit_folder: Folder = default_of("audit_folder"), as_json: AsJson = False
) -> None:
    """Requests, answers with 200, and rows, by client and day (UTC), from the whole log; and what is lost of it.

    Exit code 1 if the log is not as it was written.
    """
    from retinue.audit.usage import usage_of
    from retinue.audit.verify import lost_between, missing_at_end, records_of
    from retinue.clock import SystemClock

    folder, checkpoint = _existing(store, audit_folder), _checkpoint(store)
    rows = usage_of(records_of(folder, checkpoint))
    missing = missing_at_end(folder, checkpoint)
    if missing is not None:
        told = lost_between(missing.count, missing.since, SystemClock().now())
        warn(f"{told} are not in the log; `retinue audit verify` says more")
    _print_usage(rows, as_json=as_json)
    if _findings(store, folder, []).problems:
        warn("the log is not as it was written, and what was changed is not counted: run `retinue audit verify`")
        raise typer.Exit(1)


def _print_usage(rows: "Sequence[Usage]", *, as_json: bool) -> None:
    if as_json:
        print_json(rows)
        return
    from retinue.cli.terminal import Column, print_table

    columns = [Column(heading) for heading in ("day", "client key", "requests", "answered", "rows", "lost records")]
    counts = ((f"{row.requests:,}", f"{row.answered:,}", f"{row.rows:,}", f"{row.lost:,}") for row in rows)
    print_table(columns, ((row.day, row.client or "(none)", *count) for row, count in zip(rows, counts, strict=True)))


def _findings(store: str, folder: Path, heads: "Sequence[SignedHead]") -> "VerifyReport":
    """What verification finds. The server may write, and let old files go, while they are read: then they are again."""
    import asyncio

    from retinue import assemble
    from retinue.audit.verify import verify as verify_log

    async def main() -> "VerifyReport":
        with closing(assemble.open_access(store)) as access:
            for _ in range(_MOST_TRIES):
                checkpoint = await access.audit_checkpoint()
                findings = verify_log(folder, checkpoint, heads)
                if findings.missing:
                    await asyncio.sleep(_PAUSE_SECONDS)
                elif not findings.problems or checkpoint == await access.audit_checkpoint():
                    return findings
            return verify_log(folder, await access.audit_checkpoint(), heads)

    return asyncio.run(main())


def _heads_in(source: str) -> "list[SignedHead]":
    """The heads that a flag gives: itself, or the content of a file."""
    from retinue.audit.signed_heads import parse_signed_heads
    from retinue.errors import InputError

    if not source:  # such as from a command in a script that failed: nothing would be compared
        raise InputError("--head: is empty; give a file, - for standard input, or one head")
    if source.lstrip().startswith("{"):
        return parse_signed_heads(source, "--head")
    try:
        text = sys.stdin.read() if source == "-" else Path(source).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--head {source}: cannot be read: {error}") from error
    return parse_signed_heads(text, f"--head {source}")


def _checkpoint(store: str) -> "Checkpoint":
    import asyncio

    from retinue import assemble

    async def main() -> "Checkpoint":
        with closing(assemble.open_access(store)) as access:
            return await access.audit_checkpoint()

    return asyncio.run(main())


def _existing(store: str, named: str) -> Path:
    from retinue import assemble
    from retinue.errors import InputError

    assemble.open_access(store).close()
    folder = assemble.audit_folder(store, named)
    if named and not folder.is_dir():
        raise InputError(f"--audit-folder {named}: there is no such folder")
    return folder
