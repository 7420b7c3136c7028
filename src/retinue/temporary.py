"""Temporary folders, which hold names: they end with their process, or are removed by the next one.

A folder is locked by the process that made it. The kernel takes the lock back however the process ends, so a folder
without a lock is abandoned. Making a folder, and `sweep`, removes abandoned ones of this user.
"""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from retinue.locks import try_lock

_PREFIX = "retinue-tmp-"
_RANDOM = re.compile("[a-z0-9_]{8}")  # as `mkdtemp` makes them


class Swept(NamedTuple):
    """Folders of this user: removed ones, and those that a running process uses or that cannot be removed."""

    removed: list[Path]
    remaining: list[Path]


class TemporaryFolder:
    """A folder for this process alone, in `TMPDIR`; or beside `target`, for files that become it.

    It may be renamed: then it stays. Raises `OSError`, or `UnavailableLock` if the file system cannot lock.
    """

    def __init__(self, target: Path | None = None) -> None:
        sweep(target)
        self.path, descriptor = _made(*_place(target))
        self._end = weakref.finalize(self, _remove, self.path, descriptor)

    def close(self) -> None:
        """Remove the folder, unless it was renamed. A second call does nothing."""
        self._end()


def sweep(target: Path | None = None) -> Swept:
    """Remove the folders in `TMPDIR`, or those beside `target` for it, whose processes have ended."""
    parent, prefix = _place(target)
    swept = Swept([], [])
    try:
        paths = sorted(parent.iterdir())
    except PermissionError:  # one may make files in a folder without being allowed to read it
        return swept
    for path in paths:
        is_one = path.name.startswith(prefix) and _RANDOM.fullmatch(path.name, len(prefix))
        if is_one and _is_removable(path):
            (swept.remaining if path.exists() else swept.removed).append(path)
    return swept


def _place(target: Path | None) -> tuple[Path, str]:
    """Return the folder to make folders in, and the beginning of their names."""
    if target is None:
        return Path(tempfile.gettempdir()), _PREFIX
    return target.parent, f".{target.name}.{_PREFIX}"


def _is_removable(path: Path) -> bool:
    """Remove a folder if it is abandoned. Return whether it is a folder of this user."""
    with _opened(path) as descriptor:
        if descriptor is None or os.fstat(descriptor).st_uid != os.geteuid():
            return False
        if try_lock(descriptor, path):
            shutil.rmtree(path, ignore_errors=True)
        return True


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    """Return a new folder and the descriptor that locks it."""
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = _open(path)
        if descriptor is None:
            continue
        # Until it is locked another process may take it for abandoned, and remove it.
        try:
            if try_lock(descriptor, path) and path.exists():
                return path, descriptor
        except BaseException:
            os.close(descriptor)
            path.rmdir()
            raise
        os.close(descriptor)


def _open(path: Path) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None


@contextmanager
def _opened(path: Path) -> Iterator[int | None]:
    descriptor = _open(path)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _remove(path: Path, descriptor: int) -> None:
    shutil.rmtree(path, ignore_errors=True)
    os.close(descriptor)
