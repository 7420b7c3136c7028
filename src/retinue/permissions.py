"""The rights of other users over files with secrets, by their modes."""

import os
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def is_private(status: os.stat_result) -> bool:
    """Return whether a file can be used by its owner alone."""
    return not status.st_mode & _OTHERS


def exposure(path: Path) -> str:
    """Return why others can use a file, or an empty text.

    All users can replace files in a folder that is writable for them, unless its sticky bit is set. Writable for its
    group is accepted: on many systems each user has a group of their own.
    """
    if path.exists() and not is_private(status := path.stat()):
        return f"{path}: others may use it (mode {stat.S_IMODE(status.st_mode):04o}); `chmod 600` it"
    return folder_exposure(path.parent, stat.S_ISVTX)


def folder_exposure(folder: Path, accepted: int = 0) -> str:
    """Return why others can replace files, or an empty text.

    A folder with the mode bit `accepted` is accepted.
    """
    mode = folder.stat().st_mode
    if not mode & stat.S_IWOTH or mode & accepted:
        return ""
    return f"{folder}: all users may replace files in this folder (mode {stat.S_IMODE(mode):04o}); `chmod o-w` it"
