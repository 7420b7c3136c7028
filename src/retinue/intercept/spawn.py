"""Start the command in a child process and wait like a shell.

The child reports its listeners before it becomes the command, so the relay is ready first.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct, json

import retinue
from retinue.intercept.confinement import ConfinementPlan

_FORWARDED = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}
# In isolated mode and without `site`, only this package is added to the import path.
_CHILD = "import sys; sys.path.append(sys.argv.pop(1));from retinue.intercept import child; child.main(sys.argv[1:])"
_PACKAGES = str(Path(retinue.__file__).parent.parent)
_MAX_LISTENERS = 8
_MAX_REASON_BYTES = 1024
_KILLED = 128


class Child(Struct, frozen=True):
    """A waiting child, with its listeners if it has its own network."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    listeners: list[socket.socket]
    plan: ConfinementPlan
    refusal: str = ""  # why the system does not allow its plan; the child has ended

    def run(self) -> int:
        """Let the child become the command; return a shell's exit code."""
        self.control.send(b"\0")
        self.control.close()
        return _end_of(self.process)


@contextmanager
def signals_held() -> Iterator[None]:
    """Block signals, to forward them later. Start threads only inside, or one would receive a signal."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the end of a child may not be reported
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals() -> None:
    """Deliver the signals that were blocked so far."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)


def spawn(command: list[str], environment: Mapping[str, str], plan: ConfinementPlan) -> Child:
    """Start a child for a command and receive its report."""
    own_end, child_end = socket.socketpair()
    child_end.set_inheritable(True)
    orders = [str(os.getpid()), str(child_end.fileno()), json.encode(plan).decode()]
    arguments = [sys.executable, "-I", "-S", "-c", _CHILD, _PACKAGES, *orders, *command]
    with child_end:
        # Descriptors that the shell opened for the command, such as 63, stay open.
        process = subprocess.Popen(arguments, env=environment, close_fds=False)  # noqa: S603 - the user's command
    report, descriptors, _, _ = socket.recv_fds(own_end, _MAX_REASON_BYTES, _MAX_LISTENERS)
    if report != b"\0":
        process.wait()
        own_end.close()
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return Child(
        process, own_end, listeners, plan, "" if report == b"\0" else report.decode() or "the child process failed"
    )


def _end_of(process: "subprocess.Popen[bytes]") -> int:
    while True:
        received = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        if received.si_signo == signal.SIGCHLD:
            if (code := process.poll()) is not None:
                return code if code >= 0 else _KILLED - code
        elif received.si_code <= 0:  # sent by a process; the terminal signals the command directly
            process.send_signal(received.si_signo)
