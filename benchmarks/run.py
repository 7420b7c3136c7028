"""Run scenarios, one after the other, and save their figures in .cache/bench/NAME.json.

    python benchmarks/run.py                            list the scenarios
    python benchmarks/run.py NAME... [--quick]          run some; `all` stands for every one
    python benchmarks/run.py NAME --help                list a scenario's own flags

docs/benchmarks.md says what each of them measures and what it needs.
"""

import importlib
import signal
import sys
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

from debian import require
from processes import require_cores
from running import Failed
from scenario import Scenario, save

# The module and the summary of each scenario.
TABLE = {
    "comparison": ("comparison", "Speed, CPU, latency and memory beside nginx and a hand-made service"),
    "steps": ("steps", "CPU time of each step of an answer, in one process"),
    "worker": ("one_worker", "Requests and CPU time of one worker, beside a plain ASGI application"),
    "gate": ("one_worker", "CPU time of tokens, quotas, audit and metrics"),
    "workers": ("workers", "Requests with 1 to 4 workers, and beside 10,000 idle connections"),
    "admission": ("admission", "New connections at half, 1, 2 and 4 times the capacity"),
    "memory": ("footprint", "Memory of a server over a million requests"),
    "start": ("footprint", "Time until --help, an announcement and a first answer"),
    "size": ("footprint", "Bytes a follow on disk"),
    "import": ("importing", "Follows imported a second, beside COPY of PostgreSQL"),
    "billion": ("billion", "A billion follows, or as many as the disk can hold: import, start, pages"),
    "accounts": ("graph_size", "CPU time of a page in graphs of 10,000 to 10 million accounts"),
    "hub": ("graph_size", "CPU time of a page of ten million followers, beside one of a hundred"),
    "events": ("events", "Durable events a second while pages are read"),
    "withheld": ("events", "Pages across a million rows that are withheld, shown again and unfollowed"),
    "collect": ("clients", "Pages a second that `retinue collect` reads on one core"),
    "http": ("clients", "CPU time of a page in the client, by HTTP library"),
    "cluster": ("cluster", "Import, events, pages and bytes a follow on one node of Cassandra"),
}


def load(name: str) -> Scenario[Any]:
    """Import the module of a scenario and return it."""
    scenarios: dict[str, Scenario[Any]] = importlib.import_module(TABLE[name][0]).SCENARIOS
    return scenarios[name]


def run(name: str, flags: Sequence[str]) -> int:
    """Run a scenario with flags; return the exit code."""
    try:
        scenario = load(name)
    except ImportError as error:
        sys.stderr.write(f"{name}: {error.name} is not installed; run `make bench SCENARIO={name}`\n")
        return 1
    options = scenario.read_options(name, TABLE[name][1], flags)
    try:
        require_cores(*range(scenario.cores))
        require(*scenario.programs)
        report = scenario.measure(options)
    except Failed as failure:
        sys.stderr.write(f"{name}: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write(f"{name}: interrupted\n")
        return 130
    print(f"all figures are in {save(name, options, report)}")
    return 0 if report.is_met else 1


def main(arguments: Sequence[str]) -> int:
    """Run all scenarios named before the first flag."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # servers are stopped then too
    names = list(takewhile(lambda word: not word.startswith("-"), arguments))
    flags = arguments[len(names) :]
    chosen = list(TABLE) if names == ["all"] else names
    if unknown := [name for name in chosen if name not in TABLE]:
        sys.stderr.write(f"no scenario {unknown[0]!r}; there are {', '.join(TABLE)}\n")
        return 2
    if not chosen:
        print(__doc__)
        print("\n".join(f"{name:<12}{summary}" for name, (_, summary) in TABLE.items()))
        return 0
    codes = []
    for name in chosen:
        if len(chosen) > 1:
            print(f"\n{name}: {TABLE[name][1]}", flush=True)
        codes.append(run(name, flags))
    return next((code for code in codes if code), 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
