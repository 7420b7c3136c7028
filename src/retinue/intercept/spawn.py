"""Starting the command and waiting for its end, as a shell would: its signals, its exit code.

The launcher is started first, and reports its listeners; so what answers there can be ready before the command is.
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
# In isolated mode and without `site` only this program's own package is added to what can be imported.
_LAUNCHER = "import sys; sys.path.append(sys.argv.pop(1));from retinue.intercept import child; child.main(sys.argv[1:])"
_PACKAGES = str(Path(retinue.__file__).parent.parent)
_MOST_LISTENERS = 8
_LONGEST_REASON = 1024
_KILLED = 128


class Child(Struct, frozen=True):
    """A launcher that waits, with its listeners if it has a network of its own."""

    process: "subprocess.Popen[bytes]"
    control: socket.socket
    listeners: list[socket.socket]
    plan: ConfinementPlan
    why_not: str = ""  # it has ended, because the system does not allow its plan

    def run(self) -> int:
        """Let it become the command, and wait for the end of that; the exit code that a shell would see."""
        self.control.send(b"\0")
        self.control.close()
        return _end_of(self.process)


@contextmanager
def signals_held() -> Iterator[None]:
    """Hold signals back, to be passed on. Threads have to be started inside, or a signal would find one."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, as some parents leave it, ends would not be told
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGCHLD})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def take_signals() -> None:
    """Let signals that were held up to now do what they always do."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)


def launch(command: list[str], environment: Mapping[str, str], plan: ConfinementPlan) -> Child:
    """Start a launcher for a command, and hear what it has to say."""
    ours, its = socket.socketpair()
    its.set_inheritable(True)
    orders = [str(os.getpid()), str(its.fileno()), json.encode(plan).decode()]
    arguments = [sys.executable, "-I", "-S", "-c", _LAUNCHER, _PACKAGES, *orders, *command]
    with its:
        # What the shell has opened for the command, such as /dev/fd/63, is left open.
        process = subprocess.Popen(arguments, env=environment, close_fds=False)  # noqa: S603 - what the user asked for
    said, descriptors, _, _ = socket.recv_fds(ours, _LONGEST_REASON, _MOST_LISTENERS)
    if said != b"\0":
        process.wait()
        ours.close()
    listeners = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    return Child(process, ours, listeners, plan, "" if said == b"\0" else said.decode() or "the launcher failed")


def _end_of(process: "subprocess.Popen[bytes]") -> int:
    while True:
        told = signal.sigwaitinfo({*_FORWARDED, signal.SIGCHLD})
        if told.si_signo == signal.SIGCHLD:
            if (code := process.poll()) is not None:
                return code if code >= 0 else _KILLED - code
        elif told.si_code <= 0:  # somebody sent it; what the terminal sends, the command has got too
            process.send_signal(told.si_signo)
