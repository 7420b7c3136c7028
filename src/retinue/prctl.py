"""Attributes of this process (prctl(2), setrlimit(2)) that need no privilege."""

import ctypes
import os
import resource
import signal

_PARENT_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_dumps() -> None:
    """Protect this process's memory, until an exec.

    There are no core files, and other processes of the same user cannot read it.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call(_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Keep this process and its children from gaining rights by set-user-ID programs."""
    _call(_NO_NEW_PRIVILEGES, 1)


def die_with_parent(parent: int) -> None:
    """Kill this process when its parent, with this process ID, ends."""
    _call(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _call(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
