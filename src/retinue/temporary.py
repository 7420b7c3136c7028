"""Temporary folders, removed when their process ends, or by the next one."""

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
_RANDOM = re.compile("[a-z0-9_]{8}")  # as of `mkdtemp`


class Swept(NamedTuple):
    """Folders of this user: removed ones, and those in use."""

    removed: list[Path]
    remaining: list[Path]


# A process locks its folder, so one without a lock is abandoned, however its process ended.
class TemporaryFolder:
    """A folder of this process, in `TMPDIR` or beside `target`. Raises `OSError` or `UnavailableLock`."""

    def __init__(self, target: Path | None = None) -> None:
        sweep(target)
        self.path, descriptor = _made(*_place(target))
        self._end = weakref.finalize(self, _remove, self.path, descriptor)

    def close(self) -> None:
        """Remove the folder unless it was renamed."""
        self._end()


def sweep(target: Path | None = None) -> Swept:
    """Remove this user's abandoned folders in `TMPDIR` or beside `target`."""
    parent, prefix = _place(target)
    swept = Swept([], [])
    try:
        paths = sorted(parent.iterdir())
    except PermissionError:  # a folder may be writable without being readable
        return swept
    for path in paths:
        is_one = path.name.startswith(prefix) and _RANDOM.fullmatch(path.name, len(prefix))
        if is_one and _is_removable(path):
            (swept.remaining if path.exists() else swept.removed).append(path)
    return swept


def _place(target: Path | None) -> tuple[Path, str]:
    if target is None:
        return Path(tempfile.gettempdir()), _PREFIX
    return target.parent, f".{target.name}.{_PREFIX}"


def _is_removable(path: Path) -> bool:
    """Remove a folder if it is abandoned. Return whether it is this user's."""
    with _opened(path) as descriptor:
        if descriptor is None or os.fstat(descriptor).st_uid != os.geteuid():
            return False
        if try_lock(descriptor, path):
            shutil.rmtree(path, ignore_errors=True)
        return True


def _made(parent: Path, prefix: str) -> tuple[Path, int]:
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        descriptor = _open(path)
        if descriptor is None:
            continue
        # Until it is locked, another process may remove it as abandoned.
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
