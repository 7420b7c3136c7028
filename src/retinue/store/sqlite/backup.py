"""Backup of a store in use, with SQLite's online backup."""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path

import apsw

from retinue.durable import sync
from retinue.errors import InputError, StoreError
from retinue.store.layout.sealing import seal
from retinue.store.layout.tables import META, STORE_ID, new_store_id
from retinue.store.sqlite import files
from retinue.store.sqlite.files import ACCESS, GRAPH, Kind, access_path
from retinue.temporary import TemporaryFolder

OnProgress = Callable[[int, int], None]

_PAGES_AT_ONCE = 2_000


def back_up(graph: Path, target: Path, on_progress: OnProgress) -> None:
    """Copy both files, each at one instant, durably.

    `on_progress` gets pages copied and total pages. The graph comes last: if it exists, the copy is complete. Raises
    `InputError` if a target exists.
    """
    if target.is_dir():
        raise InputError(f"{target}: is a folder; name a file in it, such as {target / graph.name}")
    copies = ((access_path(graph), access_path(target), ACCESS), (graph, target, GRAPH))
    if there := [copy for _, copy, _ in copies if copy.exists()]:
        raise _already_exists(*there)
    if not target.parent.is_dir():
        raise InputError(f"{target}: cannot be created: the folder {target.parent} does not exist")
    with ExitStack() as opened:
        # The graph is opened first, since it is what was named, and both before anything is written.
        originals = [opened.enter_context(closing(files.open_for_reading(of, kind))) for of, _, kind in copies[::-1]]
        with ExitStack() as undo:
            for original, (_, copy, kind) in zip(originals[::-1], copies, strict=True):
                _copy(original, copy, kind, on_progress)
                undo.callback(copy.unlink)
            undo.pop_all()  # both are complete


def _already_exists(*copies: Path) -> InputError:
    files = " and ".join(map(str, copies))
    return InputError(f"already exists: {files}; a backup replaces nothing (remove what an interrupted one left)")


def _copy(original: apsw.Connection, copy: Path, kind: Kind, on_progress: OnProgress) -> None:
    try:
        with closing(TemporaryFolder(copy)) as folder:
            _copy_into(folder.path / copy.name, original, kind, on_progress)
            os.link(folder.path / copy.name, copy)
        sync(copy.parent)
    except FileExistsError:
        raise _already_exists(copy) from None
    except OSError as error:
        raise StoreError(f"{copy}: cannot be created: {error.strerror}") from error
    except apsw.Error as error:
        raise StoreError(f"{copy}: cannot be created: {files.cause_of(error, copy)}") from error


def _copy_into(unfinished: Path, original: apsw.Connection, kind: Kind, on_progress: OnProgress) -> None:
    os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_RDWR, files.FILE_MODE))
    with (
        closing(apsw.Connection(str(unfinished))) as new,
        files.one_state(original),  # otherwise each write of others would restart the backup
    ):
        original.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()  # the read transaction begins here
        with new.backup("main", original, "main") as backup:
            while not backup.step(_PAGES_AT_ONCE):
                on_progress(backup.page_count - backup.remaining, backup.page_count)
        if kind is GRAPH:  # once restored, it must not be taken for the store that its row file was made of
            new.execute("UPDATE meta SET value = ? WHERE key = ?", (seal(META, STORE_ID, new_store_id()), STORE_ID))
