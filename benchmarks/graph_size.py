"""CPU time of a page in larger graphs and longer lists.

`accounts`: in each graph ten thousand accounts have a list of 150, the others follow one account each. Requested are
pages of these lists at any depth. In `near` lists all names come from one pool of ten thousand accounts, the same in
all graphs, so that only the graph differs. In `far` lists they come from all accounts, and many are not cached.

`hub`: an account gains ten million followers, several a second, so that most are displaced from their true second.
Pages are drawn uniformly over its list. For each of them there is a small account whose newest followers are exactly
those of the page, so that both sides show the same names and differ only in the length of the list.
"""

import csv
import json
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray

from debian import WRK
from figures import spread
from running import AMPLE_LIMITS, Failed, Server, Session, fresh_token, retinue, running_server
from scenario import CLIENT_CORE, SERVER_CORE, Report, Scenario
from workload import BODIES, SEED, Traffic, cached, drive, write_lines

# --- accounts --------------------------------------------------------------------------------------------------------

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
OWNERS = 10_000
POOL = 10_000
LENGTH = 150
STEP = 1_000  # seconds between two follows of a list
FIRST_LIST_SECOND = 1_500_000_000
MAX_GROWTH = 1.2

_WRITE = """
    COPY (SELECT 'u' || follower AS follower, 'u' || followee AS followee, followed_at FROM follows)
    TO '{}' (FORMAT parquet)
"""


@dataclass(frozen=True, slots=True)
class AccountOptions:
    """The accounts of the largest graph, and the runs."""

    largest: int = SIZES[-1]
    seconds: int = 3
    runs: int = 5
    warm_up: int = 5


@dataclass(frozen=True, slots=True)
class Kind:
    """Pages of `max_count` rows of near or far lists."""

    lists: str
    max_count: int

    def __str__(self) -> str:
        """Return the name in the table."""
        return f"{self.lists} {self.max_count}"

    def bodies(self, accounts: int) -> list[bytes]:
        """Return requests for full pages, alike in each graph."""
        random = np.random.default_rng(SEED)
        numbers = 2 * random.integers(OWNERS // 2, size=BODIES) + (self.lists == "far")
        newest = random.integers(self.max_count + 1, LENGTH - 1, size=BODIES)  # a list may lack one, its owner
        return [
            json.dumps(
                {
                    "username": f"u{number * (accounts // OWNERS)}",
                    "max_count": self.max_count,
                    "cursor": FIRST_LIST_SECOND + STEP * place,
                }
            ).encode()
            for number, place in zip(numbers.tolist(), newest.tolist(), strict=True)
        ]


KINDS = (Kind("near", 20), Kind("near", 100), Kind("far", 20), Kind("far", 100))


Costs = Mapping[tuple[int, Kind], Sequence[float]]


def measure_accounts(options: AccountOptions) -> Report:
    """Measure the same pages in all graphs, in turns."""
    sizes = [size for size in SIZES if size <= options.largest]
    costs = _measure(sizes, options)
    _print(sizes, costs)
    return Report({"costs": [{"accounts": size, "pages": str(kind), "us": us} for (size, kind), us in costs.items()]})


def _graph_of(accounts: int) -> Path:
    def make(folder: Path) -> None:
        table = folder / "follows.parquet"
        with duckdb.connect() as connection:
            connection.register("follows", _follows(accounts))
            connection.execute(_WRITE.format(table))
        retinue("import", "--store", folder / "graph.db", table)
        table.unlink()

    return cached(f"accounts-{accounts}", make) / "graph.db"


def _follows(accounts: int) -> dict[str, NDArray[np.int64]]:
    """Return near and far lists in turns, their owners spread evenly."""
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
        "followed_at": FIRST_LIST_SECOND + np.append(STEP * place[listed], others),
    }


def _measure(sizes: Sequence[int], options: AccountOptions) -> dict[tuple[int, Kind], list[float]]:
    """Return CPU microseconds a request."""
    costs: dict[tuple[int, Kind], list[float]] = {(size, kind): [] for kind in KINDS for size in sizes}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="retinue-bench-")))
        stores = {size: _graph_of(size) for size in sizes}
        servers = {
            size: stack.enter_context(running_server(store, "--workers", "1", core=SERVER_CORE))
            for size, store in stores.items()
        }
        for kind in KINDS:
            # A client for each kind: the highest rate limit is too low for one of them to ask for all.
            tokens = {size: fresh_token(servers[size], stores[size], *AMPLE_LIMITS) for size in sizes}
            traffics = {size: _traffic(folder, size, kind, tokens[size]) for size in sizes}
            for size in sizes:
                drive(servers[size], traffics[size], options.warm_up, core=CLIENT_CORE)
            for _ in range(options.runs):
                for size in sizes:
                    load = drive(servers[size], traffics[size], options.seconds, core=CLIENT_CORE)
                    costs[size, kind].append(load.cpu_microseconds)
    return costs


def _traffic(folder: Path, accounts: int, kind: Kind, token: str) -> Traffic:
    file = folder / f"{kind.lists}-{kind.max_count}-{accounts}.jsonl"
    return Traffic(write_lines(file, kind.bodies(accounts)), token)


def _print(sizes: Sequence[int], costs: Costs) -> None:
    print("CPU us a request, medians (lowest-highest)")
    print(f"{'pages':<10}" + "".join(f"{size:>22,}" for size in sizes) + f"{'last to first':>16}")
    for kind in KINDS:
        cells = [spread(costs[size, kind]) for size in sizes]
        ratio = cells[-1].median / cells[0].median
        print(f"{kind!s:<10}" + "".join(f"{f'{cell:.1f}':>22}" for cell in cells) + f"{ratio:>16.2f}")
    near, far = (statistics.median(costs[sizes[-1], Kind(lists, 100)]) for lists in ("near", "far"))
    print(f"of a page of 100 far rows among {sizes[-1]:,} accounts {1 - near / far:.0%} is names that are not cached")
    first, last = (statistics.median(costs[size, KINDS[0]]) for size in (sizes[0], sizes[-1]))
    verdict = "met" if last <= MAX_GROWTH * first else "MISSED"
    print(f"20 near rows cost at most {MAX_GROWTH} times as much in the largest graph: {last / first:.2f}, {verdict}")


# --- hub -------------------------------------------------------------------------------------------------------------

HUB = "hub"
ROWS = 20
SMALL_LIST = 100
PAGES = 500
PARTS = 10
PER_SECOND = 8
FIRST_SECOND = 1_600_000_000


@dataclass(frozen=True, slots=True)
class HubOptions:
    """The followers of the hub, and the length and number of runs."""

    followers: int = 10_000_000
    seconds: int = 8
    runs: int = 5
    warm_up: int = 5


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the hub's list: the bound to ask with, and its accounts."""

    bound: int
    rows: tuple[str, ...]


def measure_hub(options: HubOptions) -> Report:
    """Measure pages of the hub and of small lists, in turns."""
    folder = cached(f"hub-{options.followers}", lambda folder: _grow(folder, options.followers))
    growth = (folder / "growth.txt").read_text()
    print(growth, end="")
    store = folder / "graph.db"
    bounds = json.loads((folder / "pages.json").read_text())
    queries: dict[str, list[dict[str, object]]] = {
        "hub": [{"username": HUB, "max_count": ROWS, "cursor": bound} for bound in bounds],
        "small lists": [
            {"username": f"small{number}", "max_count": ROWS, "cursor": FIRST_SECOND} for number in range(len(bounds))
        ],
    }
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        token = fresh_token(server, store)
        _require_equal(server, token, *queries.values())
        costs = _hub_costs(
            server, {name: _hub_traffic(folder, name, queries[name], token) for name in queries}, options
        )
    for name, values in costs.items():
        print(f"{name:>12}: {spread(values):.1f} us of CPU a page of {ROWS} rows")
    ratio = statistics.median(hub / small for hub, small in zip(*costs.values(), strict=True))
    print(f"{'ratio':>12}: {ratio:>6.2f}")
    return Report({"growth": growth.splitlines(), "cpu_microseconds": costs, "ratio": ratio})


def _hub_costs(server: Server, traffics: Mapping[str, Traffic], options: HubOptions) -> dict[str, list[float]]:
    for traffic in traffics.values():
        drive(server, traffic, options.warm_up, core=CLIENT_CORE)
    costs: dict[str, list[float]] = {name: [] for name in traffics}
    for _ in range(options.runs):
        for name, traffic in traffics.items():
            costs[name].append(drive(server, traffic, options.seconds, core=CLIENT_CORE).cpu_microseconds)
    return costs


def _hub_traffic(folder: Path, name: str, queries: list[dict[str, object]], token: str) -> Traffic:
    lines = [json.dumps(query).encode() for query in queries]
    return Traffic(write_lines(folder / f"bodies-{name.partition(' ')[0]}.jsonl", lines), token, "followers")


def _grow(folder: Path, followers: int) -> None:
    """Import the hub's followers in timed parts, then the small lists."""
    store, part = folder / "graph.db", folder / "part.csv"
    growth = []
    for begin in range(0, followers, followers // PARTS):
        end = min(followers, begin + followers // PARTS)
        _write(part, ((f"u{number}", HUB, FIRST_SECOND + number // PER_SECOND) for number in range(begin, end)))
        start = time.perf_counter()
        retinue("import", "--store", store, part)
        rate = (end - begin) / (time.perf_counter() - start)
        growth.append(f"followers {begin + 1:>12,} to {end:>12,}: {rate:>8,.0f} imported a second\n")
        print(growth[-1], end="", flush=True)
    with running_server(store) as server, Session(server.base_url, fresh_token(server, store)) as session:
        pages = list(_draw_pages(session, followers))
    _write(part, _small_lists(pages))
    retinue("import", "--store", store, part)
    part.unlink()
    (folder / "growth.txt").write_text("".join(growth))
    (folder / "pages.json").write_text(json.dumps([page.bound for page in pages]))


def _draw_pages(session: Session, followers: int) -> Iterator[Page]:
    """Yield full pages, uniformly over the list."""
    draw = random.Random(SEED)
    oldest = FIRST_SECOND - followers + followers // PER_SECOND + ROWS
    for _ in range(PAGES):
        bound = draw.randint(oldest, FIRST_SECOND + followers // PER_SECOND)
        data = session.page("followers", {"username": HUB, "max_count": ROWS, "cursor": bound})
        rows = tuple(row["username"] for row in data["user_followers"])
        if len(rows) < ROWS:
            raise Failed(f"the page at {bound} has {len(rows)} rows")
        yield Page(bound, rows)


def _small_lists(pages: list[Page]) -> Iterator[tuple[str, str, int]]:
    """Yield follows that make each page a small list's newest rows."""
    others = [name for page in pages for name in page.rows]
    for number, page in enumerate(pages):
        older = [name for name in others[number : number + 2 * SMALL_LIST] if name not in page.rows]
        followers = [*page.rows, *dict.fromkeys(older)][:SMALL_LIST]
        yield from ((name, f"small{number}", FIRST_SECOND - 10 * place) for place, name in enumerate(followers))


def _write(path: Path, rows: Iterator[tuple[str, str, int]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("follower", "followee", "followed_at"))
        writer.writerows(rows)


def _require_equal(server: Server, token: str, hub: list[dict[str, object]], small: list[dict[str, object]]) -> None:
    """Raise `Failed` unless both sides show the same rows, page by page."""
    with Session(server.base_url, token) as session:
        for one, other in zip(hub, small, strict=True):
            rows = [session.page("followers", query)["user_followers"] for query in (one, other)]
            if rows[0] != rows[1]:
                raise Failed(f"{one} and {other} show different rows")


SCENARIOS: Mapping[str, Scenario[Any]] = {
    "accounts": Scenario(
        measure_accounts,
        AccountOptions(),
        AccountOptions(largest=10_000, seconds=1, runs=1, warm_up=1),
        programs=(WRK,),
    ),
    "hub": Scenario(
        measure_hub, HubOptions(), HubOptions(followers=4_000, seconds=1, runs=1, warm_up=1), programs=(WRK,)
    ),
}
