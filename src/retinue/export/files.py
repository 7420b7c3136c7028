"""The files of an export: a new folder with all of them, or none."""

import shutil
from contextlib import closing
from pathlib import Path
from secrets import token_hex

from msgspec import Struct

from retinue.durable import sync
from retinue.errors import InputError
from retinue.export import graphml
from retinue.export.duck import Duck, translated
from retinue.export.gathered import ACCOUNTS, FOLLOWS, MEMORY, OnRows, gather
from retinue.store.whole import WholeGraph

_PRIVATE = 0o700  # names of private accounts are in it


class Exported(Struct, frozen=True):
    """What was written."""

    accounts: int
    follows: int
    files: list[Path]


def _write(duck: Duck, folder: Path, kind: str) -> None:
    if kind == "graphml":
        graphml.write(folder / "graph.graphml", duck.rows(ACCOUNTS), duck.rows(FOLLOWS))
        return
    duck.copy(ACCOUNTS, folder / f"accounts.{kind}", kind)
    duck.copy(FOLLOWS, folder / f"follows.{kind}", kind)


def export(graph: WholeGraph, folder: Path, kind: str, on_rows: OnRows, *, with_ended: bool) -> Exported:
    """Write a whole graph into a folder that is made for it. Raises `InputError` where something is there already."""
    if folder.exists():
        raise InputError(f"{folder}: is there already; an export replaces nothing")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: cannot be made: there is no folder {folder.parent}")
    unfinished = folder.with_name(f"{folder.name}.{token_hex(8)}.new")
    try:
        with translated(folder):
            exported = _export_into(unfinished, graph, kind, on_rows, with_ended=with_ended)
            unfinished.rename(folder)
            sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(exported.accounts, exported.follows, [folder / path.name for path in exported.files])


def _export_into(folder: Path, graph: WholeGraph, kind: str, on_rows: OnRows, *, with_ended: bool) -> Exported:
    working = folder / "working"
    folder.mkdir(mode=_PRIVATE)
    working.mkdir()
    with closing(Duck(working, MEMORY)) as duck:
        gather(duck, graph, on_rows, with_ended=with_ended)
        _write(duck, folder, kind)
        counts = duck.count(ACCOUNTS), duck.count(FOLLOWS)
    shutil.rmtree(working)
    files = sorted(folder.iterdir())
    for path in (*files, folder):
        sync(path)
    return Exported(*counts, files)
