"""Run `retinue` commands in forks of a process that has imported everything, so that no command pays for imports.

Run as a program it is the server of forks. Effects, output and exit code are those of a separate process. Tests of the
start itself begin real processes.
"""

import gc
import importlib
import json
import os
import pkgutil
import re
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Other variables may have been read while Python or a library started, which is over before the fork.
_READ_BY_COMMANDS = re.compile("RETINUE_|PYTEST_|NODE_|TMPDIR$|TERM$|COLUMNS$|.*_proxy$", re.IGNORECASE)


class ForkServer:
    """One server of forks, started with its first command and after it was killed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._environment = at_start(os.environ)

    def run(
        self, words: Sequence[str], environment: Mapping[str, str], preparation: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, after Python code if given.

        A second one at the same time gets a process of its own.
        """
        if self._environment != at_start(environment) or not self._lock.acquire(blocking=False):
            return _run_alone(words, environment, preparation)
        try:
            return self._run_in_fork(words, environment, preparation)
        except BaseException:
            self._end()  # the answer of this command must not be taken for the next one's
            raise
        finally:
            self._lock.release()

    def _run_in_fork(
        self, words: Sequence[str], environment: Mapping[str, str], preparation: str
    ) -> subprocess.CompletedProcess[str]:
        streams = [os.memfd_create(name) for name in ("output", "errors")]
        try:
            paths = [f"/proc/{os.getpid()}/fd/{stream}" for stream in streams]
            order = {
                "words": list(words),
                "environment": dict(environment),
                "folder": str(Path.cwd()),
                "streams": paths,
                "preparation": preparation,
            }
            code = int(self._answer(json.dumps(order)))
            output, errors = (os.pread(stream, os.fstat(stream).st_size, 0).decode() for stream in streams)
        finally:
            for stream in streams:
                os.close(stream)
        return subprocess.CompletedProcess([*words], code, output, errors)

    def _answer(self, order: str) -> str:
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def at_start(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that may be read before a fork."""
    return {name: value for name, value in environment.items() if not _READ_BY_COMMANDS.match(name)}


def _run_alone(
    words: Sequence[str], environment: Mapping[str, str], preparation: str
) -> subprocess.CompletedProcess[str]:
    code = f"{preparation}\nimport retinue.__main__\nretinue.__main__.main()"
    command = [sys.executable, *(["-c", code] if preparation else ["-m", "retinue"]), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


# --- the server of forks ----------------------------------------------------------------------------------------------


def import_everything() -> None:
    """Import all of our modules, and what Typer imports with the first options that it reads."""
    import typer  # noqa: PLC0415 - by the server alone

    import retinue  # noqa: PLC0415 - the same

    for module in pkgutil.walk_packages(retinue.__path__, "retinue."):
        if not module.name.endswith("__main__") and ".hooks" not in module.name:
            with suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(module.name)
    group: Any = typer.main.get_command(importlib.import_module("retinue.cli.main").app)
    group.commands["check"].make_context("check", [])


def _serve() -> None:
    import_everything()
    gc.freeze()  # a fork would copy what its garbage collector looks through
    for line in sys.stdin:
        child = os.fork()
        if not child:
            os._exit(_run(json.loads(line)))
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        sys.stdout.write(f"{code}\n")
        sys.stdout.flush()
    os._exit(0)  # DuckDB's binding would report leaks


def _run(order: dict[str, Any]) -> int:
    program = importlib.import_module("retinue.__main__")
    sys.modules["__main__"] = program  # by which Typer names the program in its messages
    output, errors = (os.open(path, os.O_WRONLY) for path in order["streams"])
    for number, stream in enumerate((os.open(os.devnull, os.O_RDONLY), output, errors)):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = [program.__file__ or "", *order["words"]]
    try:
        exec(order["preparation"], {})  # noqa: S102 - code of a test
        program.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself does
        os.write(2, traceback.format_exc().encode())
        return 1
    return 0


if __name__ == "__main__":
    _serve()
