"""What more workers bring on more cores, and what ten thousand connections that wait cost.

A generated graph (kept in .cache/bench/) is served with authentication on. First with 1, 2, 3 and 4 workers, the
server on one core, on two, and so on, while wrk asks from cores of its own; on a machine with two cores the last
placement has the server and wrk share both. Then with 1 and 2 workers, beside connections that wait (idle.py). Printed
are medians with their ranges, beside what could have spoilt a run (loaded.py); .cache/bench/workers.json has every run.
"""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import idle
from first_look import cell
from graphs import CACHE, Size, generated
from loaded import DISTURBED_CORES, Run, run
from running import Failed, Server, fresh_token, running_server
from traffic import BODIES, CONNECTIONS, Traffic, draw_bodies, drive, require_wrk

MOST_WORKERS = 4
IDLE_WORKERS = (1, 2)
WARM_UP_SECONDS = 8  # workers that have just started read every name for the first time
_WIDTH = 23


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
        runs = tuple(run(server, traffic, options.seconds, placement.wrk) for _ in range(options.runs))
    return Result(placement, wanted.workers, runs)


def _warmed(server: Server, store: Path, bodies: Path, placement: Placement) -> Traffic:
    traffic = Traffic(bodies, fresh_token(server, store))
    drive(server, traffic, WARM_UP_SECONDS, core=placement.wrk, first=BODIES // 2)
    return traffic


def _beside_idle(store: Path, bodies: Path, workers: int, placement: Placement, options: Options) -> idle.Idle:
    def load_of(server: Server) -> idle.Load:
        return idle.Load(_warmed(server, store, bodies, placement), options.seconds, options.runs, placement.wrk)

    return idle.measure(store, workers, options.idle, placement.server, load_of)


# --- reporting ------------------------------------------------------------------------------------------------------


_COLUMNS: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
    ("requests/s", ",.0f", lambda run: run.requests_per_second),
    ("CPU us/request", ".1f", lambda run: run.cpu_microseconds_per_request),
    ("p99 ms", ".1f", lambda run: run.p99_milliseconds),
    ("cores busy", ".2f", lambda run: run.server_cores),
    ("others' cores", ".2f", lambda run: run.other_cores),
    ("busiest worker %", ".0f", lambda run: run.busiest_percent),
)
_TWO_CORES = """This machine has two cores. On one of them more workers cannot gain anything: that shows what they cost.
Where both are shared, wrk takes what the server then lacks, so two cores of its own would give more than is seen
there. How it goes on with three cores and more cannot be seen here."""


def _print(results: Sequence[Result], options: Options) -> None:
    print(f"pages of {options.rows} rows; median (lowest-highest) of {options.runs} runs of {options.seconds} s")
    _print_titles("cores of the server", "workers")
    for result in results:
        _print_runs(f"{result.placement!s:<20}{result.workers:>8}", result.runs)
    if any(set(result.placement.server) & set(result.placement.wrk) for result in results):
        print(_TWO_CORES)
    _print_disturbed([run for result in results for run in result.runs])


def _print_idle(results: Sequence[idle.Idle]) -> None:
    print("\nbeside connections that wait, the server on one core")
    _print_titles("waiting", "workers")
    for each in results:
        _print_runs(f"{'0':<20}{each.workers:>8}", each.without)
        _print_runs(f"{each.held:<20,}{each.workers:>8}", each.beside)
        _print_held(each)
    _print_disturbed([run for each in results for run in (*each.without, *each.beside)])


def _print_held(each: idle.Idle) -> None:
    files = ", ".join(f"{count:,}" for count in each.files_of_workers)
    most = idle.most_connections(each.held)
    print(
        f"  opened in {each.opening_seconds:.1f} s; silent for up to {each.waited_seconds:.1f} s of the"
        f" {idle.KEEP_ALIVE_SECONDS} s that the server waits; then {each.answered_at_the_end:,} answered again\n"
        f"  bytes a connection {each.bytes_a_connection:,.0f} ({each.bytes_before:,} resident before,"
        f" {each.bytes_held:,} with them)\n"
        f"  open files of each worker {files}; --max-connections {most:,}, so `ulimit -Hn` must be"
        f" {most + idle.OTHER_OPEN_FILES:,}"
    )


def _print_titles(first: str, second: str) -> None:
    print(f"{first:<20}{second:>8}" + "".join(f"{title:>{_WIDTH}}" for title, *_ in _COLUMNS))


def _print_runs(head: str, runs: Sequence[Run]) -> None:
    cells = (cell([value(each) for each in runs], form) for _, form, value in _COLUMNS)
    print(head + "".join(f"{each:>{_WIDTH}}" for each in cells))


def _print_disturbed(runs: Sequence[Run]) -> None:
    disturbed = sum(run.other_cores > DISTURBED_CORES for run in runs)
    if disturbed:
        print(f"NOT A QUIET MACHINE: in {disturbed} of {len(runs)} runs others took more than {DISTURBED_CORES} cores.")


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
