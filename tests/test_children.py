"""Tests of the test suite: child processes get default signals, and no test takes longer than its limit."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from support.children import SIGNALS

HERE = Path(__file__).parent
SECONDS = 200
BACKGROUND = """
import os, signal, sys
signals = [signal.Signals[name] for name in sys.argv[1].split()]
for each in signals:
    signal.signal(each, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, signals)
os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
"""
WAITING = """
import subprocess, threading

def test_in_a_process():
    with subprocess.Popen(["sleep", "1000"]) as process:
        print("started", process.pid)
        process.wait()

def test_in_a_grandchild():
    subprocess.run(["sh", "-c", "sleep 1000; true"], stdout=subprocess.PIPE)

def test_in_a_thread():
    thread = threading.Thread(target=threading.Event().wait, daemon=True)
    thread.start()
    thread.join()

def test_that_ends():
    pass
"""


def pytest_run(*arguments: str | Path, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """Run pytest in a process of its own, which knows nothing of this one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    plugins = [f"-p{name}" for name in ("no:cacheprovider", "xdist", "pytest_timeout", "support.children")]
    command = [*before, "-m", "pytest", "--noconftest", *plugins, *map(str, arguments)]
    return subprocess.run(
        [sys.executable, *command],
        env={**environment, "PYTHONPATH": str(HERE), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=HERE.parent,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_child_processes_begin_with_default_signals() -> None:
    """In a process that a test starts no signal is ignored or blocked that tests send."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    masks = dict(line.split(":\t") for line in status.splitlines())

    sent = sum(1 << each - 1 for each in SIGNALS)
    assert [0, 0] == [int(masks[name], 16) & sent for name in ("SigIgn", "SigBlk")]


@pytest.mark.parametrize("processes", ["0", "1"])
def test_child_processes_of_a_background_suite_begin_with_default_signals(processes: str) -> None:
    """Also if pytest itself was started with these signals ignored and blocked, as `nohup` and `&` do in part."""
    name = test_child_processes_begin_with_default_signals.__name__
    names = " ".join(each.name for each in SIGNALS)
    done = pytest_run("-n", processes, f"{__file__}::{name}", before=("-c", BACKGROUND, names))

    assert (0, True) == (done.returncode, "1 passed" in done.stdout), done.stdout


@pytest.mark.parametrize("processes", ["0", "1"])
def test_a_test_fails_at_its_time_limit(tmp_path: Path, processes: str) -> None:
    """A test fails at its limit; its processes are killed, and the next test runs."""
    (tmp_path / "test_waiting.py").write_text(WAITING)
    done = pytest_run("-n", processes, "--timeout", "2", "-v", tmp_path)

    assert "3 failed, 1 passed" in done.stdout
    assert 3 <= done.stdout.count("Timeout (>2.0s) from pytest-timeout")
    started = done.stdout.split("started ")[1].split()[0]
    assert not Path("/proc", started).exists()


def test_every_test_has_a_limit(request: pytest.FixtureRequest) -> None:
    """By signal: the other way of pytest-timeout ends the whole process."""
    assert 0 < float(request.config.getini("timeout"))
    assert "signal" == request.config.getini("timeout_method")
    assert callable(signal.getsignal(signal.SIGALRM))
