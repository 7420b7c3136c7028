"""The mirror of a collection: a store that is made of its tables, all of it or nothing."""

import shutil
import sys
from pathlib import Path

import typer


def check_place(into: str) -> None:
    """Raises `InputError` where a mirror cannot be made there."""
    from retinue import assemble
    from retinue.errors import InputError

    try:
        place = assemble.store_path(into)
    except InputError:
        raise InputError(
            f"--into {into}: a mirror is a file; `retinue import` loads the tables into other stores"
        ) from None
    if place.exists():
        raise InputError(
            f"--into {into}: is there already; a mirror is made new each time, so that its order is the lists'"
        )
    if not place.parent.is_dir():
        raise InputError(f"--into {into}: there is no folder {place.parent}")


def make(folder: Path, into: str) -> None:
    """Load a collection's graph into a new store."""
    from retinue.cli.imports import REJECTED, import_

    place = Path(into)
    unfinished = place.with_name(f".{place.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)  # what a kill has left
    unfinished.mkdir(mode=0o700)
    try:
        import_([folder / "follows.parquet"], str(unfinished / place.name), [folder / "accounts.parquet"])
    except typer.Exit as ended:
        if ended.exit_code != REJECTED:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        sys.stderr.write(f"retinue: the file of rejected rows is beside {into}\n")
    for path in sorted(unfinished.iterdir(), key=lambda path: path.name == place.name):  # the store itself comes last
        path.rename(place.with_name(path.name))
    unfinished.rmdir()
