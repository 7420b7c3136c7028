"""Whether a collection is what its manifest says, and its lists are whole. Changes nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct

from retinue.collect import journal
from retinue.collect.collection import MANIFEST, PAGES, Manifest, hashed, replayed
from retinue.collect.journal import InfoRead, PageRead
from retinue.collect.progress import Place
from retinue.errors import InputError


class Verified(Struct):
    """What was found: `problems` as sentences, and of what is well: how much there is, `newer` than the manifest."""

    problems: list[str]
    pages: int = 0
    rows: int = 0
    newer: int = 0
    manifest: Manifest | None = None


def verify(folder: Path) -> Verified:
    """Look at everything. A journal that went on since its manifest is well. Raises `InputError` without a journal."""
    found = Verified([], manifest=_manifest_of(folder))
    if found.manifest is not None:
        found.problems += _wrong_files(folder, found.manifest)
    try:
        found.problems += _wrong_pages(folder)
        progress = replayed(folder)
    except InputError as error:
        found.problems.append(str(error))
        return found
    found.pages, found.rows = progress.pages, progress.rows
    if (manifest := found.manifest) is not None:
        found.newer = progress.pages - manifest.pages
        if found.newer < 0 or (found.newer == 0 and progress.rows != manifest.rows):
            counted = f"{progress.pages} pages with {progress.rows} rows"
            found.problems.append(f"{PAGES}: has {counted}, not {manifest.pages} with {manifest.rows}")
    return found


def _manifest_of(folder: Path) -> Manifest | None:
    """The manifest in a folder; None if the tables were not written yet. Raises `InputError`."""
    path = folder / MANIFEST
    if not path.exists() and (folder / PAGES).exists():
        if any(folder.glob("rows.*")):
            raise InputError(f"{path}: is missing, though there are tables")
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: {error}") from None


def _wrong_files(folder: Path, manifest: Manifest) -> Iterator[str]:
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: is missing"
            continue
        found = hashed(path, facts.bytes if name == PAGES else None)
        if found.sha256 != facts.sha256:
            yield f"{name}: has {found.bytes} bytes and the SHA-256 {found.sha256}, not {facts.sha256}"


def _wrong_pages(folder: Path) -> Iterator[str]:
    """Each page has its hash, and goes on where the one before has ended."""
    ends: dict[Place, tuple[int, int | None, bool]] = {}  # rows up to here, the cursor to go on with, whether it may
    for record in journal.records(folder / PAGES):
        if (
            isinstance(record, PageRead | InfoRead)
            and hashlib.sha256(record.body.encode()).hexdigest() != record.sha256
        ):
            yield f"{PAGES}: a page of {record.name} ({record.log_id}) has another hash than it had"
        if not isinstance(record, PageRead):
            continue
        page, place = record.page(), Place(record.name, record.list)
        rows, cursor, may_go_on = ends.get(place, (0, None, True))
        if (record.before, record.bound, True) != (rows, cursor, may_go_on):
            where = f"with cursor {record.bound} at row {record.before}"
            yield f"{PAGES}: the {record.list} of {record.name} do not go on {where}"
        ends[place] = record.before + len(page.rows), page.cursor, page.has_more
