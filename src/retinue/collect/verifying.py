"""Whether a collection is what its manifest says, and its lists are whole. Changes nothing."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from retinue.collect import journal
from retinue.collect.collection import MANIFEST, PAGES, Manifest, hashed, replayed
from retinue.collect.journal import InfoRead, PageRead
from retinue.collect.progress import Place
from retinue.errors import InputError


def manifest_of(folder: Path) -> Manifest:
    """The manifest in a folder. Raises `InputError`."""
    path = folder / MANIFEST
    try:
        return msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError) as error:
        raise InputError(f"{path}: {error}") from None


def problems(folder: Path) -> Iterator[str]:
    """Everything that is not as it should be, as sentences. Raises `InputError` where there is no collection."""
    manifest = manifest_of(folder)
    for name, facts in manifest.files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name}: is missing"
        elif (found := hashed(path)).sha256 != facts.sha256:
            yield f"{name}: has {found.bytes} bytes and the SHA-256 {found.sha256}, not {facts.sha256}"
    try:
        yield from _wrong_pages(folder)
        progress = replayed(folder)
    except InputError as error:
        yield str(error)
        return
    if (progress.pages, progress.rows) != (manifest.pages, manifest.rows):
        counted = f"{progress.pages} pages with {progress.rows} rows"
        yield f"{PAGES}: has {counted}, not {manifest.pages} with {manifest.rows}"


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
