"""What the server is asked in a measurement, and by whom: request bodies drawn from a graph's files; wrk and a sender.

A few owners are asked for often and most seldom; a cursor is any second of the owner's list that still has a full
page before it. The same files give the same bodies. Nothing of the server is imported.
"""

import json
import os
import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from debian import WRK, require
from open_loop import Plan, Seen
from running import Cores, Failed, Server, on_cores

BODIES = 100_000
CONNECTIONS = 32
PATIENCE_SECONDS = 10  # an answer that takes longer is none
SEED = 1

_SCRIPT = Path(__file__).with_name("following.lua")
_OPEN_LOOP = Path(__file__).with_name("open_loop.py")
_FIGURES = re.compile(r"^figures (\{.*\})$", re.MULTILINE)

# Owners that are answered and whose lists hold a full page of visible rows: the name, the second of the page's newest
# row when the page is the list's oldest, and the second of the newest row of all.
_OWNERS = """
    SELECT owner.username, min(followed_at, $max_count)[$max_count], max(followed_at)
    FROM follow
    JOIN account AS owner ON owner.username = follow.follower
    JOIN account AS friend ON friend.username = follow.followee
    WHERE owner.visibility = 'public' AND friend.visibility IN ('public', 'following_hidden')
    GROUP BY owner.username HAVING count(*) >= $max_count
    ORDER BY owner.username
"""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Requests to send: a file of bodies to POST or of paths to GET, the token for all, which lists they ask for."""

    bodies: Path
    token: str
    direction: str = "following"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What wrk saw in one run."""

    requests: int
    seconds: float
    p50_milliseconds: float
    p99_milliseconds: float


def draw_bodies(accounts: Path, follows: Path, max_count: int) -> list[bytes]:
    """Request bodies whose pages are full; an owner's share of them falls with the rank it draws (Zipf)."""
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


def table_of(connection: duckdb.DuckDBPyConnection, path: Path) -> duckdb.DuckDBPyRelation:
    """The rows of a generated file."""
    if path.suffix == ".parquet":
        return connection.read_parquet(str(path))
    return connection.read_csv(str(path), header=True)


def require_wrk() -> None:
    """Install wrk where it is missing and that is possible."""
    require(WRK)


def drive(server: Server, traffic: Traffic, seconds: int, *, core: Cores, first: int = 0) -> Outcome:
    """Send requests as fast as they are answered, from one core or several, beginning after the first so many bodies.

    Raises `Failed` unless every one of them was answered with 200.
    """
    threads = 1 if isinstance(core, int) else len(core)
    wrk = ["wrk", f"-t{threads}", f"-c{CONNECTIONS}", f"-d{seconds}s", f"--timeout={PATIENCE_SECONDS}s"]
    wrk += ["--latency", "-s", str(_SCRIPT)]
    asked = [server.list_url(traffic.direction), "--", str(traffic.bodies), str(first)]
    command = on_cores(core, [*wrk, *asked])
    environment = {**os.environ, "TOKEN": traffic.token}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    found = _FIGURES.search(done.stdout)
    if done.returncode or found is None:
        raise Failed(f"wrk ended with exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return _outcome(json.loads(found[1]))


def pace(plan: Plan, *, core: int) -> Seen:
    """Send requests at a rate, from one core. Raises `Failed` unless every answer was 200."""
    command = on_cores(core, [sys.executable, str(_OPEN_LOOP)])
    done = subprocess.run(command, input=json.dumps(asdict(plan)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"the sender ended with exit code {done.returncode}\n{done.stderr}")
    seen = Seen(**json.loads(done.stdout))
    if seen.refused:
        raise Failed(f"of {seen.answered} requests {seen.refused} were refused")
    return seen


def _outcome(figures: dict[str, Any]) -> Outcome:
    if figures["refused"] or figures["broken"]:
        raise Failed(
            f"of {figures['requests']} requests {figures['refused']} were refused"
            f" and {figures['broken']} met a connection error"
        )
    return Outcome(figures["requests"], figures["duration"] / 1e6, figures["p50"] / 1000, figures["p99"] / 1000)
