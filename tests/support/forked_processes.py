"""Processes of `python -m retinue` that tests start are forks of a process that has imported everything.

A pytest plugin: during a test `subprocess.Popen` starts them so. They have the arguments, descriptors, environment,
folder and parent of a process that Python starts, and save half a second of imports. A process is a real one if it
needs more than that, and in tests that are marked `real_process`: those of the start itself.
"""

import atexit
import ctypes
import fcntl
import gc
import importlib
import inspect
import json
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Generator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent))  # as a program this file has another folder there
from support.forked import at_start, import_everything

_COMMAND = [sys.executable, "-m", "retinue"]
_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_libc = ctypes.CDLL(None)
_MAX_BYTES = 100_000  # of a packet
_Popen = subprocess.Popen
# Arguments of `_execute_child` in the usual case.
_PLAIN = {
    "executable": None,
    "preexec_fn": None,
    "close_fds": True,
    "pass_fds": (),
    "shell": False,
    "gid": None,
    "gids": None,
    "uid": None,
    "umask": -1,
}


class ForkedPopen(subprocess.Popen[Any]):
    """A process of its own, forked if it is one of ours."""

    def _execute_child(self, *values: Any) -> None:
        execute = super()._execute_child  # type: ignore[misc]
        call = inspect.signature(execute).bind(*values).arguments
        order = _order_of(call)
        if order is None or (pid := _FORKS.start(order, _streams_of(call))) is None:
            execute(*values)
            return
        self.pid = pid
        self._child_created = True
        pipes = (("p2cread", "p2cwrite"), ("c2pwrite", "c2pread"), ("errwrite", "errread"))
        for of_child, of_parent in pipes:
            if call[of_parent] != -1:  # otherwise it is a file of the caller
                os.close(call[of_child])
        if hasattr(self, "_devnull"):
            os.close(self._devnull)
        self._closed_child_pipe_fds = True


def _order_of(call: Mapping[str, Any]) -> str | None:
    """Return how to fork a process, or None if it must be a real one."""
    words = call["args"]
    if not isinstance(words, list) or words[:3] != _COMMAND or any(call[name] != _PLAIN[name] for name in _PLAIN):
        return None
    environment = dict(os.environ if call["env"] is None else call["env"])
    if at_start(environment) != at_start(os.environ):
        return None
    return json.dumps(
        {
            "words": [os.fspath(word) for word in words[3:]],
            "environment": environment,
            "folder": os.fspath(call["cwd"] or Path.cwd()),
            "session": call["start_new_session"],
            "group": call["process_group"],
        }
    )


def _streams_of(call: Mapping[str, Any]) -> list[int]:
    streams = (call["p2cread"], call["c2pwrite"], call["errwrite"])
    return [standard if stream == -1 else stream for standard, stream in enumerate(streams)]


class _Forks:
    """The process that forks, started with the first fork."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._orders: socket.socket | None = None

    def start(self, order: str, streams: list[int]) -> int | None:
        """Fork a child of this process and return its number; None if the order is too long."""
        if len(order) > _MAX_BYTES:
            return None
        with self._lock:
            orders = self._orders or self._begin()
            # The middle one of three generations ends, and the kernel gives us its child.
            _libc.prctl(_SET_CHILD_SUBREAPER, 1)
            try:
                socket.send_fds(orders, [order.encode()], streams)
                return int(orders.recv(100))
            finally:
                _libc.prctl(_SET_CHILD_SUBREAPER, 0)

    def end(self) -> None:
        """End the process that forks."""
        if self._process is not None and self._orders is not None:
            self._orders.close()
            self._process.wait()

    def _begin(self) -> socket.socket:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno())]
            self._process = _Popen(command, pass_fds=[theirs.fileno()], env=at_start(os.environ))
        return self._orders


_FORKS = _Forks()


def pytest_unconfigure() -> None:
    """End the process that forks."""
    _FORKS.end()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Let a test's processes be forks, unless it is marked."""
    if item.get_closest_marker("real_process"):
        return (yield)
    subprocess.Popen = ForkedPopen  # type: ignore[misc]
    try:
        return (yield)
    finally:
        subprocess.Popen = _Popen  # type: ignore[misc]


# --- the process that forks -------------------------------------------------------------------------------------------


def _serve(descriptor: int) -> None:
    import_everything()
    gc.freeze()  # a fork would copy what its garbage collector looks through
    with socket.socket(fileno=descriptor) as orders:
        while True:
            content, streams, _, _ = socket.recv_fds(orders, _MAX_BYTES, 3)
            if not content:
                os._exit(0)
            from_middle, to_us = os.pipe()
            middle = os.fork()
            if not middle:
                middle = os.getpid()
                if child := os.fork():
                    os.write(to_us, str(child).encode())
                    os._exit(0)
                for own in (descriptor, from_middle, to_us):
                    os.close(own)
                os._exit(_run(json.loads(content), streams, middle))
            os.waitpid(middle, 0)
            orders.send(os.read(from_middle, 100))
            for own in (from_middle, to_us, *streams):
                os.close(own)


def _run(order: dict[str, Any], streams: list[int], middle: int) -> int:
    while os.getppid() == middle:
        os.sched_yield()
    if order["session"]:
        os.setsid()
    if order["group"] >= 0:
        os.setpgid(0, order["group"])
    _use(streams)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    program = importlib.import_module("retinue.__main__")
    sys.modules["__main__"] = program  # by which Typer names the program in its messages
    sys.argv = [program.__file__ or "", *order["words"]]
    try:
        return _code_of(program)
    finally:
        # As Python ends.
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()


def _use(streams: list[int]) -> None:
    """Make descriptors the standard ones."""
    high = [fcntl.fcntl(stream, fcntl.F_DUPFD, 10) for stream in streams]
    for stream in streams:
        os.close(stream)
    for number, stream in enumerate(high):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))


def _code_of(program: ModuleType) -> int:
    try:
        program.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself does
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
