"""Whether a collection is what its manifest says, and its lists are whole. Changes nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from retinue.collect import journal
from retinue.collect.collection import MANIFEST, PAGES, TABLES, Manifest, counted, hashed, manifest_of, replayed
from retinue.collect.counting import maybe_capped, sums, uncounted
from retinue.collect.journal import InfoRecord, PageRecord, StartRecord, UnavailableRecord
from retinue.collect.progress import MAYBE_CAPPED, ListProgress, Progress, place_of
from retinue.errors import InputError


class CollectionReport(Struct):
    """What was found: `problems` as sentences, and of what is well: how much there is.

    `newer` is how many answers came after the manifest was written.
    """

    problems: list[str]
    pages: int = 0
    rows: int = 0
    newer: int = 0
    manifest: Manifest | None = None


def verify(folder: Path) -> CollectionReport:
    """Look at everything. A journal that went on since its manifest is well. Raises `InputError` without a journal."""
    found = CollectionReport([], manifest=_manifest_of(folder))
    try:
        if found.manifest is not None:
            found.problems += _wrong_files(folder, found.manifest)
        progress = Progress()
        found.problems += _wrong_pages(folder, progress)
        found.pages, found.rows = progress.pages, progress.rows
        if found.manifest is not None:
            written = found.manifest.files[PAGES].bytes
            then = replayed(folder, written) if written < (folder / PAGES).stat().st_size else progress
            found.problems += _wrong_counts(then, found.manifest)
            found.newer = progress.answers - then.answers
    except (InputError, OSError) as error:
        found.problems.append(str(error))
    return found


def _manifest_of(folder: Path) -> Manifest | None:
    """The manifest in a folder; None if the tables were not written yet. Raises `InputError`."""
    path = folder / MANIFEST
    if not path.exists() and (folder / PAGES).exists():
        if any(folder.glob("rows.*")):
            raise InputError(
                f"{path}: is missing, though there are tables: it was removed, or writing them was cut off;"
                " the same command writes all anew"
            )
        return None
    if not path.exists():
        raise InputError(f"{folder}: no collection (there is no {PAGES})")
    return manifest_of(folder)


def _wrong_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: is missing"
            continue
        found = hashed(path, facts.bytes if name == PAGES else None)
        if (found.bytes, found.sha256) != (facts.bytes, facts.sha256):
            is_so = f"{found.bytes} bytes and the SHA-256 {found.sha256}"
            yield f"{name}: has {is_so}, not {facts.bytes} and {facts.sha256}"
    for name in TABLES:
        if name not in manifest.files and (folder / name).exists():
            yield f"{name}: is not in the manifest"


def _wrong_counts(progress: Progress, manifest: Manifest) -> Iterator[str]:
    """The manifest says of the journal up to its time what can be told from it."""
    begun = progress.begun
    if begun is None or (begun.server, begun.at) != (manifest.server, manifest.begun_at):
        yield f"{MANIFEST}: says {manifest.server} since {manifest.begun_at}, and {PAGES} does not"
    if (progress.pages, progress.rows) != (manifest.pages, manifest.rows):
        has = f"{progress.pages} pages with {progress.rows} rows"
        yield f"{PAGES}: has {has}, not {manifest.pages} with {manifest.rows}"
    # Lists of which nothing had come are in no journal, and are incomplete.
    said, known = (
        {(name, state): number for name, states in lists.items() for state, number in states.items()}
        for lists in (manifest.lists, counted(progress.standings))
    )
    for name, state in sorted(said.keys() | known.keys()):
        numbers = known.get((name, state), 0), said.get((name, state), 0)
        if numbers[0] > numbers[1] or (state != "incomplete" and numbers[0] != numbers[1]):
            yield f"{PAGES}: has {numbers[0]} of {name} that are {state}, not {numbers[1]}"
    figures = sums(progress.standings), maybe_capped(progress.standings), uncounted(progress.standings)
    if figures != (manifest.counts, manifest.maybe_capped, manifest.uncounted_likely_caps):
        yield f"{MANIFEST}: says of the counts of lists what {PAGES} does not"
    if manifest.is_complete == any(state in ("incomplete", MAYBE_CAPPED) for _, state in said):
        yield f"{MANIFEST}: says that it is {'' if manifest.is_complete else 'not '}complete, and its lists do not"


def _wrong_pages(folder: Path, progress: Progress) -> Iterator[str]:
    """Each page has its hash, and goes on where the one before has ended; nothing comes after an end."""
    for record in journal.records(folder / PAGES):
        if isinstance(record, StartRecord):
            if progress.standings:
                yield f"{PAGES}: begins a second time"
            progress.take(record)
            continue
        if (
            not isinstance(record, UnavailableRecord)
            and hashlib.sha256(record.body.encode()).hexdigest() != record.sha256
        ):
            yield f"{PAGES}: a page of {record.name} ({record.log_id}) has another hash than it had"
        before = progress.standings.get(place_of(record), ListProgress())
        if isinstance(record, InfoRecord) and record.only_counts:
            if record.name in progress.counts:
                yield f"{PAGES}: the counts of {record.name} come a second time"
        elif before.state != "incomplete":
            yield f"{PAGES}: the {place_of(record).list} of {record.name} go on after their end"
        elif isinstance(record, PageRecord) and (record.before, record.bound) != (before.rows, before.cursor):
            where = f"with cursor {record.bound} at row {record.before}"
            yield f"{PAGES}: the {record.list} of {record.name} do not go on {where}"
        progress.take(record)
