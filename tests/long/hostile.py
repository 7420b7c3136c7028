"""Losses of clients under fault injection: ours and two others, over the same seeds.

Each run is a server of its own on a small graph, under a profile of faults with the run's seed (docs/sandbox.md), and a
client that collects all its lists. `retinue collect` is killed up to three times in each run, at instants drawn at
random, and goes on. Nothing of the clients is changed; when they would sleep, the server's clock is advanced, and
TikTok's address leads to the server. Printed is a table in Markdown.
"""

import argparse
import asyncio
import contextlib
import io
import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import patch

import requests
from researchtikpy import get_following
from researchtikpy.get_access_token import get_access_token
from tiktok_research_api import QueryUserFollowingRequest, TikTokResearchAPI

from retinue.client import AsyncClient, ClientError, Runtime
from retinue.collect import collection
from retinue.collect.collector import Collector, CollectPlan
from retinue.collect.journal import Journal, PageRecord, records
from retinue.collect.progress import Item
from retinue.faults import profile
from retinue.local import LocalServer, local_server

LENGTHS = {"nobody": 0, "one": 1, "seven": 7, "some": 120, "many": 310}
TRUTH = {name: [f"{name}.{rank}" for rank in range(length)] for name, length in LENGTHS.items()}
KILLS = 3
LONGEST_SECONDS_TO_A_KILL = 0.25
MOST_REQUESTS = 2_000  # for one list of at most four pages: then it is said to have no end
_NEWEST = 1_700_000_000
_TIKTOK = "https://open.tiktokapis.com"

Lists = dict[str, list[str] | str]  # by owner: usernames in order, or the name of an error


class NoEndError(Exception):
    """A client repeats its requests without end."""


# --- one run --------------------------------------------------------------------------------------------------------


@contextmanager
def misbehaving(folder: Path, name: str, seed: int) -> Iterator[LocalServer]:
    """A server on the graph, under a profile."""
    folder.mkdir(exist_ok=True)
    is_new = not (folder / "graph.db").exists()
    with local_server(folder) as server:
        if is_new:
            rows = [
                (owner, name, _NEWEST - 60 * rank) for owner, names in TRUTH.items() for rank, name in enumerate(names)
            ]
            server.load(accounts=[{"username": owner} for owner in TRUTH], follows=rows)
        server.faults = profile(name, seed=seed)
        yield server


def outside(server: LocalServer, seed: int) -> Runtime:
    """The server's time, which passes where the client sleeps."""

    async def sleep(seconds: float) -> None:
        server.clock.advance(int(seconds) + 1)
        await asyncio.sleep(0)

    return Runtime(server.clock, random.Random(seed).random, sleep)


def by_collector(folder: Path, name: str, seed: int) -> Lists:
    """`retinue collect`, killed and started again."""
    chance = random.Random(seed)
    for attempt in range(KILLS + 1):
        instant = chance.uniform(0, LONGEST_SECONDS_TO_A_KILL) if attempt < KILLS else None
        if _in_a_process(lambda: _collect(folder, name, seed * 10 + attempt, instant)) == 0:  # noqa: B023 - it runs now
            break
    found: Lists = {owner: [] for owner in TRUTH}
    for record in records(folder / "collection" / collection.PAGES):
        if isinstance(record, PageRecord):
            known = found[record.name]
            assert isinstance(known, list)
            known += [person.username for person in record.page().rows]
    return found


def _collect(folder: Path, name: str, seed: int, instant: float | None) -> None:
    wanted = [Item(owner, "following") for owner in TRUTH]
    with misbehaving(folder / "server", name, seed) as server:
        if instant is not None:
            threading.Timer(instant, os.kill, (os.getpid(), signal.SIGKILL)).start()
        around = outside(server, seed)

        async def run() -> None:
            target = folder / "collection"
            progress = collection.open_collection(target, name, server.clock.now())
            with closing(Journal(target / collection.PAGES)) as journal:
                key, secret = server.client_key, server.client_secret
                async with AsyncClient(key, secret, server.url, runtime=around) as client:
                    outcome = await Collector(client, journal, progress, around).run(
                        CollectPlan(wanted, {"lists": 20_000, "info": 0})
                    )
            if outcome.failed:
                raise RuntimeError(outcome.failed)

        asyncio.run(run())
    if instant is not None:
        os._exit(0)  # without waiting for the timer


def _in_a_process(work: Callable[[], None]) -> int:
    """Do it in a process of its own; its exit code."""
    if not (child := os.fork()):
        try:
            work()
            os._exit(0)
        except BaseException as error:  # noqa: BLE001 - it is told to the parent
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def by_client(folder: Path, name: str, seed: int) -> Lists:
    """`retinue.client`, list by list."""
    with misbehaving(folder / "server", name, seed) as server:

        async def run() -> Lists:
            async with AsyncClient(
                server.client_key, server.client_secret, server.url, runtime=outside(server, seed)
            ) as client:
                return {owner: await _names(client, owner) for owner in TRUTH}

        return asyncio.run(run())


async def _names(client: AsyncClient, owner: str) -> list[str] | str:
    try:
        return [person.username async for person in client.following(owner)]
    except ClientError as error:
        return type(error).__name__


def by_wrapper(folder: Path, name: str, seed: int) -> Lists:
    """TikTok's own Python wrapper."""
    with misbehaving(folder / "server", name, seed) as server, _leading_to(server):

        def collect(owner: str) -> list[str]:
            api = TikTokResearchAPI(server.client_key, server.client_secret, qps=100_000)
            rows, _, _ = api.query_user_following(QueryUserFollowingRequest(owner, max_count=100), fetch_all_pages=True)
            return [row["username"] for row in rows]

        return _each(collect)


def by_researchtikpy(folder: Path, name: str, seed: int) -> Lists:
    """ResearchTikPy."""
    with misbehaving(folder / "server", name, seed) as server, _leading_to(server):

        def collect(owner: str) -> list[str]:
            token = get_access_token(server.client_key, server.client_secret)["access_token"]
            frame = get_following([owner], token, verbose=False)
            return list(frame["username"]) if len(frame) else []

        return _each(collect)


def _each(collect: Callable[[str], list[str]]) -> Lists:
    found: Lists = {}
    for owner in TRUTH:
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                found[owner] = collect(owner)
        except NoEndError:
            found[owner] = "NoEndError"
        except Exception as error:  # noqa: BLE001 - whatever a client raises is what it says
            found[owner] = type(error).__name__
    return found


@contextmanager
def _leading_to(server: LocalServer) -> Iterator[None]:
    """TikTok's address is the server's, and time passes where a client sleeps."""
    request, asked = requests.Session.request, Counter[str]()

    def leading(session: requests.Session, method: str, url: str, *rest: object, **named: object) -> requests.Response:
        asked["all"] += 1
        if asked["all"] > MOST_REQUESTS:
            asked.clear()
            raise NoEndError
        return request(session, method, url.replace(_TIKTOK, server.url), *rest, **named)  # type: ignore[arg-type]

    logging.disable(logging.CRITICAL)
    with (
        patch.object(requests.Session, "request", leading),
        patch.object(time, "sleep", lambda seconds: server.clock.advance(int(seconds) + 1)),
    ):
        yield


CLIENTS: dict[str, Callable[[Path, str, int], Lists]] = {
    "`retinue collect`, killed three times": by_collector,
    "`retinue.client`": by_client,
    "TikTok's Python wrapper 1.0.4": by_wrapper,
    "ResearchTikPy 0.2.2": by_researchtikpy,
}


# --- many runs ------------------------------------------------------------------------------------------------------


def outcome_of(found: list[str] | str, expected: Sequence[str]) -> str:
    """Classify the rows of a list."""
    if found == "NoEndError":
        return "endless"
    if isinstance(found, str):
        return "error"
    if found == list(expected):
        return "exact"
    return "twice" if len(set(found)) < len(found) else "missing"


def lists_of(client: str, name: str, seed: int) -> Lists:
    """Return the lists that a client gets in one run, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="retinue-hostile-") as folder:
        said = Path(folder) / "said.json"
        if client == next(iter(CLIENTS)):
            return by_collector(Path(folder), name, seed)

        def run() -> None:
            said.write_text(json.dumps(CLIENTS[client](Path(folder), name, seed)))

        _in_a_process(run)
        lists: Lists = json.loads(said.read_text())
        return lists


def main() -> int:
    """Run, count, report; return 1 if one of our clients lost something under `hostile`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000, help="runs of each of our clients under hostile")
    parser.add_argument(
        "--foreign-runs", type=int, default=100, help="runs of each of the others, and under tiktok-2024"
    )
    options = parser.parse_args()
    print(
        "| client | profile | runs | lists | whole and exact | rows missing, no error | rows twice | error | no end |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    is_exact = True
    for number, client in enumerate(CLIENTS):
        for name, runs in (
            ("hostile", options.runs if number < 2 else options.foreign_runs),
            ("tiktok-2024", options.foreign_runs),
        ):
            counts = Counter(
                outcome_of(found, TRUTH[owner])
                for seed in range(runs)
                for owner, found in lists_of(client, name, seed).items()
            )
            cells = [counts[each] for each in ("exact", "missing", "twice", "error", "endless")]
            shown = " | ".join(f"{cell:,}" for cell in cells)
            print(f"| {client} | `{name}` | {runs:,} | {runs * len(TRUTH):,} | {shown} |", flush=True)
            is_exact &= number > 1 or counts.total() == counts["exact"]
    return 0 if is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
