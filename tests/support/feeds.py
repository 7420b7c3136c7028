"""Events as lines, and a running `retinue apply`."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from retinue.model import Direction
from retinue.store.open import open_store
from support.commands import list_of

AT = 1_700_000_000


def follow(follower: str, followee: str, at: int | str = AT, event: str = "follow") -> dict[str, Any]:
    """Return a follow as an event."""
    return {"event": event, "follower": follower, "followee": followee, "at": at}


def lines(*events: dict[str, Any] | bytes) -> bytes:
    """Return events as lines."""
    return b"".join((event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n" for event in events)


class Applying:
    """A running `retinue apply` that reads a pipe."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        assert process.stdin is not None
        assert process.stdout is not None
        self.stdin: IO[bytes] = process.stdin
        self.stdout: IO[bytes] = process.stdout

    def send(self, content: bytes) -> None:
        """Write to the pipe immediately."""
        self.stdin.write(content)
        self.stdin.flush()

    def told(self) -> dict[str, Any]:
        """Return the next report."""
        report: dict[str, Any] = json.loads(self.stdout.readline())
        return report

    def end(self) -> tuple[int, str]:
        """Wait for the end; return the exit code and standard error."""
        _, errors = self.process.communicate()
        return self.process.returncode, errors.decode()


@contextmanager
def applying(store: Path, *arguments: str | Path) -> Iterator[Applying]:
    """Start `retinue apply` on an existing store."""
    open_store(str(store)).create()
    command = [sys.executable, "-m", "retinue", "apply", "--store", str(store), *map(str, arguments)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        try:
            yield Applying(process)
        finally:
            process.kill()


def applied(store: Path, content: bytes, *arguments: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """Apply all of standard input; return exit code, reports and standard error."""
    with applying(store, *arguments) as run:
        output, errors = run.process.communicate(content)
        return run.process.returncode, [json.loads(line) for line in output.splitlines()], errors.decode()


def names_of(store: Path, name: str, direction: Direction = Direction.FOLLOWING) -> list[str]:
    """Return the usernames of a list."""
    return [username for username, _ in list_of(store, name, direction)]
