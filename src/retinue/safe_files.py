"""Opening regular files, and checking the rights of other users over them."""

import errno
import os
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def open_regular(path: Path, flags: int, mode: int = 0o600, *, follows_links: bool = False) -> int:
    """Return the descriptor of a regular file. Raises `OSError` for links, pipes and devices."""
    try:
        no_link = 0 if follows_links else os.O_NOFOLLOW
        descriptor = os.open(path, flags | no_link | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_regular(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return descriptor


def read_regular(path: Path, most: int) -> bytes:
    """Read at most `most` bytes of a regular file. Raises `OSError`."""
    with os.fdopen(open_regular(path, os.O_RDONLY), "rb") as file:
        return file.read(most)


def _not_regular(path: Path) -> OSError:
    return OSError(errno.EINVAL, "not a regular file", str(path))


def is_private(status: os.stat_result) -> bool:
    """Return whether only the owner can use a file."""
    return not status.st_mode & _OTHERS


def exposure(path: Path) -> str:
    """Return why others can use a file, or an empty text."""
    if path.exists() and not is_private(status := path.stat()):
        return f"{path}: others may use it (mode {stat.S_IMODE(status.st_mode):04o}); `chmod 600` it"
    return folder_exposure(path.parent, stat.S_ISVTX)


def folder_exposure(folder: Path, accepted: int = 0) -> str:
    """Return why others can replace a folder's files, or an empty text. The mode bit `accepted` allows it."""
    # Writable for its group is accepted: on many systems each user has a group of their own.
    mode = folder.stat().st_mode
    if not mode & stat.S_IWOTH or mode & accepted:
        return ""
    return f"{folder}: all users may replace files in this folder (mode {stat.S_IMODE(mode):04o}); `chmod o-w` it"
