"""The files of an export: a new folder with all of them, or none."""

import shutil
from contextlib import closing
from pathlib import Path

from msgspec import Struct

from retinue.durable import sync
from retinue.errors import InputError
from retinue.export import graphml
from retinue.export.duck import Duck, translated
from retinue.export.gathered import ACCOUNTS, FOLLOWS, MEMORY, OnRows, gather
from retinue.store.whole import WholeGraph
from retinue.temporary import TemporaryFolder


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


class Form(Struct, frozen=True):
    """The form of an export: the kind of files, whether with ended follows, and whether no text in CSV is a formula."""

    kind: str
    with_ended: bool = False
    spreadsheet_safe: bool = False


def export(graph: WholeGraph, folder: Path, form: Form, on_rows: OnRows) -> Exported:
    """Write a whole graph into a folder that is made for it. Raises `InputError` where something is there already."""
    if folder.exists():
        raise InputError(f"{folder}: is there already; an export replaces nothing")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: cannot be made: there is no folder {folder.parent}")
    with translated(folder), closing(TemporaryFolder(folder)) as unfinished:
        exported = _export_into(unfinished.path, graph, form, on_rows)
        unfinished.path.rename(folder)
        sync(folder.parent)
    return Exported(exported.accounts, exported.follows, [folder / path.name for path in exported.files])


def _export_into(folder: Path, graph: WholeGraph, form: Form, on_rows: OnRows) -> Exported:
    working = folder / "working"
    working.mkdir()
    with closing(Duck(working, MEMORY, spreadsheet_safe=form.spreadsheet_safe)) as duck:
        gather(duck, graph, on_rows, with_ended=form.with_ended)
        _write(duck, folder, form.kind)
        counts = duck.count(ACCOUNTS), duck.count(FOLLOWS)
    shutil.rmtree(working)
    files = sorted(folder.iterdir())
    for path in (*files, folder):
        sync(path)
    return Exported(*counts, files)
