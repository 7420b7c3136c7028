"""Locks on files and folders (`flock`). File systems without locks are refused."""

import fcntl
import os
from pathlib import Path

from retinue.errors import UnavailableLock


def open_locked(path: Path, in_use: str) -> int:
    """Open and lock a file or folder until the descriptor is closed. Raises `UnavailableLock` or `OSError`.

    `in_use` is the message if another process holds the lock.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        lock(descriptor, path, in_use)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def lock(descriptor: int, path: Path, in_use: str) -> None:
    """Lock an open file without waiting. Raises `UnavailableLock`."""
    if not try_lock(descriptor, path):
        raise UnavailableLock(f"{path}: {in_use}")


def try_lock(descriptor: int, path: Path) -> bool:
    """Return whether an open file could be locked. Raises `UnavailableLock` if unsupported."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise UnavailableLock(unlockable(path, error)) from error
    return True


def unlockable(path: Path, error: OSError) -> str:
    """Return the message for a file system that cannot lock."""
    return f"{path}: cannot be locked: {error.strerror}; put it on a local disk"
