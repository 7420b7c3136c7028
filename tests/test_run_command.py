"""`retinue run` passes on signals, streams and exit codes of its command."""

import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import running
from support.intercepted import NODE, environment, run
from support.sample_server import SampleServer


def test_a_script_that_ends_suddenly_is_not_reported(sample_server: SampleServer) -> None:
    """Its connections are closed without a word."""
    script = (
        "import os, requests\n"
        "requests.Session().post('https://open.tiktokapis.com/v2/oauth/token/', data={})\n"
        "os._exit(3)"
    )
    for _ in range(5):
        done = sample_server.run(sys.executable, "-c", script)
        assert (done.returncode, "Traceback" in done.stderr) == (3, False), done.stderr


def test_a_run_leaves_no_files(sample_server: SampleServer, tmp_path: Path) -> None:
    """Neither authority nor graph outlives the run."""
    done = run("--", "sh", "-c", 'dirname "$SSL_CERT_FILE"', TMPDIR=str(tmp_path))

    assert str(tmp_path) == str(Path(done.stdout.strip()).parent)
    assert [] == list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 128 + 9), ("kill -TERM $$", 128 + 15), ("kill -INT $$", 130)],
)
def test_exit_codes_are_passed_on(
    sample_server: SampleServer, command: str, code: int, within: tuple[str, ...]
) -> None:
    """As a shell would see them."""
    assert code == sample_server.run("sh", "-c", command, within=within).returncode


def test_commands_that_cannot_be_run(sample_server: SampleServer, tmp_path: Path) -> None:
    """127 for one that is not there, 126 for one that is no program, with a sentence."""
    (tmp_path / "text").write_text("no program")
    absent, text = sample_server.run("no-such-command"), sample_server.run(tmp_path / "text")

    assert (127, 126) == (absent.returncode, text.returncode)
    assert "retinue run: no-such-command: cannot be run: No such file or directory\n" in absent.stderr
    assert f"retinue run: {tmp_path}/text: cannot be run: Permission denied\n" in text.stderr
    nameless = sample_server.run("")
    assert (127, "Traceback" in nameless.stderr) == (nameless.returncode, False)
    assert "retinue run: : cannot be run: a command must have a name\n" in nameless.stderr


@pytest.mark.parametrize("errors", ["2>/dev/full", "2> >(head -c 1 >/dev/null)", "2>&-"])
def test_an_unread_runner_output_stops_nothing(sample_server: SampleServer, errors: str) -> None:
    """The command runs, and its exit code is passed on."""
    shown = " ".join(
        running.command_of("run", "--server", sample_server.server.url, "--", "sh", "-c", "'sleep 0.5; exit 7'")
    )
    done = subprocess.run(["bash", "-c", f"{shown} {errors}"], env=environment(), check=False)

    assert 7 == done.returncode


def test_ctrl_c_before_the_command_begins_is_no_traceback(sample_server: SampleServer) -> None:
    """Whenever it comes: to the launcher and to the runner."""
    for step in range(12):
        command = running.command_of("run", "--server", sample_server.server.url, "--", "sleep", "5")
        with subprocess.Popen(
            command, env=environment(), stderr=subprocess.PIPE, text=True, process_group=0
        ) as process:
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
            while not children.read_text():
                time.sleep(0.001)
            time.sleep(0.008 * step)
            os.killpg(process.pid, signal.SIGINT)
            assert process.stderr is not None
            said = process.stderr.read()
        assert (130, "") == (process.returncode, said if "Traceback" in said else "")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "Missing argument 'COMMAND...'"),
        (
            ["--server", "http://127.0.0.1:1", "true"],
            "--server (or RETINUE_SERVER) http://127.0.0.1:1: cannot be reached: Connection refused",
        ),
        (["--server", "here", "true"], "--server here: expected http://HOST:PORT or https://HOST:PORT"),
        (["--server", "http://a/v2", "true"], "--server http://a/v2: expected http"),
        (["--server", "http://a:b", "true"], "--server http://a:b: expected http"),
    ],
)
def test_impossible_runs_are_reported(arguments: list[str], reason: str) -> None:
    """In a line, with exit code 2."""
    done = run(*arguments)

    assert 2 == done.returncode
    assert reason in done.stderr


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1])
def test_signals_are_passed_on(sample_server: SampleServer, sent: signal.Signals) -> None:
    """A command may end in its own way."""
    script = "trap 'echo heard; exit 3' TERM INT HUP USR1; echo ready; while :; do sleep 0.05; done"
    command = running.command_of("run", "--server", sample_server.server.url, "--", "sh", "-c", script)
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(sent)

        assert "heard\n" == process.stdout.read()
    assert 3 == process.returncode


def test_no_thread_of_the_runner_takes_signals() -> None:
    """One that did, of whatever library, would now and then end the runner in the command's place."""
    # The first thread waits for them, and so does not count.
    script = "for each in /proc/$PPID/task/*; do [ ${each##*/} = $PPID ] || grep SigBlk $each/status; done"
    masks = [int(line.split()[1], 16) for line in run("--", "sh", "-c", script).stdout.splitlines()]

    held = sum(1 << each - 1 for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1))
    assert masks
    assert {held} == {mask & held for mask in masks}


def test_terminal_signals_arrive_once(sample_server: SampleServer) -> None:
    """Ctrl-C goes to the command and to its runner; only the first counts."""
    script = "trap 'echo heard' INT; echo ready; for _ in 1 2 3 4 5 6 7 8 9 10; do sleep 0.1; done; echo done"
    command = running.command_of("run", "--server", sample_server.server.url, "--", "sh", "-c", script)
    terminal, its = pty.openpty()
    streams: dict[str, Any] = {"stdin": its, "stdout": its, "stderr": its}
    shown = b""
    with subprocess.Popen(["setsid", "--ctty", *command], env=environment(), **streams) as process:
        os.close(its)
        with suppress(OSError):  # the terminal ends when its last user closes it
            while b"ready" not in shown:
                shown += os.read(terminal, 1000)
            os.write(terminal, b"\x03")
            while True:
                shown += os.read(terminal, 1000)
    os.close(terminal)

    assert (0, 1) == (process.returncode, shown.count(b"heard")), shown


def test_the_streams_are_the_commands_own(sample_server: SampleServer) -> None:
    """Input goes in, output comes out as it is, also to descriptors that a shell has opened."""
    done = run("--server", sample_server.server.url, "cat", given_input="\0 as\tit is\n")
    assert "\0 as\tit is\n" == done.stdout

    command = " ".join(running.command_of("run", "--server", sample_server.server.url, "--", "cat", "<(echo opened)"))
    shown = subprocess.run(["bash", "-c", command], env=environment(), capture_output=True, text=True, check=False)
    assert "opened\n" == shown.stdout


def test_existing_hooks_still_run(sample_server: SampleServer, tmp_path: Path) -> None:
    """A `sitecustomize`, and what Node was to load."""
    (tmp_path / "sitecustomize.py").write_text("print('mine')")
    (tmp_path / "mine.cjs").write_text("console.log('mine')")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    script = "import sitecustomize as mine; print(mine.__file__)"

    python = sample_server.run(sys.executable, "-c", script, PYTHONPATH=path)
    node = sample_server.run(NODE, "-e", "0", NODE_OPTIONS=f"--require {tmp_path}/mine.cjs")

    assert python.stdout.endswith(f"mine\n{tmp_path}/sitecustomize.py\n")
    assert "mine\n" == node.stdout
