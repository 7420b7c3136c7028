"""What a store on one node of Apache Cassandra takes: import, events, pages, and bytes a follow on its disk.

The node has one core, Retinue and whoever asks it the other. The node syncs its log every ten seconds, as nodes usually
do, and whatever it holds is compacted before its files are measured. With `--walk` every list of a real network is
served from it and walked as well.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import chdir
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import walk
from apply_rate import drawn_events
from bench import machine
from figures import Spread, spread
from graphs import CACHE, Size, generate
from process_tree import cpu_seconds, folder_bytes, require_cores
from running import Failed, Server, command_of, fresh_token, on_cores, retinue, running_server
from support.cassandra_jars import missing
from support.cassandra_node import SYNC_AS_USUAL, Node, Setting, free_port, running
from traffic import BODIES, Traffic, draw_bodies, drive, require_wrk

NODE_CORE, OTHER_CORE = 0, 1
MAX_COUNTS = (20, 100)
SETTING = Setting(heap_mib=4096, sync=SYNC_AS_USUAL, core=NODE_CORE)
# What makes up a follow: entries of both lists, the pair, how lists are cut, which seconds are taken.
OF_FOLLOWS = ("entry", "pair", "list", "taken", "late", "over")


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    accounts: int = 10_000
    follows: int = 200_000
    events: int = 20_000
    seconds: int = 10  # a run of wrk
    warm_up: int = 20
    rounds: int = 5


QUICK = Options(accounts=1_000, follows=20_000, events=1_000, seconds=1, warm_up=2)


@dataclass(frozen=True, slots=True)
class Written:
    """How long it took to write rows, and what both sides used for it, in seconds of their cores."""

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


def main() -> int:
    """Start a node, measure, report; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the node is stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small graph and short runs, to see that all works")
    parser.add_argument("--walk", type=Path, metavar="FOLDER", help="a real network to be walked, see walk.py")
    asked = parser.parse_args()
    if reason := missing():
        sys.stderr.write(f"cluster: {reason}\n")
        return 2
    try:
        require_cores(NODE_CORE, OTHER_CORE)
        require_wrk()
        port = free_port()
        with (
            running(1, port, SETTING) as (node,),
            tempfile.TemporaryDirectory(prefix="retinue-cluster-") as folder,
            chdir(folder),  # this machine's files of the store
        ):
            _measure(node, Path(folder), QUICK if asked.quick else Options())
            return 0 if asked.walk is None else walk.run(asked.walk, walk.MAX_COUNTS, _store(node, "walked"))
    except Failed as failure:
        sys.stderr.write(f"cluster: {failure}\n")
        return 1


def _store(node: Node, keyspace: str) -> str:
    """A store that is made in a keyspace of its own."""
    store = f"cassandra://{node.address}:{node.port}/{keyspace}"
    retinue("store", "init", "--store", store, "--replication", "1")
    return store


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(node: Node, folder: Path, options: Options) -> None:
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
    _report(options, written, reads, sizes)


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
    """Pages, as many as wrk can get; names are known after the first round."""
    reads: list[Read] = []
    with running_server(store, "--workers", "1", core=OTHER_CORE) as server:
        token = fresh_token(server, store)
        for max_count in MAX_COUNTS:
            bodies = folder / f"bodies-{max_count}"
            bodies.write_bytes(b"\n".join(draw_bodies(folder / "accounts.csv", folder / "follows.csv", max_count)))
            traffic = Traffic(bodies, token)
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
    """What each table takes on the node's disk."""
    folders = (node.folder / "data" / keyspace).iterdir()
    return {folder.name.partition("-")[0]: folder_bytes(folder) for folder in folders}


# --- reporting ------------------------------------------------------------------------------------------------------


def _report(options: Options, written: Sequence[Written], reads: Sequence[Read], sizes: dict[str, int]) -> None:
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
    path = CACHE / "cluster.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report: dict[str, Any] = {"options": asdict(options), "machine": machine(), "bytes": sizes}
    report |= {"written": [asdict(each) for each in written], "read": [asdict(each) for each in reads]}
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"every run is in {path}")


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


if __name__ == "__main__":
    sys.exit(main())
