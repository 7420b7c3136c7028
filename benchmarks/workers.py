"""What more workers bring on more cores, and what ten thousand connections that wait cost.

A generated graph (kept in .cache/bench/) is served with authentication on. First with 1, 2, 3 and 4 workers, the
server on one core, on two, and so on, while wrk asks from cores of its own; on a machine with two cores the last
placement has the server and wrk share both. Then with 1 and 2 workers, beside connections that wait (idle.py). Printed
are medians with their ranges; .cache/bench/workers.json has every run.
"""

import argparse
import json
import os
import platform
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import idle
from first_look import cell
from graphs import CACHE, Size, generated
from running import Failed, Server, fresh_token, running_server
from traffic import BODIES, CONNECTIONS, Traffic, draw_bodies, drive, require_wrk

MOST_WORKERS = 4
IDLE_WORKERS = (1, 2)
WARM_UP_SECONDS = 8  # workers that have just started read every name for the first time
_WIDTH = 26


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    accounts: int
    follows: int
    rows: int
    seconds: int
    runs: int
    idle: int


@dataclass(frozen=True, slots=True)
class Placement:
    """Which cores the server has, and which wrk."""

    server: tuple[int, ...]
    wrk: tuple[int, ...]

    def __str__(self) -> str:
        """As in the table."""
        return f"{len(self.server)}{', shared with wrk' if set(self.server) & set(self.wrk) else ''}"


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    requests_per_second: float
    cpu_microseconds_per_request: float
    p99_milliseconds: float
    cores_busy: float  # how many cores' worth of time the server used


@dataclass(frozen=True, slots=True)
class Result:
    """All runs with so many workers on some cores."""

    placement: Placement
    workers: int
    runs: tuple[Run, ...]


def main() -> int:
    """Prepare, measure, report; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    options = _options()
    cores = tuple(sorted(os.sched_getaffinity(0)))
    try:
        require_wrk()
        idle.require_open_files(options.idle)
        graph = generated(Size(options.accounts, options.follows))
        bodies = CACHE / f"bodies-{options.rows}.jsonl"
        bodies.write_bytes(b"\n".join(draw_bodies(graph / "accounts.csv", graph / "follows.csv", options.rows)))
        placements = placements_on(cores)
        results = [
            _measure(graph / "graph.db", bodies, Result(placement, workers, ()), options)
            for placement in placements
            for workers in range(1, MOST_WORKERS + 1)
        ]
        _print(results, options)
        waiting = [
            _beside_idle(graph / "graph.db", bodies, workers, placements[0], options) for workers in IDLE_WORKERS
        ]
    except Failed as failure:
        sys.stderr.write(f"workers: {failure}\n")
        return 1
    _print_idle(waiting)
    print(f"every run is in {_save(options, cores, results, waiting)}")
    return 0


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--follows", type=int, default=2_000_000)
    parser.add_argument("--rows", type=int, default=20, help="rows of a page")
    parser.add_argument("--seconds", type=int, default=5, help="length of a run")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--idle", type=int, default=10_000, help="connections that wait")
    options = Options(**vars(parser.parse_args()))
    if options.runs * (options.seconds + 1) > idle.KEEP_ALIVE_SECONDS - 30:
        parser.error(f"--runs, --seconds: connections that wait are closed after {idle.KEEP_ALIVE_SECONDS} s")
    return options


def placements_on(cores: Sequence[int]) -> list[Placement]:
    """The server on 1, 2, 4 ... cores, and on all but wrk's, which are a quarter; both on both where there are two."""
    if len(cores) < 2:
        raise Failed("needs two cores, one for the server and one for wrk")
    cores, asking = tuple(cores), max(1, len(cores) // 4)
    serving = cores[:-asking]
    counts = sorted({*(1 << power for power in range(len(serving).bit_length())), len(serving)})
    placements = [Placement(serving[:count], cores[-asking:]) for count in counts]
    return [*placements, Placement(cores, cores)] if len(cores) == 2 else placements


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(store: Path, bodies: Path, wanted: Result, options: Options) -> Result:
    placement = wanted.placement
    with running_server(store, "--workers", str(wanted.workers), core=placement.server) as server:
        traffic = _warmed(server, store, bodies, placement)
        runs = tuple(_run(server, traffic, placement, options.seconds) for _ in range(options.runs))
    return Result(placement, wanted.workers, runs)


def _warmed(server: Server, store: Path, bodies: Path, placement: Placement) -> Traffic:
    traffic = Traffic(bodies, fresh_token(server, store))
    drive(server, traffic, WARM_UP_SECONDS, core=placement.wrk, first=BODIES // 2)
    return traffic


def _run(server: Server, traffic: Traffic, placement: Placement, seconds: int) -> Run:
    before = server.cpu_seconds()
    outcome = drive(server, traffic, seconds, core=placement.wrk)
    used = server.cpu_seconds() - before
    return Run(
        requests_per_second=outcome.requests / outcome.seconds,
        cpu_microseconds_per_request=used / outcome.requests * 1e6,
        p99_milliseconds=outcome.p99_milliseconds,
        cores_busy=used / outcome.seconds,
    )


def _beside_idle(store: Path, bodies: Path, workers: int, placement: Placement, options: Options) -> idle.Idle:
    def load_of(server: Server) -> idle.Load:
        return idle.Load(_warmed(server, store, bodies, placement), options.seconds, options.runs, placement.wrk)

    return idle.measure(store, workers, options.idle, placement.server, load_of)


# --- reporting ------------------------------------------------------------------------------------------------------


def _print(results: Sequence[Result], options: Options) -> None:
    print(f"pages of {options.rows} rows; median (lowest-highest) of {options.runs} runs of {options.seconds} s")
    titles = ("requests/s", "CPU us/request", "p99 ms", "cores busy")
    print(f"{'cores of the server':<22}{'workers':>8}" + "".join(f"{title:>{_WIDTH}}" for title in titles))
    for result in results:
        columns = (
            ([run.requests_per_second for run in result.runs], ",.0f"),
            ([run.cpu_microseconds_per_request for run in result.runs], ".1f"),
            ([run.p99_milliseconds for run in result.runs], ".2f"),
            ([run.cores_busy for run in result.runs], ".2f"),
        )
        cells = "".join(f"{cell(values, form):>{_WIDTH}}" for values, form in columns)
        print(f"{result.placement!s:<22}{result.workers:>8}{cells}", flush=True)
    if any(set(result.placement.server) & set(result.placement.wrk) for result in results):
        print(
            "This machine has two cores. On one of them more workers cannot gain anything: that shows what having them\n"
            "costs. Where both are shared, wrk takes what the server then lacks, so two cores of its own would give\n"
            "more than is seen there. How it goes on with three cores and more cannot be seen here."
        )


def _print_idle(results: Sequence[idle.Idle]) -> None:
    for each in results:
        ratio = statistics.median(each.beside) / statistics.median(each.without)
        files = ", ".join(f"{count:,}" for count in each.files_of_workers)
        print(
            f"{each.held:,} connections waiting, {each.workers} worker{'s' if each.workers > 1 else ''}, one core\n"
            f"  requests/s without     {cell(each.without, ',.0f')}\n"
            f"  requests/s beside them {cell(each.beside, ',.0f')}, {ratio:.3f} of that\n"
            f"  opened in {each.opening_seconds:.1f} s; silent for {each.waited_seconds:.1f} s, of the"
            f" {idle.KEEP_ALIVE_SECONDS} s that the server waits; then {each.answered_at_the_end:,} answered again\n"
            f"  bytes a connection {each.bytes_a_connection:,.0f} ({each.bytes_before:,} resident before,"
            f" {each.bytes_held:,} with them)\n"
            f"  open files of each worker {files}; --max-connections {idle.most_connections(each.held):,}, so the"
            f" system must allow {idle.most_connections(each.held) + idle.OTHER_OPEN_FILES:,}"
        )


def _save(options: Options, cores: Sequence[int], results: Sequence[Result], waiting: Sequence[idle.Idle]) -> Path:
    report = {
        "options": {**asdict(options), "connections": CONNECTIONS, "warm_up_seconds": WARM_UP_SECONDS},
        "machine": {"python": platform.python_version(), "kernel": platform.release(), "cores": cores},
        "results": [asdict(result) for result in results],
        "idle": [{**asdict(each), "bytes_a_connection": each.bytes_a_connection} for each in waiting],
    }
    path = CACHE / "workers.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
