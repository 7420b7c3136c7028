"""`retinue audit`: is the log what was written, what became of a request, who used how much."""

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import AsJson, Store, setting
from retinue.cli.groups import group
from retinue.cli.output import print_json, print_line
from retinue.settings import default_of

if TYPE_CHECKING:
    from retinue.access.verification import Findings
    from retinue.store.base import Anchor

app = group(help="Read the audit log and verify it.")

_MOST_TRIES = 3

Folder = Annotated[str, setting("audit_folder")]


@app.command()
def verify(
    store: Store = default_of("store"), audit_folder: Folder = default_of("audit_folder"), as_json: AsJson = False
) -> None:
    """Compare the log with what the store knows of it. Exit code 1 where anything was changed, removed or added."""
    findings = _findings(store, _existing(store, audit_folder))
    if as_json:
        print_json(findings)
    else:
        for problem in findings.problems:
            print_line(f"PROBLEM  {problem}")
        for note in findings.notes:
            print_line(f"note     {note}")
        print_line(f"{findings.records} records, {'NOT ' if findings.problems else ''}as they were written")
    if findings.problems:
        raise typer.Exit(1)


@app.command()
def show(
    log_id: Annotated[str, typer.Argument(help="As in an answer's `log_id`, or the header x-tt-logid.")],
    store: Store = default_of("store"),
    audit_folder: Folder = default_of("audit_folder"),
) -> None:
    """Print what is remembered of one request, as JSON."""
    from retinue.access.verification import records_of
    from retinue.errors import InputError

    folder = _existing(store, audit_folder)
    found = [record for record in records_of(folder, _anchor(store)) if record.log_id == log_id]
    if not found:
        raise InputError(f"log_id {log_id}: is not in the audit log of {store}")
    for record in found:
        print_json(record)


@app.command()
def usage(
    store: Store = default_of("store"), audit_folder: Folder = default_of("audit_folder"), as_json: AsJson = False
) -> None:
    """Requests, answers with 200, and rows, by client and day (UTC), from the whole log."""
    from retinue.access.usage import usage_of
    from retinue.access.verification import records_of

    folder = _existing(store, audit_folder)
    rows = usage_of(records_of(folder, _anchor(store)))
    if as_json:
        print_json(rows)
        return
    from retinue.cli.terminal import Column, print_table

    columns = [Column(heading) for heading in ("day", "client key", "requests", "answered", "rows")]
    counts = ((f"{row.requests:,}", f"{row.answered:,}", f"{row.rows:,}") for row in rows)
    print_table(columns, ((row.day, row.client or "(none)", *count) for row, count in zip(rows, counts, strict=True)))


def _findings(store: str, folder: Path) -> "Findings":
    """What verification finds. The server may write, and let old files go, while they are read: then they are again."""
    import asyncio

    from retinue import assemble
    from retinue.access.verification import verify as verify_log

    async def main() -> "Findings":
        with closing(assemble.open_access(store)) as access:
            for _ in range(_MOST_TRIES):
                anchor = await access.audit_anchor()
                findings = verify_log(folder, anchor)
                if not findings.problems or anchor == await access.audit_anchor():
                    return findings
            return verify_log(folder, await access.audit_anchor())

    return asyncio.run(main())


def _anchor(store: str) -> "Anchor":
    import asyncio

    from retinue import assemble

    async def main() -> "Anchor":
        with closing(assemble.open_access(store)) as access:
            return await access.audit_anchor()

    return asyncio.run(main())


def _existing(store: str, named: str) -> Path:
    from retinue import assemble
    from retinue.errors import InputError

    assemble.open_access(store).close()
    folder = assemble.audit_folder(store, named)
    if named and not folder.is_dir():
        raise InputError(f"--audit-folder {named}: there is no such folder")
    return folder
