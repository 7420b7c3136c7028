"""The report at the end of an import: a table with notes on what needs attention, or JSON for programs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from retinue.cli.output import print_json

if TYPE_CHECKING:
    from retinue.ingest.importer import ImportCounts
    from retinue.ingest.rejects import RejectGroup, RejectsFile
    from retinue.ingest.snapshot import Snapshot

_SHOWN_GROUPS = 8
_SHOWN_LISTS = 5


@dataclass
class Report:
    """The results of each file. Seconds are missing for files that were not read to their end."""

    rejects: "RejectsFile"
    snapshot: "Snapshot | None"
    counts: "dict[str, ImportCounts]" = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    total_seconds: float | None = None

    def show(self, *, as_json: bool) -> None:
        """Print the tallies, for programs or for people, who get no table if no file was read."""
        if as_json:
            print_json(self._by_file())
        elif self.counts:
            self._print_table()

    def _by_file(self) -> "dict[str, Any]":
        """Return the tallies by file, with the reasons of rejected rows."""
        from msgspec import to_builtins

        files = {name: to_builtins(tally) | {"reasons": []} for name, tally in self.counts.items()}
        for (file, kind), group in self.rejects.groups.items():
            first = {"line": group.first.line, "reason": group.first.reason}
            files[file]["reasons"].append({"reason": kind, "rows": group.count, "first": first})
        return files

    def _print_table(self) -> None:
        """Print the rows a second of each file and the time of all, too."""
        from retinue.cli.terminal import Column, print_table

        headings = ["new", "updated", "known", "rejected", *(["ended", "withheld"] if self.snapshot else []), "rows/s"]
        columns = [Column("file"), *(Column(heading, "right") for heading in headings)]
        names = told_apart(list(self.counts))
        rows = []
        for name, tally in self.counts.items():
            counts = [tally.accepted, tally.updated, tally.duplicate, tally.rejected]
            counts += [tally.ended, tally.withheld] if self.snapshot else []
            seconds = self.seconds.get(name)
            rate = f"{tally.rows / seconds:,.0f}" if seconds else ""
            rows.append((names[name], *(f"{count:,}" for count in counts), rate))
        print_table(columns, rows, title="Import", caption=self._time())

    def _time(self) -> str | None:
        return None if self.total_seconds is None else f"in {self.total_seconds:,.1f} s"

    def notes(self) -> Iterator[str]:
        """Return a line for each thing that needs attention."""
        tallies = self.counts.values()
        if nuls := sum(tally.nuls_removed for tally in tallies):
            yield f"NUL characters that were removed: {nuls:,}"
        if halves := sum(tally.surrogates_replaced for tally in tallies):
            yield f"halves of characters (lone surrogates) that were replaced by U+FFFD: {halves:,}"
        if self.rejects.count:
            yield from self._rejected()
        if self.snapshot and self.snapshot.nameless:
            yield (
                "no follows were ended: it is not known whose lists"
                f" {self.snapshot.nameless:,} of the rejected or altered rows belong to, the first because of"
                f" {self.snapshot.first_nameless}; correct them and import the dump again"
            )
        elif self.snapshot and self.snapshot.withheld:
            yield from _withheld(self.snapshot.withheld)

    def _rejected(self) -> Iterator[str]:
        """The reasons of rejected rows, most frequent first, each with its first row."""
        yield f"rejected rows: {self.rejects.count:,}; all are in {self.rejects.path}"
        names = told_apart(list(self.counts))
        groups = sorted(self.rejects.groups.values(), key=lambda group: -group.count)
        for group in groups[:_SHOWN_GROUPS]:
            yield f"  {group.count:,} like {_place(group, names)}: {group.first.reason}"
        if others := groups[_SHOWN_GROUPS:]:
            yield f"  {sum(group.count for group in others):,} for {len(others):,} other reasons"


def _place(group: "RejectGroup", names: dict[str, str]) -> str:
    return f"{names[group.first.file]} line {group.first.line:,}"


def _withheld(lists: dict[str, str]) -> Iterator[str]:
    yield f"lists from which no follow was ended, since rows of them were rejected or altered: {len(lists):,}"
    for owner, reason in list(lists.items())[:_SHOWN_LISTS]:
        yield f"  of {owner}: {reason}"
    if len(lists) > _SHOWN_LISTS:
        yield f"  and {len(lists) - _SHOWN_LISTS:,} more; the rows are in the rejects file"


def told_apart(paths: list[str]) -> dict[str, str]:
    """Return for each path its shortest end that no other one has; devices keep their names."""
    found = {}
    for path in paths:
        if path.startswith("/dev/"):
            found[path] = path
            continue
        parts = PurePath(path).parts
        ends = [str(Path(*parts[-length:])) for length in range(1, len(parts) + 1)]
        others = [PurePath(other) for other in paths if other != path]
        is_own = [not any(_ends_with(other, PurePath(end)) for other in others) for end in ends]
        found[path] = next((end for end, own in zip(ends, is_own, strict=True) if own), path)
    return found


def _ends_with(path: PurePath, end: PurePath) -> bool:
    return path.parts[-len(end.parts) :] == end.parts
