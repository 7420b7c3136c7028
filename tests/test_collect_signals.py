"""Signals stop `retinue collect` in order: one line, the right exit code, nothing lost."""

import shutil
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from running import retinue
from support.collecting import arguments_of, odd
from support.scripted_service import Said, page, scripted
from support.waiting import PATIENCE_SECONDS


def test_long_waits_are_reported(tmp_path: Path) -> None:
    """The reason for a wait is printed, and Ctrl-C or SIGTERM end it at once."""
    for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        with scripted(odd, lambda: Said(b"", 503)) as url:
            arguments = arguments_of(url, tmp_path / f"found{number}", ["anna"])
            with subprocess.Popen(
                [sys.executable, "-m", "retinue", *arguments], stderr=subprocess.PIPE, text=True
            ) as process:
                assert process.stderr is not None
                line = process.stderr.readline()
                process.send_signal(number)
                rest = process.stderr.read()
        assert line.startswith("retinue: waiting for 0:00:")
        assert "status 503" in line
        assert (process.returncode, rest) == (code, "retinue: Interrupted. Run the same command again to resume.\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_stopped_collection_says_so_in_one_line(tmp_path: Path, number: signal.Signals, code: int) -> None:
    """While pages are read, while tables are written: never with a traceback, and the same command goes on."""
    folder = tmp_path / "found"

    def answer(_path: str, body: dict[str, Any]) -> Said:
        below = body.get("cursor") or 60
        rows = [{"username": f"u{below}.{number}", "display_name": ""} for number in range(100)]
        return page(rows, below - 1, has_more=below > 2)

    stopped, seconds = 0, 0.4
    with scripted(answer) as url:
        command = [sys.executable, "-m", "retinue", *arguments_of(url, folder, list("abcd"))]
        for _ in range(100):
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(seconds)  # a busy machine needs many times as long as a quiet one
                process.send_signal(number)
                said = process.communicate()[1]
            seconds *= 1.15
            if process.returncode == 0 and stopped:
                break
            if process.returncode == 0:  # the machine was quicker than before
                seconds = 0.4
                shutil.rmtree(folder)
                continue
            if not said and process.returncode in (-number, code):  # before it has begun, or when it was over
                continue
            stopped += 1
            assert (process.returncode, said) == (code, "retinue: Interrupted. Run the same command again to resume.\n")
    assert stopped > 0
    assert not (folder / "tables.new").exists()
    assert "complete" in retinue("collect", "verify", str(folder))


SIGNALLED_LOOP = """
import asyncio, signal, sys
from retinue.cli.signals import ending_in_order, run

number, instant = int(sys.argv[1]), sys.argv[2]

class Loop(asyncio.SelectorEventLoop):
    def __init__(self):
        if instant == "made":
            signal.raise_signal(number)
        super().__init__()

    def close(self):
        super().close()
        if instant == "closed":
            signal.raise_signal(number)

class RetryPolicy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Loop()

asyncio.set_event_loop_policy(RetryPolicy())
try:
    with ending_in_order():
        run(lambda: asyncio.sleep(0.1))
        print("went on")
except Exception as ended:
    sys.exit(ended.exit_code)
"""


@pytest.mark.parametrize("instant", ["made", "closed"])
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_are_held_while_the_event_loop_starts_or_closes(
    number: signal.Signals, code: int, instant: str
) -> None:
    """Until then, and not lost: the command ends in order, without a traceback."""
    command = [sys.executable, "-c", SIGNALLED_LOOP, str(int(number)), instant]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (code, "", "") == (done.returncode, done.stdout, done.stderr)


INTERRUPTED_IN_CODE = """
import sys
import retinue.cli.main
from retinue.__main__ import main

def app():
    try:
        exec("raise KeyboardInterrupt")
    except KeyboardInterrupt:
        sys.exit(130)

retinue.cli.main.app = app
main()
"""


def test_an_interrupt_inside_of_generated_code_leaves_the_exit_code(tmp_path: Path) -> None:
    """Classes are generated while modules are loaded; Python would end itself with the signal after that."""
    (tmp_path / "child.py").write_text(INTERRUPTED_IN_CODE)
    done = subprocess.run([sys.executable, "-m", "child"], cwd=tmp_path, check=False)

    assert 130 == done.returncode


def test_an_ignored_hangup_stays_ignored(tmp_path: Path) -> None:
    """As `nohup` does it."""
    asked, is_sent = threading.Event(), threading.Event()

    def answer(path: str, body: dict[str, Any]) -> Said:
        asked.set()
        is_sent.wait(PATIENCE_SECONDS)
        return odd(path, body)

    with scripted(answer) as url:
        command = [sys.executable, "-m", "retinue", *arguments_of(url, tmp_path / "found", ["anna"])]
        with subprocess.Popen(["bash", "-c", 'trap "" HUP; exec "$@"', "-", *command]) as process:
            assert asked.wait(PATIENCE_SECONDS)
            process.send_signal(signal.SIGHUP)
            is_sent.set()
        assert 0 == process.returncode
