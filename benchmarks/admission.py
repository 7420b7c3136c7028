"""Latency of a server under more load than it can serve: new connections at 1, 2 and 4 times its capacity.

Every request comes on a new connection, at a fixed mean rate from processes of its own (senders.py), and latencies
count from the instant at which each was due. First the capacity is searched: the highest rate at which nearly all are
served in good time. Pages have 100 rows, and the server caches none, so that a process of Python can send more than the
server can serve; with --neighbours the server shares its cores with busy processes. Then the table: half of the
capacity, once, twice and four times of it, and half again, right after the worst; all of it alone and beside idle
connections. The targets: p99 of the served at most ten times that at half of the capacity, refusals within 100 ms, and
nothing refused a second after the overload. The first second of an overload is left out of the p99 and printed apart: a
short burst is served late rather than refused.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from idle_connections import idle_connections
from running import Failed, fresh_token, on_cores, running_server
from scenario import Report, Scenario
from senders import Plan
from workload import Size, Traffic, generated, write_bodies

FACTORS = (0.5, 1.0, 2.0, 4.0)
MAX_SLOWDOWN = 10.0
REFUSAL_MILLISECONDS = 100.0
RECOVERY_SECONDS = 1.0
FIRST_RATE = 250.0
STEP = 1.25
SERVED_SHARE = 0.99
GOOD_MILLISECONDS = 100.0
LATE_MILLISECONDS = 10.0  # of the sender; more says that the machine was too small or too busy
_SENDERS = Path(__file__).with_name("senders.py")
_LEAD_SECONDS = 0.2
_TITLES = ("rate/s", "served/s", "refused/s", "failed", "served p50", "p99", "refused p99", "max", "first s", "late")


@dataclass(frozen=True, slots=True)
class Options:
    """The rates, times and limits of a measurement."""

    seconds: float = 5.0  # of a run
    senders: int = 1  # processes
    workers: int = 1
    idle: int = 10_000  # connections; 0: without that part
    limit: int = 4096  # --max-connections
    capacity: float = 0.0  # requests a second; 0: search it
    neighbours: int = 0  # busy processes on each core of the server


@dataclass(frozen=True, slots=True)
class Row:
    """Figures of one rate, in milliseconds."""

    factor: float
    rate: float
    served: float  # a second
    refused: float
    failed: int
    reasons: dict[str, int]
    served_p50: float
    served_p99: float
    refused_p99: float
    refused_max: float
    first_second_max: float
    late_p99: float


def measure(options: Options) -> Report:
    """Search the capacity, measure alone and beside idle connections, and judge."""
    cores = tuple(sorted(os.sched_getaffinity(0)))
    serving, asking = (cores, cores) if len(cores) < 2 else (cores[: len(cores) // 2], cores[len(cores) // 2 :])
    graph = generated(Size(10_000, 2_000_000))
    store, limits = graph / "graph.db", ("--block-cache-mib", "0", "--max-connections", str(options.limit))
    flags = ("--workers", str(options.workers), *limits)
    tables: dict[str, list[Row]] = {}
    with _neighbours(serving, options.neighbours), running_server(store, *flags, core=serving) as server:
        traffic = Traffic(write_bodies(graph, 100), fresh_token(server, store))
        plan = Plan(server.list_url("following"), str(traffic.bodies), traffic.token, 0, 0, 0, 1)
        capacity = options.capacity or _capacity(plan, options, asking)
        print(f"capacity: {capacity:,.0f} requests a second, each on a new connection; {options.workers} workers")
        tables["alone"] = _measure(plan, capacity, options, asking)
        if options.idle:
            with idle_connections(server, traffic, options.idle, asking) as holder:
                print(f"idle connections: {holder.opened}", flush=True)
                tables[f"beside {options.idle:,} idle connections"] = _measure(plan, capacity, options, asking)
    missed = [line for title, rows in tables.items() for line in _report(title, rows)]
    print("\n".join(missed) if missed else "every target is met")
    figures = {"tables": {title: [asdict(row) for row in rows] for title, rows in tables.items()}}
    return Report(figures, is_met=not missed)


# --- measuring ------------------------------------------------------------------------------------------------------


def _capacity(plan: Plan, options: Options, cores: tuple[int, ...]) -> float:
    """Return the highest rate that is served well."""
    _run(replace(plan, rate=FIRST_RATE, seconds=2), options, cores)  # warms the server
    best, rate = 0.0, FIRST_RATE
    while True:
        row = _row(0, _run(replace(plan, rate=rate, seconds=2), options, cores), 2)
        if row.served < SERVED_SHARE * row.rate or row.served_p99 > GOOD_MILLISECONDS:
            break
        best, rate = rate, rate * STEP
    if not best:
        raise Failed(f"even {FIRST_RATE:.0f} requests a second are too many here")
    return best


def _measure(plan: Plan, capacity: float, options: Options, cores: tuple[int, ...]) -> list[Row]:
    rows = []
    for factor in (*FACTORS, FACTORS[0]):
        wanted = replace(plan, rate=capacity * factor, seconds=options.seconds)
        rows.append(_row(factor, _run(wanted, options, cores), options.seconds))
    return rows


def _run(plan: Plan, options: Options, cores: tuple[int, ...]) -> list[dict[str, Any]]:
    """Start all senders at one instant, with equal shares."""
    share = plan.rate / options.senders
    command = on_cores(cores, [sys.executable, str(_SENDERS), "arrivals"])
    senders = []
    try:
        for number in range(options.senders):
            sender = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            senders.append(sender)
            _send(sender, json.dumps(asdict(replace(plan, rate=share, seed=plan.seed + number))))
        for sender in senders:
            _line(sender)
        begin = time.monotonic_ns() + int(_LEAD_SECONDS * 1e9)
        for sender in senders:
            _send(sender, str(begin))
        return [json.loads(_line(sender)) for sender in senders]
    finally:
        for sender in senders:
            sender.kill()
            sender.communicate()


def _send(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(line + "\n")
    process.stdin.flush()


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise Failed("a process of this benchmark ended without output")
    return line


def _row(factor: float, outcomes: Sequence[dict[str, Any]], seconds: float) -> Row:
    served = np.array([pair for each in outcomes for pair in each["served"]]).reshape(-1, 2)
    refused = np.array([pair for each in outcomes for pair in each["refused"]]).reshape(-1, 2)
    reasons: Counter[str] = Counter()
    for each in outcomes:
        reasons.update(each["failed"])
    later_served, later_refused = (each[each[:, 0] >= RECOVERY_SECONDS][:, 1] for each in (served, refused))
    first = [*served[served[:, 0] < RECOVERY_SECONDS][:, 1], *refused[refused[:, 0] < RECOVERY_SECONDS][:, 1]]
    return Row(
        factor,
        sum(each["due"] for each in outcomes) / seconds,
        len(served) / seconds,
        len(refused) / seconds,
        reasons.total(),
        dict(reasons),
        _percentile(later_served, 50),
        _percentile(later_served, 99),
        _percentile(later_refused, 99),
        _percentile(later_refused, 100),
        max(first, default=0.0),
        _percentile(np.array([late for each in outcomes for late in each["late"]]), 99),
    )


def _percentile(values: Any, percent: float) -> float:
    return float(np.percentile(values, percent)) if len(values) else 0.0


@contextmanager
def _neighbours(cores: tuple[int, ...], count: int) -> Iterator[None]:
    """Keep each core busy with `count` processes."""
    command = [sys.executable, "-c", "while True: pass"]
    processes = [subprocess.Popen(on_cores((core,), command)) for core in cores for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


# --- reporting ------------------------------------------------------------------------------------------------------


def _report(title: str, rows: Sequence[Row]) -> list[str]:
    """Print one table; return a line for each target that was missed."""
    print(f"\n{title}, milliseconds\n{'load':>6}" + "".join(f"{each:>13}" for each in _TITLES))
    for row in rows:
        figures = (row.rate, row.served, row.refused, row.failed)
        times = (row.served_p50, row.served_p99, row.refused_p99, row.refused_max, row.first_second_max, row.late_p99)
        cells = [f"{each:>13,.0f}" for each in figures] + [f"{each:>13,.1f}" for each in times]
        print(f"{row.factor:>6}" + "".join(cells))
        if row.reasons:
            print(f"       failed: {row.reasons}")
    missed = [(row.factor, each) for row in rows for each in _missed(row, rows)]
    return [f"MISSED, {title}, at {factor} times the capacity: {each}" for factor, each in missed]


def _missed(row: Row, rows: Sequence[Row]) -> list[str]:
    half, recovered = rows[0], row is rows[-1]
    bounds = [
        (row.failed > 0, f"{row.failed} arrivals got no answer"),
        (row.served_p99 > MAX_SLOWDOWN * half.served_p99, f"p99 {row.served_p99:.1f} ms of the served"),
        (row.refused_p99 > REFUSAL_MILLISECONDS, f"p99 {row.refused_p99:.1f} ms of the refused"),
        (recovered and row.served < SERVED_SHARE * row.rate, f"{row.refused:.0f}/s refused after the overload"),
        (row.late_p99 > LATE_MILLISECONDS, f"the senders were {row.late_p99:.1f} ms late: too small or busy a machine"),
    ]
    return [text for is_missed, text in bounds if is_missed]


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "admission": Scenario(measure, Options(), Options(seconds=1.0, idle=100, capacity=50.0), cores=1)
}
