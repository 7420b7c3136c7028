"""Processes that tests start: they begin with default signals, and end with a test that takes too long.

A pytest plugin. `timeout` in pyproject.toml is every test's limit in seconds; pytest-timeout raises in the test's
thread, whatever that waits for, so fixtures still clean up.
"""

import os
import signal
import time
from collections.abc import Generator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

SIGNALS = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGQUIT, signal.SIGUSR1)
# A test that has failed by its limit gets so long, again and again, for what it still waits for while it cleans up.
CLEANUP_SECONDS = 60
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def begin_with_default_signals() -> None:
    """Let later child processes begin with default signals, also if this process was started by `nohup` or with `&`.

    A child inherits signals that are ignored or blocked, but not handlers. So a handler that does nothing replaces
    "ignore": this process still goes on, and its children do not.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    for each in SIGNALS:
        if signal.getsignal(each) is signal.SIG_IGN:
            signal.signal(each, _do_nothing)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def pytest_configure() -> None:
    """Run in each of pytest's processes before any test."""
    begin_with_default_signals()


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer() -> Generator[None, object, object]:
    """Kill what a test has started when its time is over: cleaning up might wait for that without end."""
    began = time.clock_gettime(time.CLOCK_BOOTTIME)
    result = yield
    fail = signal.getsignal(signal.SIGALRM)
    assert callable(fail)

    def expire(number: int, frame: FrameType | None) -> None:
        kill_children_since(began)
        signal.setitimer(signal.ITIMER_REAL, CLEANUP_SECONDS)
        fail(number, frame)

    signal.signal(signal.SIGALRM, expire)
    return result


def kill_children_since(began: float) -> None:
    """Kill all descendants of this process that were started after a second since boot."""
    parents: dict[int, int] = {}
    starts: dict[int, float] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            # proc(5): the name in parentheses may hold anything; the parent is the 2nd field after it.
            fields = path.read_text().rpartition(")")[2].split()
            process = int(path.parent.name)
            parents[process], starts[process] = int(fields[1]), int(fields[19]) / _TICKS_PER_SECOND
    for process, start in starts.items():
        if start >= began - 1 / _TICKS_PER_SECOND and _is_descendant(process, parents):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)


def _is_descendant(process: int, parents: dict[int, int]) -> bool:
    while (process := parents.get(process, 0)) > 1:
        if process == os.getpid():
            return True
    return False
