"""Run an import with progress bars, then report: a table and notes for people, or JSON for programs."""

from collections.abc import Iterator
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from retinue.cli.output import print_json, warn

if TYPE_CHECKING:
    from retinue.ingest.import_run import ImportResults, ImportRun

_SHOWN_GROUPS = 8
_SHOWN_LISTS = 5


def load(run: "ImportRun", *, as_json: bool = False) -> None:
    """Load all files and report, even if it is interrupted."""
    import asyncio

    from retinue.cli.terminal import bars

    results = run.results
    try:
        with bars() as shown:
            asyncio.run(run.load(shown))
    finally:
        show(results, as_json=as_json)
        results.rejects.close()  # the notes say that the rows are in it
        for note in _notes(results):
            warn(note)


def show(results: "ImportResults", *, as_json: bool) -> None:
    """Print the counts of each file. There is no table if no file was read."""
    if as_json:
        print_json(_by_file(results))
    elif results.counts:
        _print_table(results)


def _by_file(results: "ImportResults") -> dict[str, Any]:
    """Return the counts by file, with the reasons of rejected rows."""
    from msgspec import to_builtins

    files = {name: to_builtins(tally) | {"reasons": []} for name, tally in results.counts.items()}
    for (file, kind), group in results.rejects.groups.items():
        first = {"line": group.first.line, "reason": group.first.reason}
        files[file]["reasons"].append({"reason": kind, "rows": group.count, "first": first})
    return files


def _print_table(results: "ImportResults") -> None:
    from retinue.cli.terminal import TableColumn, print_table

    is_dump = results.snapshot is not None
    headings = ["new", "updated", "known", "rejected", *(["ended", "withheld"] if is_dump else []), "rows/s"]
    columns = [TableColumn("file"), *(TableColumn(heading, "right") for heading in headings)]
    names = short_names(list(results.counts))
    rows = []
    for name, tally in results.counts.items():
        counts = [tally.accepted, tally.updated, tally.duplicate, tally.rejected]
        counts += [tally.ended, tally.withheld] if is_dump else []
        seconds = results.seconds.get(name)
        rate = f"{tally.rows / seconds:,.0f}" if seconds else ""
        rows.append((names[name], *(f"{count:,}" for count in counts), rate))
    caption = None if results.total_seconds is None else f"in {results.total_seconds:,.1f} s"
    print_table(columns, rows, title="Import", caption=caption)


def _notes(results: "ImportResults") -> Iterator[str]:
    """Return lines about everything that needs attention."""
    tallies, snapshot = results.counts.values(), results.snapshot
    if nuls := sum(tally.nuls_removed for tally in tallies):
        yield f"NUL characters that were removed: {nuls:,}"
    if halves := sum(tally.surrogates_replaced for tally in tallies):
        yield f"halves of characters (lone surrogates) that were replaced by U+FFFD: {halves:,}"
    if results.rejects.count:
        yield from _rejected(results)
    if snapshot and snapshot.nameless:
        yield (
            "no follows were ended: it is not known whose lists"
            f" {snapshot.nameless:,} of the rejected or altered rows belong to, the first because of"
            f" {snapshot.first_nameless}; correct them and import the dump again"
        )
    elif snapshot and snapshot.withheld:
        yield from _withheld(snapshot.withheld)


def _rejected(results: "ImportResults") -> Iterator[str]:
    """Return the reasons of rejected rows, most frequent first."""
    rejects = results.rejects
    yield f"rejected rows: {rejects.count:,}; all are in {rejects.path}"
    names = short_names(list(results.counts))
    groups = sorted(rejects.groups.values(), key=lambda group: -group.count)
    for group in groups[:_SHOWN_GROUPS]:
        first = group.first
        yield f"  {group.count:,} like {names[first.file]} line {first.line:,}: {first.reason}"
    if others := groups[_SHOWN_GROUPS:]:
        yield f"  {sum(group.count for group in others):,} for {len(others):,} other reasons"


def _withheld(lists: dict[str, str]) -> Iterator[str]:
    yield f"lists from which no follow was ended, since rows of them were rejected or altered: {len(lists):,}"
    for owner, reason in list(lists.items())[:_SHOWN_LISTS]:
        yield f"  of {owner}: {reason}"
    if len(lists) > _SHOWN_LISTS:
        yield f"  and {len(lists) - _SHOWN_LISTS:,} more; the rows are in the rejects file"


def short_names(paths: list[str]) -> dict[str, str]:
    """Return for each path its shortest unique end; devices keep their names."""
    parts = {path: PurePath(path).parts for path in paths}
    names = {}
    for path, own in parts.items():
        others = [each for other, each in parts.items() if other != path]
        lengths = (n for n in range(1, len(own) + 1) if not any(other[-n:] == own[-n:] for other in others))
        length = None if path.startswith("/dev/") else next(lengths, None)
        names[path] = path if length is None else str(PurePath(*own[-length:]))
    return names
