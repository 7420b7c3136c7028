"""The folder of a collection: its journal, its tables as files, and a manifest of what is in them.

The journal is the truth; the other files are made of it anew after each run, all or none of a kind.
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
from retinue.collect.counting import Counts, MaybeCapped, maybe_capped, sums, uncounted
from retinue.collect.journal import Begun
from retinue.collect.progress import MAYBE_CAPPED, Place, Progress, Standing
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
_WORKING = "tables.new"  # what a kill leaves of it is removed by the next run
_HASHED_AT_ONCE = 1 << 20


class FileFacts(Struct, frozen=True):
    """A file as it was written; `rows` where it is a table."""

    sha256: str
    bytes: Annotated[int, Meta(ge=0)]
    rows: int | None = None


class Manifest(Struct, frozen=True):
    """The contents of a collection, not only of its last run. `lists`: the number in each state, by kind.

    `counts` compares rows with the counts in profiles, as far as those are known. `is_complete`: every list was read to
    its end, and none may be capped. `uncounted_likely_caps`: how many lists end at a likely cap with an unknown count.
    """

    server: str
    begun_at: int
    written_at: int
    is_complete: bool
    lists: dict[str, dict[str, int]]
    pages: int
    rows: int
    files: dict[str, FileFacts]
    counts: dict[str, Counts] = {}
    maybe_capped: list[MaybeCapped] = []
    uncounted_likely_caps: Annotated[int, Meta(ge=0)] = 0

    @property
    def is_read(self) -> bool:
        """Whether every list was read to the end that the service gives."""
        return not any("incomplete" in states for states in self.lists.values())


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """A folder, made if it is not there, for this process alone. Raises `InputError` or `UnavailableLock`."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = open_locked(folder, "another process is collecting into it")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used: {error.strerror or error}") from None
    try:
        yield
    finally:
        os.close(descriptor)  # which ends the lock, as does the end of the process


def opened(folder: Path, server: str, now: int) -> Progress:
    """How far the collection in a folder is, which is begun if there is none. Raises `InputError`."""
    pages = folder / PAGES
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not pages.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: has other things in it, and no {PAGES}")
    require_unaltered(folder)
    progress = replayed(folder) if pages.exists() else Progress()
    if progress.begun is None or (progress.begun.server != server and not progress.standings):
        with closing(journal.Journal(pages)) as writing:
            writing.add(begun := Begun(server, now))
        progress.take(begun)
    elif progress.begun.server != server:
        raise InputError(f"{folder}: was collected from {progress.begun.server}, not from {server}")
    return progress


def manifest_of(folder: Path) -> Manifest:
    """The manifest in a folder. Raises `InputError`."""
    path = folder / MANIFEST
    journal.require_file(path)
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from None
    if PAGES not in manifest.files:
        raise InputError(f"{path}: says nothing of {PAGES}")
    return manifest


def require_unaltered(folder: Path) -> None:
    """Raise `InputError` if a journal was altered since its manifest was written.

    A run that went on from it would make the manifest anew, and say that all is well.
    """
    if not (folder / MANIFEST).exists():
        return
    facts = manifest_of(folder).files[PAGES]
    if not (folder / PAGES).is_file() or hashed(folder / PAGES, facts.bytes) != facts:
        raise InputError(
            f"{folder / PAGES}: is not what was written (`retinue collect verify` says more);"
            f" to use it as it is, remove {MANIFEST}"
        )


def replayed(folder: Path, most: int | None = None) -> Progress:
    """How far a collection is, by its journal or the first bytes of that. Raises `InputError`."""
    if not (folder / PAGES).is_file():
        raise InputError(f"{folder}: no collection (there is no {PAGES})")
    progress = Progress()
    for record in journal.records(folder / PAGES, most):
        progress.take(record)
    return progress


def write(
    folder: Path,
    kinds: Sequence[str],
    wanted: Sequence[Place],
    now: int,
    on_rows: Callable[[int], None],
    *,
    spreadsheet_safe: bool = False,
) -> Manifest:
    """Make the files of these kinds of the journal, and the manifest. Raises `StoreError`.

    Those of other kinds that an earlier run has made are made anew as well: none is older than the manifest.
    """
    progress = replayed(folder)
    standings = {place: Standing() for place in wanted} | progress.standings
    working = folder / _WORKING
    kinds = list(dict.fromkeys([*kinds, *_kinds_in(folder)]))
    try:
        with translated(folder):
            shutil.rmtree(working, ignore_errors=True)
            working.mkdir()
            with closing(Duck(working, MEMORY, spreadsheet_safe=spreadsheet_safe)) as duck:
                fill(duck, journal.records(folder / PAGES), sorted(standings.items()), on_rows)
                facts = {name: fact for kind in kinds for name, fact in _write_kind(duck, working, kind).items()}
            # It speaks of tables that go away now, one by one; a kill may have left an unfinished one.
            for path in [path for path in folder.iterdir() if finished_name(path.name) == MANIFEST]:
                path.unlink()
            for name in facts:
                (working / name).rename(folder / name)
            manifest = _manifest(folder, progress, standings, now, facts)
            _write_manifest(folder, manifest)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return manifest


def counted(standings: Mapping[Place, Standing]) -> dict[str, dict[str, int]]:
    """How many lists of each kind are in which state."""
    lists: dict[str, dict[str, int]] = {}
    for (_, name), standing in sorted(standings.items(), key=lambda one: (one[0].list, one[1].state)):
        states = lists.setdefault(name, {})
        states[standing.state] = states.get(standing.state, 0) + 1
    return lists


def hashed(path: Path, most: int | None = None) -> FileFacts:
    """The facts of a file, or of its first bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_HASHED_AT_ONCE if most is None else min(_HASHED_AT_ONCE, most - size)):
            digest.update(block)
            size += len(block)
    return FileFacts(digest.hexdigest(), size)


def _kinds_in(folder: Path) -> list[str]:
    found = [kind for kind in FORMATS if (folder / f"rows.{kind}").exists()]
    return [*found, "graphml"] if (folder / GRAPHML).exists() else found


def _write_kind(duck: Duck, folder: Path, kind: str) -> dict[str, FileFacts]:
    if kind == "graphml":
        graphml.write_graph(folder / GRAPHML, duck.rows(NODES), duck.rows(EDGES))
        return {GRAPHML: hashed(folder / GRAPHML)}
    found = {}
    for table, query in QUERIES.items():
        name = f"{table}.{kind}"
        duck.copy(query, folder / name, kind)
        found[name] = msgspec.structs.replace(hashed(folder / name), rows=duck.count(query))
    return found


def _manifest(
    folder: Path, progress: Progress, standings: Mapping[Place, Standing], now: int, facts: dict[str, FileFacts]
) -> Manifest:
    assert progress.begun is not None
    lists = counted(standings)
    is_complete = not any({"incomplete", MAYBE_CAPPED} & states.keys() for states in lists.values())
    files = {PAGES: hashed(folder / PAGES)} | facts
    begun = progress.begun
    figures = sums(standings), maybe_capped(standings), uncounted(standings)
    return Manifest(begun.server, begun.at, now, is_complete, lists, progress.pages, progress.rows, files, *figures)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    """All of it or nothing, after everything that it speaks of."""
    for name in manifest.files:
        sync(folder / name)
    with write_atomically(folder / MANIFEST, replaces=True, mode=PUBLIC) as unfinished:
        unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
