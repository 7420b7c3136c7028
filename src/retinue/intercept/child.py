"""The process that becomes the command: it confines itself by its plan and waits for the start signal.

`spawn.py` runs it in a fresh interpreter without third-party packages. Its own network has only a loopback; the parent
receives the sockets that listen there.
"""

import ctypes
import errno
import fcntl
import json
import os
import signal
import socket
import struct
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from retinue import confinement

_NEW_MOUNTS, _NEW_USER, _NEW_NETWORK = 0x00020000, 0x10000000, 0x40000000  # sched.h
_BIND, _RECURSIVE, _PRIVATE = 0x1000, 0x4000, 0x40000  # sys/mount.h
_GET_FLAGS, _SET_FLAGS = 0x8913, 0x8914  # linux/sockios.h
_UP = 0x1  # net/if.h
_STDERR = 2
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


def main(arguments: list[str]) -> None:
    """Report the listeners or a refusal, then become the command.

    The arguments: the parent's process ID, a socket to it, the plan as JSON, then the command.
    """
    parent, descriptor, encoded, *command = arguments
    control, plan = socket.socket(fileno=int(descriptor)), json.loads(encoded)
    control.set_inheritable(False)
    try:
        listeners = confine(plan)
    except OSError as error:
        control.sendall(str(error).encode())
        return
    socket.send_fds(control, [b"\0"], [listener.fileno() for listener in listeners])
    if control.recv(1):
        confinement.die_with_parent(int(parent))  # only now, since entering a user namespace clears it
        become(command)


def confine(plan: dict[str, Any]) -> list[socket.socket]:
    """Apply a plan to this process; return its listeners. Raises `OSError`."""
    libc = ctypes.CDLL(None, use_errno=True)
    if plan["network"] or plan["files"]:
        _leave_namespaces(libc, _NEW_MOUNTS | (_NEW_NETWORK if plan["network"] else 0))
        _replace_files(libc, plan["files"])
    if plan["network"]:
        _raise_loopback()
    if plan["ports"]:
        _restrict_ports(plan["ports"])
    return [socket.create_server((host, port), backlog=2048) for host, port in plan["listens"]]


def _leave_namespaces(libc: ctypes.CDLL, kinds: int) -> None:
    user, group = os.geteuid(), os.getegid()
    # Only root can do this without a user namespace, which has a single user.
    if user or libc.unshare(kinds):
        _require(libc.unshare(_NEW_USER | kinds), "no namespace of its own")
        Path("/proc/self/setgroups").write_text("deny", "ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", "ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", "ascii")


def _replace_files(libc: ctypes.CDLL, files: dict[str, str]) -> None:
    _require(libc.mount(None, b"/", None, _RECURSIVE | _PRIVATE, None), "no mounts of its own")
    for path, replacement in files.items():
        _require(libc.mount(replacement.encode(), path.encode(), None, _BIND, None), f"no {path} of its own")


def _restrict_ports(ports: list[list[int]]) -> None:
    """Block TCP connections to ports outside these ranges, with Landlock."""
    with closing(confinement.Ruleset(ports=confinement.CONNECT_TCP)) as rules:
        for first, last in ports:
            rules.allow_ports(range(first, last + 1), confinement.CONNECT_TCP)
        rules.enforce()


def become(command: list[str]) -> None:
    """Replace this process by the command, with default signals."""
    defaults = [signal.SIGPIPE, signal.SIGXFSZ]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        defaults.append(signal.SIGINT)  # otherwise the parent ignores SIGINT, and so should the command
    for number in defaults:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execvp(command[0], command)  # noqa: S606 - the user's command
    except (OSError, ValueError) as error:
        does_exist = command[0] and not isinstance(error, FileNotFoundError)  # ValueError: an empty name
        why = getattr(error, "strerror", "a command must have a name")
        if sys.stderr is not None:  # otherwise its descriptor may be another file's
            name = "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in command[0])
            with suppress(OSError):  # the exit code says it too
                os.write(_STDERR, f"retinue run: {name}: cannot be run: {why}\n".encode())
        sys.exit(_NOT_EXECUTABLE if does_exist else _NOT_FOUND)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sh14x", b"lo", 0)
        name, flags = struct.unpack("16sh14x", fcntl.ioctl(any_socket, _GET_FLAGS, request))
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", name, flags | _UP))


def _require(failed: int, what: str) -> None:
    if failed:
        raise OSError(f"{what}: {errno.errorcode[ctypes.get_errno()]}")
