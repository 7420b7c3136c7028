"""Whether a page costs more where there are more accounts: the same requests to graphs of 10,000 to 10 million.

In each graph ten thousand accounts have a list of 150; the others follow one account each. Asked for are pages of
these lists at any depth. In `near` lists all names come from one pool of ten thousand accounts, the same in all graphs,
so that only the graph differs. In `far` lists they come from all accounts: what that costs more is what the processor
and Retinue do not find in their memories. The server runs on one core, wrk on the other, all graphs in turn.
"""

import argparse
import json
import signal
import statistics
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
from numpy.typing import NDArray

from bench import machine
from graphs import CACHE, kept
from process_tree import cpu_seconds, require_cores
from running import AMPLE_LIMITS, Failed, Server, fresh_token, retinue, running_server
from traffic import BODIES, SEED, Traffic, drive, require_wrk

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
OWNERS = 10_000
POOL = 10_000
LENGTH = 150
STEP = 1_000  # seconds between two follows of a list
FIRST_SECOND = 1_500_000_000
WARM_UP_SECONDS = 5
SERVER_CORE, WRK_CORE = 0, 1
MOST_GROWTH = 1.2

_WRITE = """
    COPY (SELECT 'u' || follower AS follower, 'u' || followee AS followee, followed_at FROM made)
    TO '{}' (FORMAT parquet)
"""


@dataclass(frozen=True, slots=True)
class Kind:
    """Pages of so many rows of near or far lists."""

    lists: str
    max_count: int

    def __str__(self) -> str:
        """As in the table."""
        return f"{self.lists} {self.max_count}"

    def bodies(self, accounts: int) -> list[bytes]:
        """Requests with full pages, the same for each number of accounts but for the owners' names."""
        random = np.random.default_rng(SEED)
        numbers = 2 * random.integers(OWNERS // 2, size=BODIES) + (self.lists == "far")
        newest = random.integers(self.max_count + 1, LENGTH - 1, size=BODIES)  # a list may lack one, its owner
        return [
            json.dumps(
                {
                    "username": f"u{number * (accounts // OWNERS)}",
                    "max_count": self.max_count,
                    "cursor": FIRST_SECOND + STEP * place,
                }
            ).encode()
            for number, place in zip(numbers.tolist(), newest.tolist(), strict=True)
        ]


KINDS = (Kind("near", 20), Kind("near", 100), Kind("far", 20), Kind("far", 100))


def main() -> int:
    """Make, measure, print; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that all servers are stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=SIZES[-1], help="accounts of the largest graph")
    parser.add_argument("--seconds", type=int, default=3, help="length of a run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    sizes = [size for size in SIZES if size <= options.most]
    try:
        require_cores(SERVER_CORE, WRK_CORE)
        require_wrk()
        costs = _measure(sizes, options.seconds, options.runs)
    except Failed as failure:
        sys.stderr.write(f"accounts: {failure}\n")
        return 1
    _print(sizes, costs)
    path = CACHE / "accounts.json"
    found = [{"accounts": size, "pages": str(kind), "us": costs[size, kind]} for size, kind in costs]
    path.write_text(json.dumps({"machine": machine(), "costs": found}, indent=2) + "\n")
    print(f"every run is in {path}")
    return 0


def _made(accounts: int) -> Path:
    def make(folder: Path) -> None:
        table = folder / "follows.parquet"
        with duckdb.connect() as connection:
            connection.register("made", _follows(accounts))
            connection.execute(_WRITE.format(table))
        retinue("import", "--store", folder / "graph.db", table)
        table.unlink()

    return kept(f"accounts-{accounts}", make) / "graph.db"


def _follows(accounts: int) -> dict[str, NDArray[np.int64]]:
    """Lists, whose owners lie evenly among all accounts; every other one is near. Who has none follows the first."""
    apart = accounts // OWNERS
    number, place = np.repeat(np.arange(OWNERS), LENGTH), np.tile(np.arange(LENGTH), OWNERS)
    near = (7 * number + 61 * place) % POOL * apart
    far = np.random.default_rng(SEED).integers(accounts, size=len(number))
    friend = np.where(number % 2 == 0, near, far)
    listed = friend != number * apart
    others = np.arange(accounts)
    others = others[others % apart != 0]
    return {
        "follower": np.append(number[listed] * apart, others),
        "followee": np.append(friend[listed], np.zeros_like(others)),
        "followed_at": FIRST_SECOND + np.append(STEP * place[listed], others),
    }


def _measure(sizes: Sequence[int], seconds: int, runs: int) -> dict[tuple[int, Kind], list[float]]:
    """CPU microseconds a request."""
    costs: dict[tuple[int, Kind], list[float]] = {(size, kind): [] for kind in KINDS for size in sizes}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retinue-bench-")))
        stores = {size: _made(size) for size in sizes}
        servers = {
            size: stack.enter_context(running_server(store, "--workers", "1", core=SERVER_CORE))
            for size, store in stores.items()
        }
        for kind in KINDS:
            # A client for each kind: not even the highest short-term limit lets one of them ask for all.
            tokens = {size: fresh_token(servers[size], stores[size], *AMPLE_LIMITS) for size in sizes}
            traffics = {size: _traffic(folder, size, kind, tokens[size]) for size in sizes}
            for size in sizes:
                drive(servers[size], traffics[size], WARM_UP_SECONDS, core=WRK_CORE)
            for _ in range(runs):
                for size in sizes:
                    costs[size, kind].append(_cost(servers[size], traffics[size], seconds))
    return costs


def _traffic(folder: Path, accounts: int, kind: Kind, token: str) -> Traffic:
    file = folder / f"{kind.lists}-{kind.max_count}-{accounts}.jsonl"
    file.write_bytes(b"\n".join(kind.bodies(accounts)))
    return Traffic(file, token)


def _cost(server: Server, traffic: Traffic, seconds: int) -> float:
    before = cpu_seconds(server.pid)
    outcome = drive(server, traffic, seconds, core=WRK_CORE)
    return (cpu_seconds(server.pid) - before) / outcome.requests * 1e6


def _print(sizes: Sequence[int], costs: dict[tuple[int, Kind], list[float]]) -> None:
    print("CPU us a request, medians (lowest-highest)")
    print(f"{'pages':<10}" + "".join(f"{size:>22,}" for size in sizes) + f"{'last to first':>16}")
    for kind in KINDS:
        middles = [statistics.median(costs[size, kind]) for size in sizes]
        cells = [
            f"{middle:.1f} ({min(costs[size, kind]):.1f}-{max(costs[size, kind]):.1f})"
            for size, middle in zip(sizes, middles, strict=True)
        ]
        print(f"{kind!s:<10}" + "".join(f"{cell:>22}" for cell in cells) + f"{middles[-1] / middles[0]:>16.2f}")
    near, far = (statistics.median(costs[sizes[-1], Kind(lists, 100)]) for lists in ("near", "far"))
    print(f"of a page of 100 far rows among {sizes[-1]:,} accounts {1 - near / far:.0%} is what no memory had ready")
    first, last = (statistics.median(costs[size, KINDS[0]]) for size in (sizes[0], sizes[-1]))
    met = "met" if last <= MOST_GROWTH * first else "MISSED"
    print(f"20 near rows cost at most {MOST_GROWTH} times as much in the largest graph: {last / first:.2f}, {met}")


if __name__ == "__main__":
    sys.exit(main())
