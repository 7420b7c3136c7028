"""How fast one worker on one core answers pages of 20 and of 100 rows, and what a request costs it.

A generated graph (kept in .cache/bench/) is served with authentication on; wrk asks from another core. Printed are
medians of several runs with their ranges, and between them the limit: uvicorn with an application that answers every
request with one fixed page. .cache/bench/first_look.json has every run.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graphs import CACHE, Size, generated
from process_tree import require_cores
from running import Failed, Server, Session, fresh_token, running, running_server
from traffic import BODIES, CONNECTIONS, Traffic, draw_bodies, drive, require_wrk

MAX_COUNTS = (20, 100)
WARM_UP_SECONDS = 8  # a server that has just started reads every name for the first time
SERVER_CORE = 0
WRK_CORE = 1
PROBES = 200

_FIXED_PAGE = Path(__file__).with_name("fixed_page.py")
_MIB = 1024 * 1024
_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    accounts: int
    follows: int
    seconds: int
    runs: int


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    requests_per_second: float
    cpu_microseconds_per_request: float
    p50_milliseconds: float
    p99_milliseconds: float
    worker_mebibytes: float
    core_percent: float  # far below 100: something else ran on the server's core


@dataclass(frozen=True, slots=True)
class Result:
    """All runs at one page size, and those of the limit between them; `mean_rows` says how full the pages were."""

    max_count: int
    mean_rows: float
    runs: tuple[Run, ...]
    limit: tuple[Run, ...]


def _cost(run: Run) -> float:
    return run.cpu_microseconds_per_request


_COLUMNS: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
    ("requests/s", ",.0f", lambda run: run.requests_per_second),
    ("CPU us/request", ".1f", _cost),
    ("p50 ms", ".2f", lambda run: run.p50_milliseconds),
    ("p99 ms", ".2f", lambda run: run.p99_milliseconds),
    ("worker MiB", ".1f", lambda run: run.worker_mebibytes),
    ("core %", ".0f", lambda run: run.core_percent),
)


def main() -> int:
    """Prepare, measure, report; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    options = _options()
    try:
        require_cores(SERVER_CORE, WRK_CORE)
        require_wrk()
        graph = generated(Size(options.accounts, options.follows))
        results = [_measure(graph, max_count, options) for max_count in MAX_COUNTS]
    except Failed as failure:
        sys.stderr.write(f"first_look: {failure}\n")
        return 1
    _print(results)
    print(f"every run is in {_save(options, results)}")
    return 0


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--follows", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=int, default=10, help="length of a run")
    parser.add_argument("--runs", type=int, default=3)
    return Options(**vars(parser.parse_args()))


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(graph: Path, max_count: int, options: Options) -> Result:
    bodies = draw_bodies(graph / "accounts.csv", graph / "follows.csv", max_count)
    file = CACHE / f"bodies-{max_count}.jsonl"
    file.write_bytes(b"\n".join(bodies))
    store = graph / "graph.db"
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        traffic = Traffic(file, fresh_token(server, store))
        page = CACHE / f"page-{max_count}.json"
        page.write_text(json.dumps(_pages(server, traffic.token, bodies[:1])[0], ensure_ascii=False))
        with running([sys.executable, str(_FIXED_PAGE), str(page)], core=SERVER_CORE) as limit:
            pairs = [
                tuple(_run(each, traffic, options.seconds) for each in (server, limit)) for _ in range(options.runs)
            ]
        rows = [len(page["user_following"]) for page in _pages(server, traffic.token, bodies[:PROBES])]
    runs, limits = zip(*pairs, strict=True)
    return Result(max_count, statistics.fmean(rows), runs, limits)


def _run(server: Server, traffic: Traffic, seconds: int) -> Run:
    drive(server, traffic, WARM_UP_SECONDS, core=WRK_CORE, first=BODIES // 2)
    before = server.cpu_seconds()
    outcome = drive(server, traffic, seconds, core=WRK_CORE)
    used = server.cpu_seconds() - before
    return Run(
        requests_per_second=outcome.requests / outcome.seconds,
        cpu_microseconds_per_request=used / outcome.requests * 1e6,
        p50_milliseconds=outcome.p50_milliseconds,
        p99_milliseconds=outcome.p99_milliseconds,
        worker_mebibytes=server.worker_memory() / _MIB,
        core_percent=100 * used / outcome.seconds,
    )


def _pages(server: Server, token: str, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    with Session(server.base_url, token) as session:
        return [session.following(json.loads(body)) for body in bodies]


# --- reporting ------------------------------------------------------------------------------------------------------


def _print(results: Sequence[Result]) -> None:
    print("median (lowest-highest)")
    print(f"{'rows':>5}{'mean rows':>11}" + "".join(f"{title:>{_WIDTH}}" for title, *_ in _COLUMNS))
    for result in results:
        _print_row(f"{result.max_count:>5}{result.mean_rows:>11.2f}", result.runs)
        _print_row(f"{'limit':>16}", result.limit)
        ours, limits = (statistics.median(_cost(run) for run in runs) for runs in (result.runs, result.limit))
        print(f"{'ratio':>16}{ours / limits:>{2 * _WIDTH}.2f}")


def _print_row(head: str, runs: Sequence[Run]) -> None:
    cells = (cell([value(run) for run in runs], form) for _, form, value in _COLUMNS)
    print(head + "".join(f"{cell:>{_WIDTH}}" for cell in cells))


def cell(values: Sequence[float], form: str) -> str:
    """The median of some values, with the lowest and the highest."""
    middle, low, high = (format(value, form) for value in (statistics.median(values), min(values), max(values)))
    return f"{middle} ({low}-{high})"


def _save(options: Options, results: Sequence[Result]) -> Path:
    machine = {"python": platform.python_version(), "kernel": platform.release(), "cores": os.cpu_count()}
    report = {
        "options": {**asdict(options), "connections": CONNECTIONS, "warm_up_seconds": WARM_UP_SECONDS},
        "machine": machine,
        "results": [asdict(result) for result in results],
    }
    path = CACHE / "first_look.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
