"""One worker on one core: requests a second and CPU time of a request, and what its gate costs.

`worker` serves a generated graph with authentication on while wrk asks from another core; in turns with uvicorn and the
plainest application, which answers every request with one fixed page (*the limit*).

`gate` first asks one worker in which tokens and quotas are switched on and off every half second, then two servers in
turns: one with nothing checked and recorded, and `retinue serve` with everything on, the coordinator included.
"""

import json
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from debian import WRK
from figures import MIB, spread
from running import AMPLE_LIMITS, Server, Session, fresh_token, running, running_server
from scenario import CACHE, CLIENT_CORE, SERVER_CORE, Report, Scenario
from special_servers import PARTS
from workload import BODIES, Load, Size, Traffic, drive, generated, write_bodies

MAX_COUNTS = (20, 100)
PROBES = 200

_SERVERS = str(Path(__file__).with_name("special_servers.py"))
_WIDTH = 24
_EVERYTHING = "everything"

# --- worker ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """The size of the graph, and the length and number of runs."""

    accounts: int = 100_000
    follows: int = 5_000_000
    seconds: int = 10
    runs: int = 3
    warm_up: int = 8  # seconds; a new server reads every name for the first time


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    load: Load
    worker_mebibytes: float


@dataclass(frozen=True, slots=True)
class Result:
    """All runs at one page size, with those of the limit."""

    max_count: int
    mean_rows: float
    runs: tuple[Run, ...]
    limit: tuple[Run, ...]


_COLUMNS: tuple[tuple[str, str, Callable[[Run], float]], ...] = (
    ("requests/s", ",.0f", lambda run: run.load.requests_per_second),
    ("CPU us/request", ".1f", lambda run: run.load.cpu_microseconds),
    ("p50 ms", ".2f", lambda run: run.load.p50_milliseconds),
    ("p99 ms", ".2f", lambda run: run.load.p99_milliseconds),
    ("worker MiB", ".1f", lambda run: run.worker_mebibytes),
    ("core %", ".0f", lambda run: run.load.core_percent),
)


def measure_worker(options: WorkerOptions) -> Report:
    """Measure both sizes of pages, in turns with the limit, and report."""
    graph = generated(Size(options.accounts, options.follows))
    results = [_measure_pages(graph, max_count, options) for max_count in MAX_COUNTS]
    print("median (lowest-highest)")
    print(f"{'rows':>5}{'mean rows':>11}" + "".join(f"{title:>{_WIDTH}}" for title, *_ in _COLUMNS))
    for result in results:
        _print_row(f"{result.max_count:>5}{result.mean_rows:>11.2f}", result.runs)
        _print_row(f"{'limit':>16}", result.limit)
        ours, limit = (
            statistics.median(run.load.cpu_microseconds for run in runs) for runs in (result.runs, result.limit)
        )
        print(f"{'ratio':>16}{ours / limit:>{2 * _WIDTH}.2f}")
    return Report({"results": [asdict(result) for result in results]})


def _measure_pages(graph: Path, max_count: int, options: WorkerOptions) -> Result:
    store, bodies = graph / "graph.db", write_bodies(graph, max_count)
    probes = bodies.read_bytes().splitlines()[:PROBES]
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        traffic = Traffic(bodies, fresh_token(server, store))
        page = graph / f"page-{max_count}.json"
        page.write_text(json.dumps(_pages(server, traffic.token, probes[:1])[0], ensure_ascii=False))
        with running([sys.executable, _SERVERS, "page", str(page)], core=SERVER_CORE) as limit:
            pairs = [tuple(_run(each, traffic, options) for each in (server, limit)) for _ in range(options.runs)]
        rows = [len(page["user_following"]) for page in _pages(server, traffic.token, probes)]
    runs, limits = zip(*pairs, strict=True)
    return Result(max_count, statistics.fmean(rows), runs, limits)


def _run(server: Server, traffic: Traffic, options: WorkerOptions) -> Run:
    drive(server, traffic, options.warm_up, core=CLIENT_CORE, first=BODIES // 2)
    load = drive(server, traffic, options.seconds, core=CLIENT_CORE)
    return Run(load, server.worker_memory() / MIB)


def _pages(server: Server, token: str, bodies: Sequence[bytes]) -> list[dict[str, Any]]:
    with Session(server.base_url, token) as session:
        return [session.following(json.loads(body)) for body in bodies]


def _print_row(head: str, runs: Sequence[Run]) -> None:
    cells = (format(spread(value(run) for run in runs), form) for _, form, value in _COLUMNS)
    print(head + "".join(f"{cell:>{_WIDTH}}" for cell in cells))


# --- gate -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class GateOptions:
    """The size of the graph, and the length and number of runs."""

    accounts: int = 100_000
    follows: int = 2_000_000
    seconds: int = 6
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class GateResult:
    """The cost of each part, and the runs of both servers."""

    max_count: int
    parts: dict[str, float]
    runs: dict[str, list[Load]]


def measure_gate(options: GateOptions) -> Report:
    """Measure both sizes of pages, and report."""
    graph = generated(Size(options.accounts, options.follows))
    results = [_measure_gate(graph, max_count, options) for max_count in MAX_COUNTS]
    for result in results:
        _print_gate(result)
    return Report({"results": [asdict(result) for result in results]})


def _measure_gate(graph: Path, max_count: int, options: GateOptions) -> GateResult:
    report = CACHE / "gate-parts.json"
    report.unlink(missing_ok=True)
    store, bodies = graph / "graph.db", write_bodies(graph, max_count)
    with _servers("gate", store, report) as (servers, token):
        drive(servers[PARTS[0]], Traffic(bodies, token), 5 * options.seconds, core=CLIENT_CORE)
        parts = json.loads(report.read_text())
    with _servers("open", store, report) as (servers, token):
        traffic = Traffic(bodies, token)
        for server in servers.values():
            drive(server, traffic, options.seconds, core=CLIENT_CORE, first=BODIES // 2)
        runs: dict[str, list[Load]] = {name: [] for name in servers}
        for _ in range(options.rounds):
            for name, server in servers.items():
                runs[name].append(drive(server, traffic, options.seconds, core=CLIENT_CORE))
    return GateResult(max_count, parts, runs)


@contextmanager
def _servers(kind: str, store: Path, report: Path) -> Iterator[tuple[dict[str, Server], str]]:
    """Run an open and a full server on one core."""
    command = [sys.executable, _SERVERS, kind, str(store), str(report)]
    with (
        running(command, core=SERVER_CORE) as nothing,
        running_server(store, "--workers", "1", core=SERVER_CORE) as everything,
    ):
        yield {PARTS[0]: nothing, _EVERYTHING: everything}, fresh_token(everything, store, *AMPLE_LIMITS)


def _print_gate(result: GateResult) -> None:
    print(f"{result.max_count} rows")
    before = None
    for part, cost in result.parts.items():
        more = "" if before is None else f"  {cost - before:+.1f} us, {before / cost:.3f} of the throughput without it"
        print(f"  switched on: {part:<18} {cost:6.1f} us{more}")
        before = cost
    for name, runs in result.runs.items():
        cost = statistics.median(run.cpu_microseconds for run in runs)
        speed = spread(run.requests_per_second for run in runs)
        print(f"  server with {name:<12} {speed:,.0f} requests/s, {cost:.1f} us")
    pairs = zip(result.runs[_EVERYTHING], result.runs[PARTS[0]], strict=True)
    ratio = statistics.median(ours.requests_per_second / theirs.requests_per_second for ours, theirs in pairs)
    print(f"  everything: {ratio:.3f} of the throughput with nothing")


SCENARIOS: Mapping[str, Scenario[Any]] = {
    "worker": Scenario(
        measure_worker, WorkerOptions(), WorkerOptions(500, 20_000, seconds=1, runs=1, warm_up=1), programs=(WRK,)
    ),
    "gate": Scenario(measure_gate, GateOptions(), GateOptions(500, 20_000, seconds=2, rounds=1), programs=(WRK,)),
}
