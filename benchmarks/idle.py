"""A server at load, without and with thousands of connections that wait: throughput, memory, and whether they stay.

The connections are held by a program of its own (hold.py). Each gets one answer, then waits while wrk asks on others,
and must get another answer at the end. The server closes a connection that waits for longer than its keep-alive time,
so all of it has to happen within that.
"""

import json
import os
import resource
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from loaded import Run, run
from running import Cores, Failed, Server, on_cores, running_server
from traffic import CONNECTIONS, Traffic

KEEP_ALIVE_SECONDS = 75  # what the server promises, docs/operate.md
OPENING_SECONDS = 120.0
OTHER_OPEN_FILES = 1024  # of a worker
_HOLD = Path(__file__).with_name("hold.py")


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked of the server while connections wait, from which cores."""

    traffic: Traffic
    seconds: int
    runs: int
    core: Cores


@dataclass(frozen=True, slots=True)
class Idle:
    """Runs without and with waiting connections, and what those were and cost."""

    workers: int
    held: int
    without: tuple[Run, ...]  # half of them before, half after the others
    beside: tuple[Run, ...]
    opening_seconds: float
    waited_seconds: float  # the longest that a connection was silent
    bytes_before: int  # resident, of all processes of the server
    bytes_held: int
    files_of_workers: tuple[int, ...]
    answered_at_the_end: int

    @property
    def bytes_a_connection(self) -> float:
        """What the server needs more for each."""
        return (self.bytes_held - self.bytes_before) / self.held


def require_open_files(count: int) -> None:
    """One worker may get all connections, and the holder has all of them."""
    wanted = most_connections(count) + OTHER_OPEN_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failed(f"{count:,} connections need {wanted:,} open files in a process; `ulimit -Hn` is {hard:,}")


def most_connections(count: int) -> int:
    """What --max-connections must be: any worker may get all that wait and all of wrk's."""
    return count + 2 * CONNECTIONS


def measure(store: Path, workers: int, count: int, core: Cores, load_of: Callable[[Server], Load]) -> Idle:
    """Serve, without waiting connections, with them, and again without."""
    flags = ("--workers", str(workers), "--max-connections", str(most_connections(count)))
    with running_server(store, *flags, core=core) as server:
        load = load_of(server)
        without = _driven(server, load)
        before = server.memory()
        with _holder(server, load, count) as holder:
            opened = perf_counter()
            opening = holder.read(count)
            held = server.memory()
            files = tuple(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())
            beside = _driven(server, load)
            waited = perf_counter() - opened
            end = holder.ask(count)
        without += _driven(server, load)
    return Idle(workers, count, without, beside, opening["seconds"], waited, before, held, files, int(end["answered"]))


def _driven(server: Server, load: Load) -> tuple[Run, ...]:
    return tuple(run(server, load.traffic, load.seconds, load.core) for _ in range(load.runs))


class _Holder:
    """The program that holds connections."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self, count: int) -> dict[str, float]:
        """Let every connection ask once more."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.read(count)

    def read(self, count: int) -> dict[str, float]:
        """What it says when all have been answered; all must be."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], OPENING_SECONDS)[0]:
            raise Failed(f"the connections were not all answered within {OPENING_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed("hold.py ended without a word")
        said = json.loads(line)
        if said["answered"] != count:
            raise Failed(f"of {count:,} connections {said['broken']:,} got no good answer: {said['reason']}")
        return {name: said[name] for name in ("answered", "seconds")}


@contextmanager
def _holder(server: Server, load: Load, count: int) -> Iterator[_Holder]:
    with load.traffic.bodies.open() as bodies:
        body = bodies.readline().strip()
    command = on_cores(load.core, [sys.executable, str(_HOLD), server.list_url("following"), body, str(count)])
    environment = {**os.environ, "TOKEN": load.traffic.token}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield _Holder(process)
    finally:
        process.kill()
        process.communicate()
