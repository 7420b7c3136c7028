"""The files of an export: a new folder with all of them, or none."""

import os
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from secrets import token_hex

from msgspec import Struct

from retinue.errors import InputError
from retinue.export import graphml
from retinue.export.gathered import ACCOUNTS, FOLLOWS, Gathered, OnRows, translated
from retinue.store.whole import WholeGraph

_PRIVATE = 0o700  # names of private accounts are in it


class Exported(Struct, frozen=True):
    """What was written."""

    accounts: int
    follows: int
    files: list[Path]


def _write_parquet(gathered: Gathered, folder: Path) -> None:
    _write_tables(gathered, folder, "parquet", "FORMAT parquet, COMPRESSION zstd")


def _write_csv(gathered: Gathered, folder: Path) -> None:
    _write_tables(gathered, folder, "csv", "FORMAT csv, HEADER true")


def _write_json_lines(gathered: Gathered, folder: Path) -> None:
    _write_tables(gathered, folder, "jsonl", "FORMAT json")


def _write_graphml(gathered: Gathered, folder: Path) -> None:
    graphml.write(folder / "graph.graphml", gathered.rows(ACCOUNTS), gathered.rows(FOLLOWS))


def _write_tables(gathered: Gathered, folder: Path, ending: str, options: str) -> None:
    gathered.copy(ACCOUNTS, folder / f"accounts.{ending}", options)
    gathered.copy(FOLLOWS, folder / f"follows.{ending}", options)


FORMATS: dict[str, Callable[[Gathered, Path], None]] = {
    "parquet": _write_parquet,
    "csv": _write_csv,
    "jsonl": _write_json_lines,
    "graphml": _write_graphml,
}


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
            _sync(folder.parent)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return Exported(exported.accounts, exported.follows, [folder / path.name for path in exported.files])


def _export_into(folder: Path, graph: WholeGraph, kind: str, on_rows: OnRows, *, with_ended: bool) -> Exported:
    working = folder / "working"
    folder.mkdir(mode=_PRIVATE)
    working.mkdir()
    with closing(Gathered(working)) as gathered:
        gathered.gather(graph, on_rows, with_ended=with_ended)
        FORMATS[kind](gathered, folder)
        counts = gathered.count(ACCOUNTS), gathered.count(FOLLOWS)
    shutil.rmtree(working)
    files = sorted(folder.iterdir())
    for path in files:
        _sync(path)
    return Exported(*counts, files)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
