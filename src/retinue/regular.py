"""Opening regular files only, never links, pipes or devices."""

import errno
import os
import stat
from pathlib import Path


def open_regular(path: Path, flags: int, mode: int = 0o600, *, follows_links: bool = False) -> int:
    """Return the descriptor of a regular file.

    Raises `OSError`, also for a link, a pipe or a device.
    """
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
