"""Throughput of more workers, and the cost of idle connections.

A generated graph is served with authentication on. First with 1, 2, 3 and 4 workers, the server on one core, on two,
and so on, while wrk asks from cores of its own; on a machine with two cores the last placement lets the server and wrk
share both. Then with 1 and 2 workers, without and with idle connections: each of them gets one answer, is silent while
wrk asks on others, and must get another answer at the end, within the server's keep-alive time.

Two things spoil a run: other programs on the cores, and connections that fell unevenly on the workers (a connection
stays with the worker that accepted it). Both are in the figures of each run.
"""

import os
import resource
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter

from debian import WRK
from figures import spread
from idle_connections import idle_connections, require_all
from running import Cores, Failed, Server, fresh_token, running_server
from scenario import Report, Scenario
from workload import BODIES, CONNECTIONS, Load, Size, Traffic, drive, generated, write_bodies

MAX_WORKERS = 4
IDLE_WORKERS = (1, 2)
KEEP_ALIVE_SECONDS = 75  # of the server, docs/operate.md
OTHER_OPEN_FILES = 1024  # of a worker
DISTURBED_CORES = 0.15  # a run says little if other programs took more

_TICKS_PER_SECOND = 100  # of /proc/stat, whatever the kernel's own are
_BUSY_FIELDS = (0, 1, 2, 5, 6)  # proc(5): user, nice, system, irq, softirq
_WIDTH = 23


@dataclass(frozen=True, slots=True)
class Options:
    """The graph, its pages, the runs and the idle connections."""

    accounts: int = 100_000
    follows: int = 2_000_000
    rows: int = 20
    seconds: int = 5
    runs: int = 5
    idle: int = 10_000
    warm_up: int = 8  # seconds; new workers read every name for the first time


@dataclass(frozen=True, slots=True)
class Placement:
    """The cores of the server, and those of wrk."""

    server: tuple[int, ...]
    wrk: tuple[int, ...]

    def __str__(self) -> str:
        """Return the name in the table."""
        return f"{len(self.server)}{', shared with wrk' if set(self.server) & set(self.wrk) else ''}"


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    load: Load
    other_cores: float  # cores' worth of time of all other programs but wrk
    busiest_percent: float  # the busiest worker's part of what all workers used


@dataclass(frozen=True, slots=True)
class Result:
    """All runs with a number of workers on some cores."""

    placement: Placement
    workers: int
    runs: tuple[Run, ...]


@dataclass(frozen=True, slots=True)
class Idle:
    """Runs without and with idle connections, and their cost."""

    workers: int
    held: int
    without: tuple[Run, ...]  # half of them before, half after the others
    beside: tuple[Run, ...]
    opening_seconds: float
    waited_seconds: float  # the longest silence of a connection
    bytes_before: int  # resident, of all processes of the server
    bytes_held: int
    files_of_workers: tuple[int, ...]
    answered_at_the_end: int

    @property
    def bytes_a_connection(self) -> float:
        """Return the memory of each connection."""
        return (self.bytes_held - self.bytes_before) / self.held


def measure(options: Options) -> Report:
    """Measure all placements, then idle connections, and report."""
    if options.runs * (options.seconds + 1) > KEEP_ALIVE_SECONDS - 30:
        raise Failed(f"--runs, --seconds: idle connections are closed after {KEEP_ALIVE_SECONDS} s")
    require_open_files(options.idle)
    cores = tuple(sorted(os.sched_getaffinity(0)))
    graph = generated(Size(options.accounts, options.follows))
    store, bodies = graph / "graph.db", write_bodies(graph, options.rows)
    placements = placements_on(cores)
    results = [
        _measure(store, bodies, Result(placement, workers, ()), options)
        for placement in placements
        for workers in range(1, MAX_WORKERS + 1)
    ]
    _print(results, options)
    idle = [_beside_idle(store, bodies, workers, placements[0], options) for workers in IDLE_WORKERS]
    _print_idle(idle)
    return Report(
        {
            "cores": cores,
            "connections": CONNECTIONS,
            "results": [asdict(result) for result in results],
            "idle": [{**asdict(each), "bytes_a_connection": each.bytes_a_connection} for each in idle],
        }
    )


def require_open_files(count: int) -> None:
    """Raise `Failed` unless one process may have all connections open."""
    wanted = max_connections(count) + OTHER_OPEN_FILES
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise Failed(f"{count:,} connections need {wanted:,} open files in a process; `ulimit -Hn` is {hard:,}")


def max_connections(count: int) -> int:
    """Return --max-connections: any worker may get all idle connections and all of wrk's."""
    return count + 2 * CONNECTIONS


def placements_on(cores: Sequence[int]) -> list[Placement]:
    """Place the server on 1, 2, 4 ... cores and on all but wrk's quarter; let them share two cores if there are two."""
    if len(cores) < 2:
        raise Failed("needs two cores, one for the server and one for wrk")
    cores, asking = tuple(cores), max(1, len(cores) // 4)
    serving = cores[:-asking]
    counts = sorted({*(1 << power for power in range(len(serving).bit_length())), len(serving)})
    placements = [Placement(serving[:count], cores[-asking:]) for count in counts]
    return [*placements, Placement(cores, cores)] if len(cores) == 2 else placements


# --- measuring -------------------------------------------------------------------------------------------------------


def _run(server: Server, traffic: Traffic, seconds: int, core: Cores) -> Run:
    started, busy, asking = perf_counter(), _busy_seconds(), _client_seconds()
    before = server.worker_seconds()
    load = drive(server, traffic, seconds, core=core)
    workers = [after - before[pid] for pid, after in server.worker_seconds().items()]
    others = _busy_seconds() - busy - load.cpu_seconds - (_client_seconds() - asking)
    return Run(load, max(0.0, others / (perf_counter() - started)), 100 * max(workers) / sum(workers))


def _busy_seconds() -> float:
    """Return the CPU seconds of all programs on all cores."""
    fields = Path("/proc/stat").read_text().splitlines()[0].split()[1:]
    return sum(int(fields[place]) for place in _BUSY_FIELDS) / _TICKS_PER_SECOND


def _client_seconds() -> float:
    """Return the CPU seconds of our ended children: wrk."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _measure(store: Path, bodies: Path, wanted: Result, options: Options) -> Result:
    placement = wanted.placement
    with running_server(store, "--workers", str(wanted.workers), core=placement.server) as server:
        traffic = _warmed(server, store, bodies, placement, options.warm_up)
        runs = tuple(_run(server, traffic, options.seconds, placement.wrk) for _ in range(options.runs))
    return Result(placement, wanted.workers, runs)


def _warmed(server: Server, store: Path, bodies: Path, placement: Placement, seconds: int) -> Traffic:
    traffic = Traffic(bodies, fresh_token(server, store))
    drive(server, traffic, seconds, core=placement.wrk, first=BODIES // 2)
    return traffic


def _beside_idle(store: Path, bodies: Path, workers: int, placement: Placement, options: Options) -> Idle:
    """Serve without idle connections, with them, and again without."""
    flags = ("--workers", str(workers), "--max-connections", str(max_connections(options.idle)))
    with running_server(store, *flags, core=placement.server) as server:
        traffic = _warmed(server, store, bodies, placement, options.warm_up)

        def runs() -> tuple[Run, ...]:
            return tuple(_run(server, traffic, options.seconds, placement.wrk) for _ in range(options.runs))

        without, before = runs(), server.memory()
        with idle_connections(server, traffic, options.idle, placement.wrk) as holder:
            opened = perf_counter()
            require_all(holder.opened, options.idle)
            memory = server.memory()
            files = tuple(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())
            beside = runs()
            waited = perf_counter() - opened
            end = holder.ask()
            require_all(end, options.idle)
        without += runs()
    opening, answered = holder.opened["seconds"], int(end["answered"])
    return Idle(workers, options.idle, without, beside, opening, waited, before, memory, files, answered)


# --- reporting ------------------------------------------------------------------------------------------------------


_COLUMNS: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
    ("requests/s", ",.0f", lambda run: run.load.requests_per_second),
    ("CPU us/request", ".1f", lambda run: run.load.cpu_microseconds),
    ("p99 ms", ".1f", lambda run: run.load.p99_milliseconds),
    ("cores busy", ".2f", lambda run: run.load.core_percent / 100),
    ("others' cores", ".2f", lambda run: run.other_cores),
    ("busiest worker %", ".0f", lambda run: run.busiest_percent),
)
_TWO_CORES = """This machine has two cores. On one of them more workers gain nothing: those rows show their cost. If
both are shared, wrk takes what the server then lacks, so two cores of its own would give more."""


def _print(results: Sequence[Result], options: Options) -> None:
    print(f"pages of {options.rows} rows; median (lowest-highest) of {options.runs} runs of {options.seconds} s")
    _print_titles("cores of the server", "workers")
    for result in results:
        _print_runs(f"{result.placement!s:<20}{result.workers:>8}", result.runs)
    if any(set(result.placement.server) & set(result.placement.wrk) for result in results):
        print(_TWO_CORES)
    _print_disturbed([run for result in results for run in result.runs])


def _print_idle(results: Sequence[Idle]) -> None:
    print("\nbeside idle connections, the server on one core")
    _print_titles("idle", "workers")
    for each in results:
        _print_runs(f"{'0':<20}{each.workers:>8}", each.without)
        _print_runs(f"{each.held:<20,}{each.workers:>8}", each.beside)
        _print_held(each)
    _print_disturbed([run for each in results for run in (*each.without, *each.beside)])


def _print_held(each: Idle) -> None:
    files = ", ".join(f"{count:,}" for count in each.files_of_workers)
    limit = max_connections(each.held)
    print(
        f"  opened in {each.opening_seconds:.1f} s; silent for up to {each.waited_seconds:.1f} s of the"
        f" {KEEP_ALIVE_SECONDS} s that the server waits; then {each.answered_at_the_end:,} answered again\n"
        f"  bytes a connection {each.bytes_a_connection:,.0f} ({each.bytes_before:,} resident before,"
        f" {each.bytes_held:,} with them)\n"
        f"  open files of each worker {files}; --max-connections {limit:,}, so `ulimit -Hn` must be"
        f" {limit + OTHER_OPEN_FILES:,}"
    )


def _print_titles(first: str, second: str) -> None:
    print(f"{first:<20}{second:>8}" + "".join(f"{title:>{_WIDTH}}" for title, *_ in _COLUMNS))


def _print_runs(head: str, runs: Sequence[Run]) -> None:
    cells = (format(spread(value(each) for each in runs), form) for _, form, value in _COLUMNS)
    print(head + "".join(f"{each:>{_WIDTH}}" for each in cells))


def _print_disturbed(runs: Sequence[Run]) -> None:
    disturbed = sum(run.other_cores > DISTURBED_CORES for run in runs)
    if disturbed:
        print(f"NOT A QUIET MACHINE: in {disturbed} of {len(runs)} runs others took more than {DISTURBED_CORES} cores.")


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "workers": Scenario(
        measure, Options(), Options(500, 20_000, seconds=1, runs=1, idle=100, warm_up=1), programs=(WRK,)
    )
}
