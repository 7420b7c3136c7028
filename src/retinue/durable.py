"""Files that survive a power loss."""

import errno
import os
from pathlib import Path

# Some file systems (over FUSE or SMB) cannot sync a folder.
_FOLDER_SYNC_UNSUPPORTED = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}


def sync(path: Path) -> None:
    """Wait until the disk has a file, or a folder's names."""
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
