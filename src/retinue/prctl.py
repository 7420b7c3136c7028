"""Attributes of this process that the kernel keeps (prctl(2), setrlimit(2)); all of them need no privilege."""

import ctypes
import os
import resource
import signal

_PARENT_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_dumps() -> None:
    """Keep this process's memory from core files and from other processes of the same user. An exec undoes it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _call(_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Keep this process and all that it starts from gaining rights by set-user-ID programs."""
    _call(_NO_NEW_PRIVILEGES, 1)


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent, of this process ID, ends. An exec keeps it."""
    _call(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the kernel knew
        os.kill(os.getpid(), signal.SIGKILL)


def _call(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
