"""Files that are still there after an outage."""

import errno
import os
from pathlib import Path

# Some file systems (over FUSE or SMB) cannot sync a folder: they write its names when they see fit, asked or not.
_FOLDER_SYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}


def sync(path: Path) -> None:
    """Wait until the disk has a file, or the names in a folder if that can be asked for."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except PermissionError:
        if path.is_dir():  # one may use a folder, and make files in it, without being allowed to read it
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _FOLDER_SYNC_UNSUPPORTED):
            raise
    finally:
        os.close(descriptor)
