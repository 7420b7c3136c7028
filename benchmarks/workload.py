"""Stores to measure with, and requests to measure them by.

Graphs are generated and stay in .cache/bench/ until the code that makes them changes. Requests are drawn from a
graph's files, each time the same: few owners are asked for often and most seldom, and a cursor is any second of the
owner's list that still has a full page at or before it. wrk or a paced sender (senders.py) sends them.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from processes import cpu_seconds
from running import Cores, Failed, Server, on_cores, retinue
from scenario import CACHE
from senders import Plan, Sent

BODIES = 100_000
CONNECTIONS = 32
TIMEOUT_SECONDS = 10
SEED = 1

_SOURCE = Path(__file__).resolve().parents[1] / "src" / "retinue"
_MADE_BY = "made-by.txt"
_SCRIPT = Path(__file__).with_name("requests.lua")
_SENDERS = Path(__file__).with_name("senders.py")
_FIGURES = re.compile(r"^figures (\{.*\})$", re.MULTILINE)

# Public owners whose lists hold a full page of visible rows: the name, the newest second of the list's oldest page,
# and the newest second of the list.
_OWNERS = """
    SELECT owner.username, min(followed_at, $max_count)[$max_count], max(followed_at)
    FROM follow
    JOIN account AS owner ON owner.username = follow.follower
    JOIN account AS friend ON friend.username = follow.followee
    WHERE owner.visibility = 'public' AND friend.visibility IN ('public', 'following_hidden')
    GROUP BY owner.username HAVING count(*) >= $max_count
    ORDER BY owner.username
"""


# --- graphs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Size:
    """Accounts, follows and seed of a generated graph."""

    accounts: int
    follows: int
    seed: int = 1


def generated(size: Size, kind: str = "csv") -> Path:
    """Return the folder of a generated graph: its files accounts and follows, and graph.db with both in it."""

    def make(folder: Path) -> None:
        generate(size, folder, kind)
        files = folder / f"accounts.{kind}", folder / f"follows.{kind}"
        retinue("import", "--store", folder / "graph.db", "--accounts", *files)

    return cached(f"graph-{size.accounts}-{size.follows}-{size.seed}{'' if kind == 'csv' else f'-{kind}'}", make)


def generate(size: Size, folder: Path, kind: str = "csv") -> None:
    """Write the files accounts and follows, as CSV or Parquet."""
    sizes = ("--accounts", str(size.accounts), "--follows", str(size.follows), "--seed", str(size.seed))
    retinue("generate", *sizes, "--format", kind, "-o", folder)


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder that `make` has filled with today's code."""
    folder = CACHE / name
    made_by = _fingerprint()
    if folder.is_dir() and (folder / _MADE_BY).read_text() == made_by:
        return folder
    print(f"making {name}", flush=True)
    part = folder.with_suffix(".part")
    for stale in (folder, part):
        shutil.rmtree(stale, ignore_errors=True)
    part.mkdir(parents=True)
    make(part)
    (part / _MADE_BY).write_text(made_by)
    return part.rename(folder)


def _fingerprint() -> str:
    """Return a hash of the sample's and the layout's code."""
    layout = [*(_SOURCE / "store" / "sqlite").glob("*.sql"), *(_SOURCE / "store" / "layout").glob("*.py")]
    files = [_SOURCE / "sample.py", _SOURCE / "sample_files.py", *sorted(layout)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


# --- requests -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests: a file with a body to POST or a path to GET on each line, a token, and a direction."""

    bodies: Path
    token: str
    direction: str = "following"


def draw_bodies(accounts: Path, follows: Path, max_count: int) -> list[bytes]:
    """Return request bodies with full pages, their owners drawn heavy-tailed."""
    with duckdb.connect() as connection:
        for name, path in (("account", accounts), ("follow", follows)):
            table_of(connection, path).create_view(name)
        owners = connection.execute(_OWNERS, {"max_count": max_count}).fetchall()
    if not owners:
        raise Failed(f"no list has {max_count} visible rows; ask for more follows")
    random = np.random.default_rng(SEED)
    shares = 1.0 / (1 + random.permutation(len(owners)))
    drawn = [owners[place] for place in random.choice(len(owners), size=BODIES, p=shares / shares.sum())]
    cursors = random.integers([first for _, first, _ in drawn], [last for *_, last in drawn], endpoint=True)
    return [
        json.dumps({"username": name, "max_count": max_count, "cursor": cursor}).encode()
        for (name, *_), cursor in zip(drawn, cursors.tolist(), strict=True)
    ]


def write_bodies(graph: Path, max_count: int, kind: str = "csv") -> Path:
    """Draw the requests of a graph; return their file."""
    return write_lines(
        graph / f"bodies-{max_count}.jsonl",
        draw_bodies(graph / f"accounts.{kind}", graph / f"follows.{kind}", max_count),
    )


def write_lines(file: Path, lines: Sequence[bytes]) -> Path:
    """Write lines to a file; return it."""
    file.write_bytes(b"\n".join(lines))
    return file


def table_of(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """Return the rows of a generated file."""
    if path.suffix == ".parquet":
        return connection.read_parquet(str(path))
    return connection.read_csv(str(path), header=True)


# --- load -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Load:
    """One run at full load. CPU time is of all processes of the server."""

    requests: int
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float
    cpu_seconds: float

    @property
    def requests_per_second(self) -> float:
        """Return the throughput."""
        return self.requests / self.seconds

    @property
    def cpu_microseconds(self) -> float:
        """Return the CPU time of a request."""
        return self.cpu_seconds / self.requests * 1e6

    @property
    def core_percent(self) -> float:
        """Return how busy one core was."""
        return 100 * self.cpu_seconds / self.seconds


def drive(
    server: Server, traffic: Traffic, seconds: int, *, core: Cores, first: int = 0, roots: Sequence[int] = ()
) -> Load:
    """Send requests with wrk as fast as they are answered.

    They come from some cores, and begin after the first so many bodies. CPU time is counted below `roots`, by default
    below the server's first process. Raises `Failed` unless every answer was 200.
    """
    threads = 1 if isinstance(core, int) else len(core)
    wrk = ["wrk", f"-t{threads}", f"-c{CONNECTIONS}", f"-d{seconds}s", f"--timeout={TIMEOUT_SECONDS}s"]
    wrk += ["--latency", "-s", str(_SCRIPT)]
    command = on_cores(core, [*wrk, server.list_url(traffic.direction), "--", str(traffic.bodies), str(first)])
    environment = {**os.environ, "TOKEN": traffic.token}
    before = cpu_seconds(*(roots or (server.pid,)))
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    used = cpu_seconds(*(roots or (server.pid,))) - before
    printed = _FIGURES.search(done.stdout)
    if done.returncode or printed is None:
        raise Failed(f"wrk ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return _load(json.loads(printed[1]), used)


def _load(figures: dict[str, Any], used: float) -> Load:
    if figures["refused"] or figures["broken"]:
        raise Failed(
            f"of {figures['requests']} requests {figures['refused']} were refused"
            f" and {figures['broken']} met a connection error"
        )
    seconds, p50, p99 = figures["duration"] / 1e6, figures["p50"] / 1000, figures["p99"] / 1000
    return Load(figures["requests"], seconds, p50, p99, used)


def pace(plan: Plan, *, core: int) -> Sent:
    """Send requests at a rate, from one core. Raises `Failed` unless every answer was 200."""
    command = on_cores(core, [sys.executable, str(_SENDERS), "paced"])
    done = subprocess.run(command, input=json.dumps(asdict(plan)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the sender ended with exit code {done.returncode}\n{done.stderr}")
    sent = Sent(**json.loads(done.stdout))
    if sent.refused:
        raise Failed(f"of {sent.answered} requests {sent.refused} were refused")
    return sent
