"""Retinue beside nginx and a hand-made service, in one run: speed, CPU time, latency, memory.

Each server has all its processes on one core, the client has the other. All three run all the time and are asked in
turns, round after round: by wrk as fast as they answer (requests a second, CPU time, memory), then by a paced sender at
half of that (latency). Targets are judged by the medians of ratios that are taken within each round, since whatever
else the machine does hits all servers of a round.
"""

import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import contestants
import figures
from contestants import HANDMADE, LIMIT, OURS, Bodies, Contestant, Place
from debian import NGINX, POSTGRES, WRK
from figures import MIB, Spread, spread
from processes import proportional_bytes
from scenario import CLIENT_CORE, SERVER_CORE, Report, Scenario
from senders import Plan
from workload import BODIES, CONNECTIONS, Size, draw_bodies, drive, generated, pace

MAX_COUNTS = (20, 100)
QUIET_CORE_PERCENT = 90  # of its core, used by a server if nothing else runs there


@dataclass(frozen=True, slots=True)
class Options:
    """The graph, and the length and number of runs."""

    accounts: int = 100_000
    follows: int = 50_000_000
    seconds: int = 10  # a run of wrk, and one of the paced sender
    warm_up: int = 10
    rounds: int = 5


@dataclass(frozen=True, slots=True)
class Run:
    """A server's part of a round: as fast as it answers, then at half of that."""

    server: str
    max_count: int
    requests_per_second: float
    cpu_microseconds: float  # a request, of all the server's processes
    core_percent: float  # far below 100: it waited for the client, or shared its core
    memory_mebibytes: float
    half_rate: float
    p50_milliseconds: float
    p99_milliseconds: float
    late_milliseconds: float  # of the sender at half load, 99 in 100 are less
    kept_schedule: bool


def measure(options: Options) -> Report:
    """Load all servers, ask them in turns, and report."""
    graph = generated(Size(options.accounts, options.follows), "parquet")
    with tempfile.TemporaryDirectory(prefix="retinue-bench-") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL and nginx run as other users
        runs = _ask_all(Place(Path(folder), graph, SERVER_CORE), options)
    verdicts = [judge(runs, target) for target in TARGETS]
    print(f"{options.accounts:,} accounts, {options.follows:,} follows; medians of {options.rounds} (lowest-highest)")
    print("\n".join([*table(runs), *disturbed_lines(runs), *late_lines(runs), *verdict_lines(verdicts)]))
    return Report(
        {
            "connections": CONNECTIONS,
            "memory": "PSS of all processes of a server",
            "verdicts": [asdict(verdict) for verdict in verdicts],
            "runs": [asdict(run) for run in runs],
        }
    )


def _ask_all(place: Place, options: Options) -> list[Run]:
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
        for each in servers:
            drive(each.server, each.traffic[max_count], options.warm_up, core=CLIENT_CORE, first=BODIES // 2)
        for number in range(options.rounds):
            _say(f"{max_count} rows, round {number + 1} of {options.rounds}")
            for each in servers:
                before = of_server(runs, each.name, max_count)
                runs.append(_run(each, max_count, [run.requests_per_second for run in before], options))
    return runs


def _run(contestant: Contestant, max_count: int, speeds: list[float], options: Options) -> Run:
    """Run one server's part of a round. Half load is half of the median of its speeds."""
    traffic, first = contestant.traffic[max_count], len(speeds) * BODIES // options.rounds
    load = drive(contestant.server, traffic, options.seconds, core=CLIENT_CORE, first=first, roots=contestant.roots)
    memory = proportional_bytes(*contestant.roots)
    rate = statistics.median([*speeds, load.requests_per_second]) / 2
    url, bodies = contestant.server.list_url("following"), str(traffic.bodies)
    plan = Plan(url, bodies, traffic.token, rate, options.seconds, CONNECTIONS, seed=len(speeds), first=first)
    sent = pace(plan, core=CLIENT_CORE)
    return Run(
        server=contestant.name,
        max_count=max_count,
        requests_per_second=load.requests_per_second,
        cpu_microseconds=load.cpu_microseconds,
        core_percent=load.core_percent,
        memory_mebibytes=memory / MIB,
        half_rate=rate,
        p50_milliseconds=sent.p50_milliseconds,
        p99_milliseconds=sent.p99_milliseconds,
        late_milliseconds=sent.late_p99_milliseconds,
        kept_schedule=sent.kept_schedule,
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


# --- targets and tables ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Target:
    """A bound of the ratio of two servers' figures."""

    title: str
    max_count: int
    figure: str
    over: str
    bound: float
    is_most: bool

    def is_met(self, ratio: Spread) -> bool:
        """Return whether the median is on the right side."""
        return ratio.median <= self.bound if self.is_most else ratio.median >= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """The ratio that a target is about, and whether it is met."""

    target: Target
    ratio: Spread
    is_met: bool

    @property
    def is_clear(self) -> bool:
        """Return whether every round agrees."""
        ends = (Spread(end, end, end) for end in (self.ratio.low, self.ratio.high))
        return all(self.target.is_met(end) == self.is_met for end in ends)


_CPU = "cpu_microseconds"
_SPEED = "requests_per_second"
TARGETS = (
    Target(f"CPU of {OURS} / CPU of {LIMIT}", 20, _CPU, LIMIT, 2, is_most=True),
    Target(f"CPU of {OURS} / CPU of {LIMIT}", 100, _CPU, LIMIT, 3, is_most=True),
    Target(f"requests/s of {OURS} / {HANDMADE}", 20, _SPEED, HANDMADE, 25, is_most=False),
    Target(f"requests/s of {OURS} / {HANDMADE}", 100, _SPEED, HANDMADE, 25, is_most=False),
)
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("requests/s", _SPEED, ",.0f"),
    ("CPU us/request", _CPU, ".1f"),
    ("p50 ms at half", "p50_milliseconds", ".2f"),
    ("p99 ms at half", "p99_milliseconds", ".2f"),
    ("PSS MiB", "memory_mebibytes", ",.0f"),
    ("core %", "core_percent", ".0f"),
)


def of_server(runs: Iterable[Run], server: str, max_count: int) -> list[Run]:
    """Return a server's runs at one page size, in order."""
    return [run for run in runs if (run.server, run.max_count) == (server, max_count)]


def judge(runs: Sequence[Run], target: Target) -> Verdict:
    """Judge the median of the ratios of each round."""
    ours, theirs = (
        [getattr(run, target.figure) for run in of_server(runs, server, target.max_count)]
        for server in (OURS, target.over)
    )
    ratio = spread(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Verdict(target, ratio, target.is_met(ratio))


def table(runs: Sequence[Run]) -> list[str]:
    """Return a line for each page size and server."""
    servers = list(dict.fromkeys(run.server for run in runs))
    rows = [("rows", "", *(title for title, *_ in COLUMNS))]
    for max_count in sorted({run.max_count for run in runs}):
        for server in servers:
            own = of_server(runs, server, max_count)
            cells = (format(spread(getattr(run, name) for run in own), form) for _, name, form in COLUMNS)
            rows.append((str(max_count), server, *cells))
    return figures.table(rows)


def verdict_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """Return a sentence for each target."""
    return [
        f"{verdict.target.title} at {verdict.target.max_count} rows: {verdict.ratio:.2f};"
        f" target {'at most' if verdict.target.is_most else 'at least'} {verdict.target.bound:g}:"
        f" {'met' if verdict.is_met else 'MISSED'}{'' if verdict.is_clear else ', though not in every round'}"
        for verdict in verdicts
    ]


def disturbed_lines(runs: Iterable[Run]) -> list[str]:
    """Return a sentence for each server that shared its core."""
    counts = Counter((run.server, run.max_count) for run in runs if run.core_percent < QUIET_CORE_PERCENT)
    return [
        f"NOT A QUIET MACHINE: {server}, {max_count} rows, had less than {QUIET_CORE_PERCENT} % of its core"
        f" in {count} rounds"
        for (server, max_count), count in counts.items()
    ]


def late_lines(runs: Iterable[Run]) -> list[str]:
    """Return a sentence for each server whose sender was late."""
    counts = Counter((run.server, run.max_count) for run in runs if not run.kept_schedule)
    return [
        f"at half load of {server}, {max_count} rows, the sender could not keep its schedule in {count} rounds"
        for (server, max_count), count in counts.items()
    ]


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "comparison": Scenario(
        measure, Options(), Options(20_000, 1_000_000, seconds=1, warm_up=2), programs=(WRK, NGINX, POSTGRES)
    )
}
