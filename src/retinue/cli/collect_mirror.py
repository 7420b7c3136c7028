"""The mirror of a collection: a store made of its tables, completely or not at all."""

import os
import shutil
from pathlib import Path

from retinue.cli.output import warn
from retinue.errors import InputError

_ENDING = ".unfinished"


def check_place(into: str) -> None:
    """Raise `InputError` if a mirror cannot be created at a path."""
    from retinue.store.open import open_store

    if not into or "://" in into:
        raise InputError(f"--into {into}: a mirror is a file; `retinue import` loads the tables into other stores")
    place, store = Path(into), open_store(into)
    if not place.parent.is_dir():
        raise InputError(f"--into {into}: the folder {place.parent} does not exist")
    for path in (place, *store.files()):
        if os.path.lexists(path):
            raise InputError(
                f"--into {into}: {path} already exists; remove it or name a new store (a mirror has one collection)"
            )


def make(folder: Path, into: str) -> None:
    """Load a collection's graph into a new store. Raises `InputError` if it already exists."""
    from retinue.collect.collection import lock_folder

    place = Path(into)
    unfinished = place.with_name(f".{place.name}{_ENDING}")
    with lock_folder(unfinished):
        for leftover in unfinished.iterdir():  # of a killed process
            leftover.unlink()
        try:
            _load(folder, unfinished / place.name)
            _move(unfinished, place)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def _load(folder: Path, store: Path) -> None:
    from retinue.cli.import_report import load
    from retinue.clock import SystemClock
    from retinue.ingest.import_run import Sources, open_import
    from retinue.store.open import open_store

    sources = Sources([folder / "follows.parquet"], [folder / "accounts.parquet"])
    with open_import(open_store(str(store)), sources, SystemClock()) as run:
        load(run)
        if run.results.rejects.count:
            warn("the rejects file will be beside the mirror")


def _move(unfinished: Path, place: Path) -> None:
    """Link the files into place, the store itself last. Links never replace a file."""
    from retinue.durable import sync

    check_place(str(place))
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == place.name):
        os.link(path, place.with_name(path.name))
        sync(place.parent)
