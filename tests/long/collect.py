"""Collects a real network over HTTP into mirrors, over several days of quota, and compares the mirrors' lists with it.

The server's clock is advanced whenever the collector waits for the next day. Once the following lists that are not
empty are collected with 300 calls a day, and once both lists of all accounts with 10,000. The mirrors must serve the
files' lists, row by row and in order.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import walk
from retinue.client import AsyncClient, RetryPolicy, Runtime
from retinue.collect import collection
from retinue.collect.collector import Collector, CollectPlan, CollectResult
from retinue.collect.journal import Journal, ListName
from retinue.collect.progress import Item, Progress
from retinue.local import LocalServer, local_server
from running import Failed, fresh_token, retinue, running_server

AT_ONCE = 16
DAYS_AGO = 30  # it all happens in the past: what is collected there can be imported today
_DIRECTIONS: tuple[ListName, ListName] = ("following", "followers")


def main() -> int:
    """Import, serve, collect, compare; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the servers are stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=walk.DATA, help="folder with the network's files")
    data = parser.parse_args().data
    with tempfile.TemporaryDirectory(prefix="retinue-collect-") as name:
        try:
            return _run(data, Path(name))
        except Failed as failure:
            sys.stderr.write(f"collect: {failure}\n")
            return 1


def _run(data: Path, folder: Path) -> int:
    expected = {"following": walk.expected_lists(data), "followers": walk.expected_followers(data)}
    all_names = sorted(walk.display_names(data))
    with _original(data, folder / "original") as server:
        owners = [Item(name, "following") for name in expected["following"]]
        both = [Item(name, direction) for name in all_names for direction in _DIRECTIONS]
        faults = _collect(server, folder / "owners", owners, 300, expected)
        faults += _collect(server, folder / "all", both, 10_000, expected)
    for fault in faults[: walk.SHOWN_DIFFERENCES]:
        print(f"DIFFERENT: {fault}")
    return 1 if faults else 0


@contextmanager
def _original(data: Path, folder: Path) -> Iterator[LocalServer]:
    folder.mkdir()
    with local_server(folder, seconds_ahead=-DAYS_AGO * 86_400) as server:
        retinue("import", "--store", server.store, "--accounts", data / walk.ACCOUNTS, data / walk.FOLLOWS)
        yield server


def _collect(
    server: LocalServer, folder: Path, wanted: Sequence[Item], calls: int, expected: dict[str, walk.Lists]
) -> list[str]:
    """Collect these lists with so many calls a day; what is different in the mirror."""
    server.limit(list_calls=calls)
    days: list[float] = []
    began = time.perf_counter()
    progress = _collected(server, folder, wanted, days)
    seconds = time.perf_counter() - began
    print(f"{len(wanted):,} lists with {calls:,} calls a day: {progress.pages:,} pages, {progress.rows:,} rows,")
    print(f"  after {len(days)} midnights, in {seconds:.1f} s ({progress.pages / seconds:,.0f} pages a second)")
    manifest = collection.write_tables(folder, ["parquet"], wanted, server.clock.now(), lambda _: None)
    print(f"  {retinue('collect', 'verify', folder).partition(': ')[2]}", end="")
    faults = [] if manifest.is_complete else ["the collection is not complete"]
    return faults + _compare(folder, {place.list for place in wanted}, expected)


def _collected(server: LocalServer, folder: Path, wanted: Sequence[Item], days: list[float]) -> Progress:
    async def sleep(seconds: float) -> None:
        until = server.clock.now() + int(seconds) + 1
        await asyncio.sleep(0.2)  # others notice as well
        if server.clock.now() < until - 1:
            server.clock.advance(until - server.clock.now())
            days.append(seconds)

    outside = Runtime(clock=server.clock, sleep=sleep)

    async def run(progress: Progress) -> CollectResult:
        policy = RetryPolicy(quota="wait")
        with closing(Journal(folder / collection.PAGES)) as journal:
            async with AsyncClient(
                server.client_key, server.client_secret, server.url, policy=policy, runtime=outside
            ) as client:
                collector = Collector(client, journal, progress, outside)
                return await collector.run(CollectPlan(wanted, {"lists": sys.maxsize, "info": 0}, AT_ONCE, "wait"))

    progress = collection.open_collection(folder, server.url, server.clock.now())
    outcome = asyncio.run(run(progress))
    if outcome.failed:
        raise Failed(f"not collected: {outcome.failed}")
    return progress


def _compare(folder: Path, directions: set[str], expected: dict[str, walk.Lists]) -> list[str]:
    """Serve what was collected, and walk all its lists."""
    mirror = folder / "mirror.db"
    retinue("import", "--store", mirror, "--accounts", folder / "accounts.parquet", folder / "follows.parquet")
    print(f"  {retinue('check', '--store', mirror).partition(': ')[2]}", end="")
    faults: list[str] = []
    with running_server(mirror) as server:
        token = fresh_token(server, mirror)
        for direction in sorted(directions):
            figures = walk.walk_lists(server.base_url, token, expected[direction], 100, walk.View(direction))
            print(f"  the mirror's {direction}: {figures.lists:,} lists, {figures.rows:,} rows,", end=" ")
            print(f"{len(figures.differences)} different")
            faults += figures.differences
    return faults


if __name__ == "__main__":
    sys.exit(main())
