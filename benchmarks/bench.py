"""Retinue beside nginx and beside a hand-made service, on one machine in one run: speed, cost, latency, memory.

Each server has all its processes on one core, who asks has the other. All three run all the time and are asked in
turns, round after round: first by wrk as fast as they answer (requests a second, CPU a request, memory), then by
`open_loop.py` at half of that (latency from the instant at which each request was due). Requests are drawn heavy-tailed
over accounts and uniformly over depth. Printed are medians (lowest-highest), the ratios, and for each target whether it
is met; .cache/bench/bench.json has every run.
"""

import argparse
import json
import os
import platform
import re
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import contestants
import figures
from contestants import Bodies, Contestant, Place
from debian import NGINX, POSTGRES, WRK, require
from figures import Run, Verdict
from graphs import CACHE, Size, generated
from open_loop import Plan
from process_tree import cpu_seconds, require_cores, shared_out_bytes
from running import Failed
from traffic import BODIES, CONNECTIONS, draw_bodies, drive, pace

MAX_COUNTS = (20, 100)
SERVER_CORE = 0
ASKING_CORE = 1

_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    accounts: int
    follows: int
    seconds: int  # a run of wrk, and one of the open-loop sender
    warm_up: int
    rounds: int


FULL = Options(accounts=100_000, follows=50_000_000, seconds=10, warm_up=10, rounds=5)
QUICK = Options(accounts=20_000, follows=1_000_000, seconds=1, warm_up=2, rounds=5)


def main() -> int:
    """Prepare, measure, report; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all servers are stopped then too
    options = _options()
    try:
        require_cores(SERVER_CORE, ASKING_CORE)
        require(WRK, NGINX, POSTGRES)
        graph = generated(Size(options.accounts, options.follows), "parquet")
        with tempfile.TemporaryDirectory(prefix="retinue-bench-") as folder:
            Path(folder).chmod(0o755)  # PostgreSQL and nginx are somebody else
            runs = _measure(Place(Path(folder), graph, SERVER_CORE), options)
    except Failed as failure:
        sys.stderr.write(f"bench: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bench: stopped\n")
        return 130
    _report(options, runs)
    return 0


def _options() -> Options:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small graph and short runs, to see that all works")
    for name in ("accounts", "follows", "seconds", "rounds"):
        parser.add_argument(f"--{name}", type=int)
    given = vars(parser.parse_args())
    basis = QUICK if given.pop("quick") else FULL
    return Options(**{**asdict(basis), **{name: value for name, value in given.items() if value is not None}})


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(place: Place, options: Options) -> list[Run]:
    files = place.graph / "accounts.parquet", place.graph / "follows.parquet"
    bodies: Bodies = {max_count: draw_bodies(*files, max_count) for max_count in MAX_COUNTS}
    start = time.perf_counter()
    client = contestants.load_handmade(place)
    _say(f"loaded PostgreSQL in {time.perf_counter() - start:.0f} s")
    with ExitStack() as stack:
        ours = stack.enter_context(contestants.retinue_contestant(place, bodies))
        handmade = stack.enter_context(contestants.handmade_contestant(place, bodies, client))
        limit = stack.enter_context(contestants.nginx_contestant(place, ours, bodies))
        count = contestants.require_same_answers(ours, handmade, bodies)
        _say(f"{ours.name} and {handmade.name} gave the same {count} answers")
        return _rounds([limit, handmade, ours], options)


def _rounds(servers: Sequence[Contestant], options: Options) -> list[Run]:
    runs: list[Run] = []
    for max_count in MAX_COUNTS:
        for server in servers:
            drive(server.server, server.traffic[max_count], options.warm_up, core=ASKING_CORE, first=BODIES // 2)
        for number in range(options.rounds):
            _say(f"{max_count} rows, round {number + 1} of {options.rounds}")
            for server in servers:
                before = figures.of_server(runs, server.name, max_count)
                runs.append(_run(server, max_count, [run.requests_per_second for run in before], options))
    return runs


def _run(contestant: Contestant, max_count: int, speeds: list[float], options: Options) -> Run:
    """One server's part of a round. Half load is half of the median of its speeds up to now."""
    traffic, first = contestant.traffic[max_count], len(speeds) * BODIES // options.rounds
    before = cpu_seconds(*contestant.roots)
    outcome = drive(contestant.server, traffic, options.seconds, core=ASKING_CORE, first=first)
    used = cpu_seconds(*contestant.roots) - before
    memory = shared_out_bytes(*contestant.roots)
    speed = outcome.requests / outcome.seconds
    rate = statistics.median([*speeds, speed]) / 2
    url = contestant.server.list_url("following")
    plan = Plan(
        url, str(traffic.bodies), traffic.token, rate, options.seconds, CONNECTIONS, seed=len(speeds), first=first
    )
    seen = pace(plan, core=ASKING_CORE)
    return Run(
        server=contestant.name,
        max_count=max_count,
        requests_per_second=speed,
        cpu_microseconds=used / outcome.requests * 1e6,
        core_percent=100 * used / outcome.seconds,
        memory_mebibytes=memory / _MIB,
        half_rate=rate,
        p50_milliseconds=seen.p50_milliseconds,
        p99_milliseconds=seen.p99_milliseconds,
        late_milliseconds=seen.late_p99_milliseconds,
        kept_schedule=seen.kept_schedule,
    )


# --- reporting ------------------------------------------------------------------------------------------------------


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _report(options: Options, runs: list[Run]) -> None:
    verdicts = [figures.judge(runs, target) for target in figures.TARGETS]
    print(f"{options.accounts:,} accounts, {options.follows:,} follows; medians of {options.rounds} (lowest-highest)")
    print("\n".join(figures.table(runs)))
    print("\n".join([*figures.disturbed_lines(runs), *figures.late_lines(runs), *figures.verdict_lines(verdicts)]))
    print(f"every run is in {_save(options, runs, verdicts)}")


def _save(options: Options, runs: list[Run], verdicts: list[Verdict]) -> Path:
    report = {
        "options": {**asdict(options), "connections": CONNECTIONS},
        "machine": machine(),
        "memory": "PSS of all processes of a server",
        "verdicts": [asdict(verdict) for verdict in verdicts],
        "runs": [asdict(run) for run in runs],
    }
    path = CACHE / "bench.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


def machine() -> dict[str, str | int | None]:
    """What all of it ran on."""
    model = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


if __name__ == "__main__":
    sys.exit(main())
