"""Verify a collection: its files against the manifest, and each list's pages in order. Changes nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from retinue.collect import journal
from retinue.collect.collection import MANIFEST, PAGES, TABLES, Manifest, count_states, hash_file, read_manifest, replay
from retinue.collect.journal import InfoRecord, PageRecord, StartRecord, UnavailableRecord
from retinue.collect.progress import MAYBE_CAPPED, Progress, compare_counts, item_of
from retinue.errors import InputError


class CollectionReport(Struct):
    """The problems of a collection as sentences, and its size.

    `newer` is the number of responses after the manifest was written.
    """

    problems: list[str]
    pages: int = 0
    rows: int = 0
    newer: int = 0
    manifest: Manifest | None = None


def verify(folder: Path) -> CollectionReport:
    """Verify a folder; a journal may be newer than its manifest. Raises `InputError` without a journal."""
    report = CollectionReport([], manifest=_manifest_of(folder))
    try:
        if report.manifest is not None:
            report.problems += _wrong_files(folder, report.manifest)
        progress = Progress()
        report.problems += _wrong_pages(folder, progress)
        report.pages, report.rows = progress.pages, progress.rows
        if report.manifest is not None:
            written = report.manifest.files[PAGES].bytes
            then = replay(folder, written) if written < (folder / PAGES).stat().st_size else progress
            report.problems += _wrong_counts(then, report.manifest)
            report.newer = progress.answers - then.answers
    except (InputError, OSError) as error:
        report.problems.append(str(error))
    return report


def _manifest_of(folder: Path) -> Manifest | None:
    path = folder / MANIFEST
    if not path.exists() and (folder / PAGES).exists():
        if any(folder.glob("rows.*")):
            raise InputError(
                f"{path}: does not exist, but tables do: it was removed, or writing was interrupted;"
                " run the same command again to write all files"
            )
        return None
    if not path.exists():
        raise InputError(f"{folder}: is not a collection ({PAGES} does not exist)")
    return read_manifest(folder)


def _wrong_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: does not exist"
            continue
        facts_now = hash_file(path, facts.bytes if name == PAGES else None)
        if (facts_now.bytes, facts_now.sha256) != (facts.bytes, facts.sha256):
            actual = f"{facts_now.bytes} bytes and the SHA-256 {facts_now.sha256}"
            yield f"{name}: has {actual}, not {facts.bytes} and {facts.sha256}"
    for name in TABLES:
        if name not in manifest.files and (folder / name).exists():
            yield f"{name}: is not in the manifest"


def _wrong_counts(progress: Progress, manifest: Manifest) -> Iterator[str]:
    """Compare the manifest with the journal up to its time."""
    start = progress.start
    if start is None or (start.server, start.at) != (manifest.server, manifest.begun_at):
        yield f"{MANIFEST}: names {manifest.server} since {manifest.begun_at}, but {PAGES} does not"
    if (progress.pages, progress.rows) != (manifest.pages, manifest.rows):
        has = f"{progress.pages} pages with {progress.rows} rows"
        yield f"{PAGES}: has {has}, not {manifest.pages} with {manifest.rows}"
    # A list without any response is not in the journal and counts as incomplete.
    claimed, actual = (
        {(name, state): number for name, states in lists.items() for state, number in states.items()}
        for lists in (manifest.lists, count_states(progress.items))
    )
    for name, state in sorted(claimed.keys() | actual.keys()):
        numbers = actual.get((name, state), 0), claimed.get((name, state), 0)
        if numbers[0] > numbers[1] or (state != "incomplete" and numbers[0] != numbers[1]):
            yield f"{PAGES}: has {numbers[0]} of {name} that are {state}, not {numbers[1]}"
    if compare_counts(progress.items) != (manifest.counts, manifest.maybe_capped, manifest.uncounted_likely_caps):
        yield f"{MANIFEST}: its counts of lists differ from those of {PAGES}"
    if manifest.is_complete == any(state in ("incomplete", MAYBE_CAPPED) for _, state in claimed):
        yield f"{MANIFEST}: claims that it is {'' if manifest.is_complete else 'not '}complete, but its lists differ"


def _wrong_pages(folder: Path, progress: Progress) -> Iterator[str]:
    """Check each page's hash and that it continues its list."""
    for record in journal.records(folder / PAGES):
        if isinstance(record, StartRecord):
            if progress.items:
                yield f"{PAGES}: starts a second time"
            progress.add(record)
            continue
        if (
            not isinstance(record, UnavailableRecord)
            and hashlib.sha256(record.body.encode()).hexdigest() != record.sha256
        ):
            yield f"{PAGES}: a page of {record.name} ({record.log_id}) has a different hash"
        before = progress.of(item_of(record))
        if isinstance(record, InfoRecord) and record.only_counts:
            if record.name in progress.counts:
                yield f"{PAGES}: the counts of {record.name} are repeated"
        elif before.state != "incomplete":
            yield f"{PAGES}: the {item_of(record).list} of {record.name} continue after their end"
        elif isinstance(record, PageRecord) and (record.before, record.bound) != (before.rows, before.cursor):
            where = f"with cursor {record.bound} at row {record.before}"
            yield f"{PAGES}: the {record.list} of {record.name} do not continue {where}"
        progress.add(record)
