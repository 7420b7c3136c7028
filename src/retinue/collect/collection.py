"""The folder of a collection: journal, tables and manifest.

Tables and manifest are rewritten from the journal after each run, all files of a kind or none.
"""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from retinue.collect import journal
from retinue.collect.journal import StartRecord
from retinue.collect.progress import (
    MAYBE_CAPPED,
    Counts,
    Item,
    ListProgress,
    MaybeCapped,
    Progress,
    compare_counts,
)
from retinue.collect.tables import EDGES, MEMORY, NODES, QUERIES, fill
from retinue.duck import FORMATS, Duck, translated
from retinue.durable import PUBLIC, finished_name, sync, write_atomically
from retinue.errors import InputError
from retinue.export import graphml
from retinue.locks import open_locked

PAGES = "pages.jsonl"
MANIFEST = "manifest.json"
GRAPHML = "graph.graphml"
TABLES = (*(f"{table}.{kind}" for table in QUERIES for kind in FORMATS), GRAPHML)
_UNFINISHED = "tables.new"  # left by a killed run, removed by the next one
_CHUNK_BYTES = 1 << 20


class FileFacts(Struct, frozen=True):
    """A file as it was written; `rows` is for tables."""

    sha256: str
    bytes: Annotated[int, Meta(ge=0)]
    rows: int | None = None


class Manifest(Struct, frozen=True):
    """The contents of a collection. `lists` has the number of lists in each state, by kind.

    `is_complete`: every list was read to its end, and none may be capped.
    """

    server: str
    begun_at: int
    written_at: int
    is_complete: bool
    lists: dict[str, dict[str, int]]
    pages: int
    rows: int
    files: dict[str, FileFacts]
    counts: dict[str, Counts]
    maybe_capped: list[MaybeCapped]
    uncounted_likely_caps: Annotated[int, Meta(ge=0)]

    @property
    def is_read(self) -> bool:
        """Whether every list was read to the end that the service gives."""
        return not any("incomplete" in states for states in self.lists.values())


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Create a folder if needed, and lock it. Raises `InputError` or `UnavailableLock`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = open_locked(folder, "another process is collecting into it")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used: {error.strerror or error}") from None
    try:
        yield
    finally:
        os.close(descriptor)


def open_collection(folder: Path, server: str, now: int) -> Progress:
    """Return the progress of a collection, which is created if needed. Raises `InputError`."""
    pages = folder / PAGES
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not pages.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: is not empty and not a collection ({PAGES} does not exist); name another folder")
    require_unaltered(folder)
    progress = replay(folder) if pages.exists() else Progress()
    if progress.start is None or (progress.start.server != server and not progress.items):
        with closing(journal.Journal(pages)) as writer:
            writer.add(start := StartRecord(server, now))
        progress.add(start)
    elif progress.start.server != server:
        raise InputError(f"{folder}: was collected from {progress.start.server}, not from {server}")
    return progress


def read_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder. Raises `InputError`."""
    path = folder / MANIFEST
    journal.require_file(path)
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from None
    if PAGES not in manifest.files:
        raise InputError(f"{path}: does not list {PAGES}")
    return manifest


def require_unaltered(folder: Path) -> None:
    """Raise `InputError` if a journal was altered since its manifest was written."""
    # Otherwise the next run would write a manifest that covers the alteration.
    if not (folder / MANIFEST).exists():
        return
    facts = read_manifest(folder).files[PAGES]
    if not (folder / PAGES).is_file() or hash_file(folder / PAGES, facts.bytes) != facts:
        raise InputError(
            f"{folder / PAGES}: was altered (see `retinue collect verify`); to use it as it is, remove {MANIFEST}"
        )


def replay(folder: Path, max_bytes: int | None = None) -> Progress:
    """Return the progress in a journal, or in its first bytes. Raises `InputError`."""
    if not (folder / PAGES).is_file():
        raise InputError(f"{folder}: is not a collection ({PAGES} does not exist)")
    progress = Progress()
    for record in journal.records(folder / PAGES, max_bytes):
        progress.add(record)
    return progress


def write_tables(
    folder: Path,
    kinds: Sequence[str],
    wanted: Sequence[Item],
    now: int,
    on_rows: Callable[[int], None],
    *,
    spreadsheet_safe: bool = False,
) -> Manifest:
    """Write the tables in these formats, and the manifest. Raises `StoreError`.

    Files in other formats from earlier runs are rewritten too, so that none is older than the manifest.
    """
    progress = replay(folder)
    items = {item: ListProgress() for item in wanted} | progress.items
    working = folder / _UNFINISHED
    kinds = list(dict.fromkeys([*kinds, *_kinds_in(folder)]))
    try:
        with translated(folder):
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir()
            with closing(Duck(working, MEMORY, spreadsheet_safe=spreadsheet_safe)) as duck:
                fill(duck, journal.records(folder / PAGES), sorted(items.items()), on_rows)
                facts = {name: fact for kind in kinds for name, fact in _write_kind(duck, working, kind).items()}
            # It describes tables that are replaced now; a kill may have left an unfinished one.
            for path in [path for path in folder.iterdir() if finished_name(path.name) == MANIFEST]:
                path.unlink()
            for name in facts:
                (working / name).rename(folder / name)
            manifest = _manifest(folder, progress, items, now, facts)
            _write_manifest(folder, manifest)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return manifest


def count_states(items: Mapping[Item, ListProgress]) -> dict[str, dict[str, int]]:
    """Return the number of lists in each state, by kind."""
    lists: dict[str, dict[str, int]] = {}
    for (_, name), progress in sorted(items.items(), key=lambda one: (one[0].list, one[1].state)):
        states = lists.setdefault(name, {})
        states[progress.state] = states.get(progress.state, 0) + 1
    return lists


def hash_file(path: Path, max_bytes: int | None = None) -> FileFacts:
    """Return the facts of a file, or of its first bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_CHUNK_BYTES if max_bytes is None else min(_CHUNK_BYTES, max_bytes - size)):
            digest.update(block)
            size += len(block)
    return FileFacts(digest.hexdigest(), size)


def _kinds_in(folder: Path) -> list[str]:
    kinds = [kind for kind in FORMATS if (folder / f"rows.{kind}").exists()]
    return [*kinds, "graphml"] if (folder / GRAPHML).exists() else kinds


def _write_kind(duck: Duck, folder: Path, kind: str) -> dict[str, FileFacts]:
    if kind == "graphml":
        graphml.write_graph(folder / GRAPHML, duck.rows(NODES), duck.rows(EDGES))
        return {GRAPHML: hash_file(folder / GRAPHML)}
    facts = {}
    for table, query in QUERIES.items():
        name = f"{table}.{kind}"
        duck.copy(query, folder / name, kind)
        facts[name] = msgspec.structs.replace(hash_file(folder / name), rows=duck.count(query))
    return facts


def _manifest(
    folder: Path, progress: Progress, items: Mapping[Item, ListProgress], now: int, facts: dict[str, FileFacts]
) -> Manifest:
    assert progress.start is not None
    lists = count_states(items)
    is_complete = not any({"incomplete", MAYBE_CAPPED} & states.keys() for states in lists.values())
    files = {PAGES: hash_file(folder / PAGES)} | facts
    start, pages, rows = progress.start, progress.pages, progress.rows
    return Manifest(start.server, start.at, now, is_complete, lists, pages, rows, files, *compare_counts(items))


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    for name in manifest.files:
        sync(folder / name)
    with write_atomically(folder / MANIFEST, replaces=True, mode=PUBLIC) as unfinished:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
