"""System calls by which a process gives up rights: prctl, setrlimit and Landlock.

A right that a Landlock ruleset handles is denied unless a rule allows it. Open files stay open. Only the calling thread
and its later threads are restricted.
"""

import ctypes
import errno
import os
import resource
import signal
import struct
from collections.abc import Iterable
from pathlib import Path

# Rights over files and folders (linux/landlock.h).
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << bit for bit in range(6))
MAKE_REG = 1 << 8
REFER, TRUNCATE, IOCTL_DEV = (1 << bit for bit in (13, 14, 15))
READ = READ_FILE | READ_DIR
WRITE = WRITE_FILE | TRUNCATE
ALL_FILES = (1 << 16) - 1
# Rights over TCP ports.
BIND_TCP, CONNECT_TCP = 1, 2
# Scopes: uses that are restricted to the confined processes.
ABSTRACT_SOCKETS, SIGNALS = 1, 2

# No library is up to date with Landlock's calls, of Linux 5.13 and later (docs/why.md).
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # asm-generic/unistd.h
_GET_VERSION, _PATH_RULE, _PORT_RULE = 1, 1, 2
_FIRST_WITH_PORTS, _FIRST_WITH_SCOPES = 4, 6
_FILE_ONLY = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
# Versions 1 to 5 know the rights over files below these bits.
_FILE_BITS = {1: 13, 2: 14, 3: 15, 4: 15}
_NEWEST_FILE_BITS = 16

_PARENT_DEATH_SIGNAL, _DUMPABLE, _NO_NEW_PRIVILEGES = 1, 4, 38  # linux/prctl.h

_libc = ctypes.CDLL(None, use_errno=True)


def forbid_dumps() -> None:
    """Protect this process's memory from core files and others, until an exec."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _set_attribute(_DUMPABLE, 0)


def forbid_new_privileges() -> None:
    """Keep this process and its children from gaining rights by set-user-ID programs."""
    _set_attribute(_NO_NEW_PRIVILEGES, 1)


def die_with_parent(parent: int) -> None:
    """Kill this process when its parent ends."""
    _set_attribute(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def _set_attribute(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def landlock_version() -> int:
    """Return Landlock's version in the kernel, 0 without Landlock."""
    return max(0, int(_libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _GET_VERSION)))


class Ruleset:
    """Handled rights, as far as the kernel knows them, and exceptions. Raises `OSError`."""

    def __init__(self, *, files: int = 0, ports: int = 0, scopes: int = 0) -> None:
        known = landlock_version()
        if not known:
            _require(-1, "no Landlock")
        if ports and not files and known < _FIRST_WITH_PORTS:
            raise OSError(f"Landlock without network rules: ABI {known}, they need {_FIRST_WITH_PORTS}")
        self._files = files & ((1 << _FILE_BITS.get(known, _NEWEST_FILE_BITS)) - 1)
        self._ports = ports if known >= _FIRST_WITH_PORTS else 0
        attributes = [self._files]
        if known >= _FIRST_WITH_PORTS:
            attributes.append(self._ports)
        if known >= _FIRST_WITH_SCOPES:
            attributes.append(scopes)
        packed = struct.pack(f"{len(attributes)}Q", *attributes)
        self._descriptor = int(_libc.syscall(_CREATE_RULESET, packed, ctypes.c_size_t(len(packed)), 0))
        _require(self._descriptor, "no Landlock")

    def allow_path(self, path: str, rights: int) -> None:
        """Allow rights over a file, or a folder with its contents."""
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            allowed = rights & self._files & (ALL_FILES if Path(path).is_dir() else _FILE_ONLY)
            rule = struct.pack("=Qi", allowed, descriptor)
            _require(_libc.syscall(_ADD_RULE, self._descriptor, _PATH_RULE, rule, 0), f"no Landlock for {path}")
        finally:
            os.close(descriptor)

    def allow_ports(self, ports: Iterable[int], rights: int) -> None:
        """Allow rights over TCP ports."""
        if allowed := rights & self._ports:
            for port in ports:
                rule = struct.pack("QQ", allowed, port)
                _require(_libc.syscall(_ADD_RULE, self._descriptor, _PORT_RULE, rule, 0), "no Landlock")

    def enforce(self) -> None:
        """Restrict this thread and its future threads and processes."""
        forbid_new_privileges()  # the kernel requires this
        _require(_libc.syscall(_RESTRICT_SELF, self._descriptor, 0), "no Landlock")

    def close(self) -> None:
        """Close the ruleset, which stays in force."""
        os.close(self._descriptor)


def _require(result: int, what: str) -> None:
    if result < 0:
        raise OSError(f"{what}: {errno.errorcode.get(ctypes.get_errno(), 'unknown')}")
