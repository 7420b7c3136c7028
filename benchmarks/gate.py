"""What the gate costs: pages from a server with everything on, and from one with tokens, quotas and audit left out.

All take turns in one run, each with all its processes on one core while wrk asks from the other, so that their ratios
count, not their numbers. With everything on there are a token, daily quotas, a short-term limit, an audit record and
metrics for each page. .cache/bench/gate.json has every run.
"""

import argparse
import json
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from graphs import CACHE, Size, generated
from running import Client, Failed, Server, Session, retinue, running, running_server
from traffic import BODIES, Traffic, draw_bodies, drive, require_wrk

MAX_COUNTS = (20, 100)
WARM_UP_SECONDS = 6
SERVER_CORE = 0
WRK_CORE = 1
QUOTA = ("--list-calls", "1000000000", "--list-rows", "100000000000", "--rate", "1000000/60")

_OPEN = Path(__file__).with_name("open_server.py")
_VARIANTS = {"nothing": [], "tokens": ["tokens"], "tokens and quotas": ["tokens", "quotas"]}
_EVERYTHING = "everything"


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run."""

    variant: str
    max_count: int
    requests_per_second: float
    cpu_microseconds: float


def main() -> int:
    """Measure and print; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--follows", type=int, default=2_000_000)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    try:
        require_wrk()
        graph = generated(Size(options.accounts, options.follows))
        runs = _measure(graph, options.seconds, options.rounds)
    except Failed as failure:
        sys.stderr.write(f"gate: {failure}\n")
        return 1
    (CACHE / "gate.json").write_text(json.dumps([asdict(run) for run in runs], indent=2) + "\n")
    _print(runs)
    return 0


def _measure(graph: Path, seconds: int, rounds: int) -> list[Run]:
    store = graph / "graph.db"
    runs = []
    with ExitStack() as stack:
        servers = {
            name: stack.enter_context(running([sys.executable, str(_OPEN), str(store), *parts], core=SERVER_CORE))
            for name, parts in _VARIANTS.items()
        }
        servers[_EVERYTHING] = stack.enter_context(running_server(store, "--workers", "1", core=SERVER_CORE))
        token = _token(servers[_EVERYTHING], store)
        for max_count in MAX_COUNTS:
            file = CACHE / f"bodies-{max_count}.jsonl"
            file.write_bytes(b"\n".join(draw_bodies(graph / "accounts.csv", graph / "follows.csv", max_count)))
            traffic = Traffic(file, token)
            for server in servers.values():
                drive(server, traffic, WARM_UP_SECONDS, core=WRK_CORE, first=BODIES // 2)
            for _ in range(rounds):
                runs += [_run(name, server, traffic, max_count, seconds) for name, server in servers.items()]
    return runs


def _token(server: Server, store: Path) -> str:
    created = json.loads(retinue("client", "create", "--store", store, "--name", "gate", *QUOTA, "--json"))
    with Session(server.base_url) as session:
        return session.token(Client(created["client_key"], created["client_secret"]))


def _run(name: str, server: Server, traffic: Traffic, max_count: int, seconds: int) -> Run:
    before = server.cpu_seconds()
    outcome = drive(server, traffic, seconds, core=WRK_CORE)
    used = server.cpu_seconds() - before
    return Run(name, max_count, outcome.requests / outcome.seconds, used / outcome.requests * 1e6)


def _print(runs: list[Run]) -> None:
    print(f"{'rows':>5} {'on':<18} {'requests/s (lowest-highest)':>32} {'CPU us':>8} {'of nothing':>11}")
    for max_count in MAX_COUNTS:
        for name in (*_VARIANTS, _EVERYTHING):
            own = [run for run in runs if (run.variant, run.max_count) == (name, max_count)]
            speeds = [run.requests_per_second for run in own]
            cost = statistics.median(run.cpu_microseconds for run in own)
            ratio = statistics.median(_ratios(runs, name, max_count))
            shown = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f}-{max(speeds):,.0f})"
            print(f"{max_count:>5} {name:<18} {shown:>32} {cost:>8.1f} {ratio:>11.3f}")


def _ratios(runs: list[Run], name: str, max_count: int) -> list[float]:
    """Requests a second against those of the same round with nothing on."""
    by_variant = {
        variant: [run.requests_per_second for run in runs if (run.variant, run.max_count) == (variant, max_count)]
        for variant in ("nothing", name)
    }
    return [ours / free for ours, free in zip(by_variant[name], by_variant["nothing"], strict=True)]


if __name__ == "__main__":
    sys.exit(main())
