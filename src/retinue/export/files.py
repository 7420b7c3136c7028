"""Export of a whole graph to a new folder, all or nothing."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct, structs

from retinue.duck import Duck, translated
from retinue.durable import sync
from retinue.errors import InputError
from retinue.export import graphml
from retinue.model import AccountRecord
from retinue.store.reading.scan import GraphScan
from retinue.temporary import TemporaryFolder

MEMORY = "900MB"

OnRows = Callable[[int], None]

# Columns have the names of the tables that an import reads. The files do not depend on the store's ids or order.
_ACCOUNTS = (
    "SELECT id, username, display_name, visibility, bio_description, avatar_url, bio_url, is_verified, likes_count,"
    " video_count FROM account ORDER BY id"
)
_FOLLOWS = (
    "SELECT a.id AS follower, b.id AS followee, start AS followed_at, nullif(stop, 0) AS ended_at, following_position,"
    " followers_position FROM span JOIN account a ON a.number = span.follower"
    " JOIN account b ON b.number = span.followee ORDER BY a.id, following_position DESC"
)
_TABLES = """
CREATE TABLE account (
    number BIGINT, id VARCHAR, username VARCHAR, display_name VARCHAR, visibility VARCHAR, bio_description VARCHAR,
    avatar_url VARCHAR, bio_url VARCHAR, is_verified BOOLEAN, likes_count BIGINT, video_count BIGINT
);
CREATE TABLE span (
    follower BIGINT, followee BIGINT, start BIGINT, stop BIGINT, following_position BIGINT, followers_position BIGINT
);
"""


class ExportedFiles(Struct, frozen=True):
    """The files of an export, and their rows."""

    accounts: int
    follows: int
    files: list[Path]


class ExportOptions(Struct, frozen=True):
    """The kind of files, and what they hold. `spreadsheet_safe`: no text in CSV is a formula."""

    kind: str
    with_ended: bool = False
    spreadsheet_safe: bool = False


def export(graph: GraphScan, folder: Path, options: ExportOptions, on_rows: OnRows) -> ExportedFiles:
    """Write a graph to a new folder. `on_rows` gets the number of rows read so far.

    Raises `InputError` if the folder exists.
    """
    if folder.exists():
        raise InputError(f"{folder}: already exists; an export replaces nothing")
    if not folder.parent.is_dir():
        raise InputError(f"{folder}: cannot be created: the folder {folder.parent} does not exist")
    with translated(folder), closing(TemporaryFolder(folder)) as unfinished:
        counts = _export_into(unfinished.path, graph, options, on_rows)
        unfinished.path.rename(folder)
        sync(folder.parent)
    return ExportedFiles(*counts, sorted(folder.iterdir()))


def _export_into(folder: Path, graph: GraphScan, options: ExportOptions, on_rows: OnRows) -> tuple[int, int]:
    working = folder / "working"
    working.mkdir()
    with closing(Duck(working, MEMORY, spreadsheet_safe=options.spreadsheet_safe)) as duck:
        _read(duck, graph, on_rows, with_ended=options.with_ended)
        _write(duck, folder, options.kind)
        counts = duck.count(_ACCOUNTS), duck.count(_FOLLOWS)
    shutil.rmtree(working)
    for path in (*folder.iterdir(), folder):
        sync(path)
    return counts


def _read(duck: Duck, graph: GraphScan, on_rows: OnRows, *, with_ended: bool) -> None:
    duck.run(_TABLES)
    rows = 0
    for accounts in graph.accounts():
        columns = zip(*(_account_row(account_id, record) for account_id, record in accounts), strict=True)
        duck.add("account", (np.array(column, object) for column in columns))
        on_rows(rows := rows + len(accounts))
    for intervals in graph.intervals(with_ended=with_ended):
        if len(intervals.starts):
            duck.add("span", intervals)
            on_rows(rows := rows + len(intervals.starts))


def _write(duck: Duck, folder: Path, kind: str) -> None:
    if kind == "graphml":
        graphml.write_graph(folder / "graph.graphml", duck.rows(_ACCOUNTS), duck.rows(_FOLLOWS))
        return
    duck.copy(_ACCOUNTS, folder / f"accounts.{kind}", kind)
    duck.copy(_FOLLOWS, folder / f"follows.{kind}", kind)


def _account_row(account_id: int, record: AccountRecord) -> tuple[Any, ...]:
    username, key, display_name, visibility, *profile = structs.astuple(record)
    shown = None if visibility is None else visibility.name.lower()
    return (account_id, key, username, display_name, shown, *profile)
