"""Files that survive a power cut."""

import errno
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PRIVATE, PUBLIC = 0o600, 0o666  # before the umask
_UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.new\Z")
# Some file systems (over FUSE or SMB) cannot sync a folder.
_FOLDER_SYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}


@contextmanager
def write_atomically(path: Path, *, replaces: bool, mode: int = PRIVATE) -> Iterator[Path]:
    """Yield an empty file that becomes `path` after the block. Raises `OSError`.

    An existing file wins unless `replaces`. A killed process leaves the unfinished file beside `path`.
    """
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(8)}.new")
    try:
        os.close(os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
        yield unfinished
        sync(unfinished)
        if replaces:
            unfinished.rename(path)
        else:
            with suppress(FileExistsError):
                os.link(unfinished, path)
        sync(path.parent)
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def finished_name(name: str) -> str:
    """Return a file's name without the mark of an unfinished file."""
    return _UNFINISHED.sub("", name)


def sync(path: Path) -> None:
    """Wait until the disk has a file or a folder's names."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # a folder may be writable without being readable
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _FOLDER_SYNC_UNSUPPORTED):
            raise
    finally:
        os.close(descriptor)
