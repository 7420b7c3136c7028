"""The rights of others over files that hold secrets, and with the folders they lie in, by their modes."""

import os
import stat
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def is_private(status: os.stat_result) -> bool:
    """Return whether a file can be used by its owner alone."""
    return not status.st_mode & _OTHERS


def exposure(path: Path) -> str:
    """Return why a file's content may be read or replaced by others, with the remedy; empty if it may not.

    A folder that is writable by all users lets them replace its files, unless its sticky bit is set. A group may
    write to a folder: on many systems each user has a group of its own, and writes for it by default.
    """
    if path.exists() and not is_private(status := path.stat()):
        return f"{path}: others may use it (mode {stat.S_IMODE(status.st_mode):04o}); `chmod 600` it"
    return folder_exposure(path.parent, stat.S_ISVTX)


def folder_exposure(folder: Path, accepted: int = 0) -> str:
    """Return why files in a folder may be replaced by others; empty if they may not, or if a mode bit is set."""
    mode = folder.stat().st_mode
    if not mode & stat.S_IWOTH or mode & accepted:
        return ""
    return f"{folder}: all users may replace files in this folder (mode {stat.S_IMODE(mode):04o}); `chmod o-w` it"
