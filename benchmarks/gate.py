"""What the gate costs: tokens, quotas with a short-term limit, audit and metrics.

First one worker in which tokens and quotas are switched on and off every half second, so that the same process answers
the same requests with and without: CPU a request. Then two servers in turns, each with all its processes on one core
while wrk asks from the other: one with nothing checked and recorded, and `retinue serve` with everything on,
coordinator included. .cache/bench/gate.json has every figure.
"""

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from graphs import CACHE, Size, generated
from open_server import PARTS
from running import AMPLE_LIMITS, Failed, Server, fresh_token, running, running_server
from traffic import BODIES, Traffic, draw_bodies, drive, require_wrk

MAX_COUNTS = (20, 100)
WARM_UP_SECONDS = 6
SERVER_CORE = 0
WRK_CORE = 1

_OPEN = Path(__file__).with_name("open_server.py")
_EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    accounts: int
    follows: int
    seconds: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run of a server."""

    server: str
    requests_per_second: float
    cpu_microseconds: float


@dataclass(frozen=True, slots=True)
class Result:
    """For pages of so many rows: CPU microseconds with each part switched on, and the runs of both servers."""

    max_count: int
    parts: dict[str, float]
    runs: list[Run]


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--follows", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=int, default=6, help="length of a run")
    parser.add_argument("--rounds", type=int, default=5)
    options = Options(**vars(parser.parse_args()))
    try:
        require_wrk()
        graph = generated(Size(options.accounts, options.follows))
        results = [_measure(graph, max_count, options) for max_count in MAX_COUNTS]
    except Failed as failure:
        sys.stderr.write(f"gate: {failure}\n")
        return 1
    (CACHE / "gate.json").write_text(json.dumps([asdict(result) for result in results], indent=2) + "\n")
    _print(results)
    return 0


def _measure(graph: Path, max_count: int, options: Options) -> Result:
    store, report = graph / "graph.db", CACHE / "gate-parts.json"
    report.unlink(missing_ok=True)
    file = CACHE / f"bodies-{max_count}.jsonl"
    file.write_bytes(b"\n".join(draw_bodies(graph / "accounts.csv", graph / "follows.csv", max_count)))
    opened = [sys.executable, str(_OPEN), str(store), str(report)]
    with ExitStack() as stack:
        servers = {
            PARTS[0]: stack.enter_context(running(opened, core=SERVER_CORE)),
            _EVERYTHING: stack.enter_context(running_server(store, "--workers", "1", core=SERVER_CORE)),
        }
        traffic = Traffic(file, fresh_token(servers[_EVERYTHING], store, *AMPLE_LIMITS))
        drive(servers[PARTS[0]], traffic, 5 * options.seconds, core=WRK_CORE)
        parts = json.loads(report.read_text())
    with ExitStack() as stack:
        servers = {
            PARTS[0]: stack.enter_context(running([*opened, "still"], core=SERVER_CORE)),
            _EVERYTHING: stack.enter_context(running_server(store, "--workers", "1", core=SERVER_CORE)),
        }
        traffic = Traffic(file, fresh_token(servers[_EVERYTHING], store, *AMPLE_LIMITS))
        for server in servers.values():
            drive(server, traffic, WARM_UP_SECONDS, core=WRK_CORE, first=BODIES // 2)
        runs = [
            _run(name, server, traffic, options.seconds)
            for _ in range(options.rounds)
            for name, server in servers.items()
        ]
    return Result(max_count, parts, runs)


def _run(name: str, server: Server, traffic: Traffic, seconds: int) -> Run:
    before = server.cpu_seconds()
    outcome = drive(server, traffic, seconds, core=WRK_CORE)
    used = server.cpu_seconds() - before
    return Run(name, outcome.requests / outcome.seconds, used / outcome.requests * 1e6)


def _print(results: list[Result]) -> None:
    for result in results:
        print(f"{result.max_count} rows")
        before = None
        for part, cost in result.parts.items():
            more = (
                "" if before is None else f"  {cost - before:+.1f} us, {before / cost:.3f} of the throughput without it"
            )
            print(f"  switched on: {part:<18} {cost:6.1f} us{more}")
            before = cost
        for name in (PARTS[0], _EVERYTHING):
            own = [run for run in result.runs if run.server == name]
            speeds = [run.requests_per_second for run in own]
            cost = statistics.median(run.cpu_microseconds for run in own)
            shown = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f}-{max(speeds):,.0f}) requests/s"
            print(f"  server with {name:<12} {shown}, {cost:.1f} us")
        print(f"  everything: {_ratio(result.runs):.3f} of the throughput with nothing")


def _ratio(runs: list[Run]) -> float:
    """Requests a second with everything on, against those of the same round with nothing."""
    free, full = ([run.requests_per_second for run in runs if run.server == name] for name in (PARTS[0], _EVERYTHING))
    return statistics.median(ours / theirs for ours, theirs in zip(full, free, strict=True))


if __name__ == "__main__":
    sys.exit(main())
