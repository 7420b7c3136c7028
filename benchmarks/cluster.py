"""A store on one node of Apache Cassandra: import, events, pages, and bytes a follow on its disk.

The node has one core, Retinue and its client the other. The node syncs its log every ten seconds, as nodes usually do,
and its tables are compacted before its files are measured. With `--data FOLDER` every list of a real network is served
from it and walked as well (tests/long/walk.py).
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import walk
from debian import WRK
from events import drawn_events
from figures import Spread, spread
from processes import cpu_seconds, folder_bytes
from running import Failed, Server, command_of, fresh_token, on_cores, retinue, running_server
from scenario import Report, Scenario
from support.cassandra_jars import missing
from support.cassandra_node import SYNC_AS_USUAL, Node, Setting, free_port, running
from workload import BODIES, Size, Traffic, drive, generate, write_bodies

NODE_CORE, OTHER_CORE = 0, 1
MAX_COUNTS = (20, 100)
SETTING = Setting(heap_mib=4096, sync=SYNC_AS_USUAL, core=NODE_CORE)
# The tables of follows: lists, and the parts of long ones.
OF_FOLLOWS = ("following", "followers", "part")


@dataclass(frozen=True, slots=True)
class Options:
    """The graph, the events, and the length and number of runs."""

    accounts: int = 10_000
    follows: int = 200_000
    events: int = 20_000
    seconds: int = 10  # a run of wrk
    warm_up: int = 20
    rounds: int = 5
    data: str = ""  # folder of a real network to walk


@dataclass(frozen=True, slots=True)
class Written:
    """The time to write rows, and the CPU seconds of both sides."""

    what: str
    rows: int
    seconds: float
    retinue_cpu: float
    node_cpu: float


@dataclass(frozen=True, slots=True)
class Read:
    """One run of pages."""

    max_count: int
    pages_per_second: float
    retinue_microseconds: float  # of CPU a page, all its processes
    node_microseconds: float
    p50_milliseconds: float
    p99_milliseconds: float


def measure(options: Options) -> Report:
    """Start a node, measure, and walk a real network if wanted."""
    if reason := missing():
        raise Failed(reason)
    data = Path(options.data).absolute()
    with (
        running(1, free_port(), SETTING) as (node,),
        tempfile.TemporaryDirectory(prefix="retinue-cluster-") as folder,
        chdir(folder),  # the store's files on this machine
    ):
        report = _measure(node, Path(folder), options)
        if not options.data:
            return report
        differences = walk.walk_network(data, walk.MAX_COUNTS, _store(node, "walked"))
        return replace(report, is_met=not differences)


def _store(node: Node, keyspace: str) -> str:
    """Make a store in a new keyspace."""
    store = f"cassandra://{node.address}:{node.port}/{keyspace}"
    retinue("store", "init", "--store", store, "--replication", "1")
    return store


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(node: Node, folder: Path, options: Options) -> Report:
    store = _store(node, "measured")
    generate(Size(options.accounts, options.follows), folder)
    accounts, follows = folder / "accounts.csv", folder / "follows.csv"
    events = b"".join(drawn_events(folder, options.events))
    written = [
        _written(node, "accounts", options.accounts, "import", "--store", store, "--accounts", accounts),
        _written(node, "follows", options.follows, "import", "--store", store, follows),
        _written(node, "follows once more", options.follows, "import", "--store", store, follows),
    ]
    node.tool("flush")
    node.tool("compact", "measured")
    sizes = _bytes_of_tables(node, "measured")
    reads = _read(node, store, folder, options)
    written.append(_written(node, "events", options.events, "apply", "--store", store, sent=events))
    _print(options, written, reads, sizes)
    figures = {"written": [asdict(each) for each in written], "read": [asdict(each) for each in reads]}
    return Report({"bytes": sizes, **figures})


def _written(node: Node, what: str, rows: int, *command: str | Path, sent: bytes = b"") -> Written:
    assert node.process is not None
    before, began = cpu_seconds(node.process.pid), time.perf_counter()
    times = os.times()
    done = subprocess.run(on_cores(OTHER_CORE, command_of(*command)), input=sent, capture_output=True, check=False)
    seconds, after = time.perf_counter() - began, os.times()
    if done.returncode:
        raise Failed(f"{command[0]} ended with exit code {done.returncode}\n{done.stderr.decode()}")
    used = after.children_user + after.children_system - times.children_user - times.children_system
    return Written(what, rows, seconds, used, cpu_seconds(node.process.pid) - before)


def _read(node: Node, store: str, folder: Path, options: Options) -> list[Read]:
    """Read pages as fast as wrk can."""
    reads: list[Read] = []
    with running_server(store, "--workers", "1", core=OTHER_CORE) as server:
        token = fresh_token(server, store)
        for max_count in MAX_COUNTS:
            traffic = Traffic(write_bodies(folder, max_count), token)
            drive(server, traffic, options.warm_up, core=OTHER_CORE, first=BODIES // 2)
            turns = ((number, options) for number in range(options.rounds))
            reads += [_one_read(node, server, traffic, max_count, turn) for turn in turns]
    return reads


def _one_read(node: Node, server: Server, traffic: Traffic, max_count: int, turn: tuple[int, Options]) -> Read:
    assert node.process is not None
    number, options = turn
    roots = node.process.pid, server.pid
    before = [cpu_seconds(root) for root in roots]
    first = number * BODIES // options.rounds
    outcome = drive(server, traffic, options.seconds, core=OTHER_CORE, first=first)
    of_node, of_retinue = (cpu_seconds(root) - used for root, used in zip(roots, before, strict=True))
    return Read(
        max_count,
        outcome.requests / outcome.seconds,
        of_retinue / outcome.requests * 1e6,
        of_node / outcome.requests * 1e6,
        outcome.p50_milliseconds,
        outcome.p99_milliseconds,
    )


def _bytes_of_tables(node: Node, keyspace: str) -> dict[str, int]:
    """Return the bytes of each table on the node's disk."""
    folders = (node.folder / "data" / keyspace).iterdir()
    return {folder.name.partition("-")[0]: folder_bytes(folder) for folder in folders}


# --- reporting ------------------------------------------------------------------------------------------------------


def _print(options: Options, written: Sequence[Written], reads: Sequence[Read], sizes: dict[str, int]) -> None:
    print(f"{options.accounts:,} accounts, {options.follows:,} follows; one node, one core each")
    print(f"{'':<18}{'rows':>10}{'seconds':>10}{'rows/s':>10}{'Retinue us':>12}{'node us':>10}")
    for each in written:
        costs = (each.retinue_cpu / each.rows * 1e6, each.node_cpu / each.rows * 1e6)
        print(
            f"{each.what:<18}{each.rows:>10,}{each.seconds:>10.1f}{each.rows / each.seconds:>10,.0f}"
            f"{costs[0]:>12,.0f}{costs[1]:>10,.0f}"
        )
    print(f"pages; median (lowest-highest) of {options.rounds} runs of {options.seconds} s")
    for max_count in MAX_COUNTS:
        for title, values, form in _figures([read for read in reads if read.max_count == max_count]):
            print(f"{max_count:>5} rows  {title:<22}{values:{form}}")
    of_follows = {table: sizes.get(table, 0) / options.follows for table in OF_FOLLOWS}
    print(
        "bytes a follow on the disk, compacted, one replica: "
        + ", ".join(f"{t} {b:.1f}" for t, b in of_follows.items())
    )
    print(f"in all {sum(of_follows.values()):.1f}; an account {_of_accounts(sizes) / options.accounts:,.0f} bytes")


def _figures(reads: Sequence[Read]) -> list[tuple[str, Spread, str]]:
    return [
        ("pages/s", spread(read.pages_per_second for read in reads), ",.0f"),
        ("CPU us of Retinue", spread(read.retinue_microseconds for read in reads), ",.0f"),
        ("CPU us of the node", spread(read.node_microseconds for read in reads), ",.0f"),
        ("p50 ms", spread(read.p50_milliseconds for read in reads), ".1f"),
        ("p99 ms", spread(read.p99_milliseconds for read in reads), ".1f"),
    ]


def _of_accounts(sizes: dict[str, int]) -> int:
    return sum(sizes.get(table, 0) for table in ("account", "account_key", "username"))


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "cluster": Scenario(
        measure,
        Options(),
        Options(accounts=1_000, follows=20_000, events=1_000, seconds=1, warm_up=2),
        programs=(WRK,),
    )
}
