"""What a page and a new follow cost in a list of ten million followers, beside lists of a hundred.

The hub grew by several followers a second, so most of them stand away from their true second: the hardest growth
there is. Pages are drawn uniformly over its whole depth. For each of them there is a small account whose newest
followers are exactly the accounts of that page, so that both sides show the same names and differ only in the length
of the list. The server runs on one core, wrk on the other, hub and small lists in turn.
"""

import argparse
import csv
import json
import random
import signal
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from graphs import CACHE, kept
from running import Failed, Server, Session, fresh_token, retinue, running_server
from traffic import Traffic, drive, require_wrk

HUB = "hub"
ROWS = 20
SMALL_LIST = 100
PAGES = 500
PARTS = 10
PER_SECOND = 8
FIRST_SECOND = 1_600_000_000
SEED = 1
SERVER_CORE, WRK_CORE = 0, 1
WARM_UP_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Page:
    """A page of the hub's list: the bound to ask with, and the accounts on it."""

    bound: int
    rows: tuple[str, ...]


def main() -> int:
    """Grow the hub, draw pages, make the small lists, measure both; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--followers", type=int, default=10_000_000)
    parser.add_argument("--seconds", type=int, default=8, help="length of a run")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    try:
        require_wrk()
        folder = kept(f"hub-{options.followers}", lambda made: _grow(made, options.followers))
        print((folder / "growth.txt").read_text(), end="")
        _measure(folder, options.seconds, options.runs)
    except Failed as failure:
        sys.stderr.write(f"hub: {failure}\n")
        return 1
    return 0


# --- making the lists -----------------------------------------------------------------------------------------------


def _grow(folder: Path, followers: int) -> None:
    """Let the hub grow in parts, each timed by itself; then make the small lists from pages of it."""
    store, part = folder / "graph.db", folder / "part.csv"
    said = []
    for begin in range(0, followers, followers // PARTS):
        end = min(followers, begin + followers // PARTS)
        _write(part, ((f"u{number}", HUB, FIRST_SECOND + number // PER_SECOND) for number in range(begin, end)))
        start = time.perf_counter()
        retinue("import", "--store", store, part)
        rate = (end - begin) / (time.perf_counter() - start)
        said.append(f"followers {begin + 1:>12,} to {end:>12,}: {rate:>8,.0f} imported a second\n")
        print(said[-1], end="", flush=True)
    with running_server(store) as server, Session(server.base_url, fresh_token(server, store)) as session:
        pages = list(_draw_pages(session, followers))
    _write(part, _small_lists(pages))
    retinue("import", "--store", store, part)
    part.unlink()
    (folder / "growth.txt").write_text("".join(said))
    (folder / "pages.json").write_text(json.dumps([page.bound for page in pages]))


def _draw_pages(session: Session, followers: int) -> Iterator[Page]:
    """Full pages, uniformly over the list; what is displaced stands below the first second."""
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
    """The rows of each page are the newest followers of an account; accounts of other pages are its older ones."""
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


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(folder: Path, seconds: int, runs: int) -> None:
    store = folder / "graph.db"
    bounds = json.loads((folder / "pages.json").read_text())
    hub = [{"username": HUB, "max_count": ROWS, "cursor": bound} for bound in bounds]
    small = [{"username": f"small{number}", "max_count": ROWS, "cursor": FIRST_SECOND} for number in range(len(bounds))]
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        token = fresh_token(server, store)
        _require_equal(server, token, hub, small)
        traffics = [_traffic(name, queries, token) for name, queries in (("hub", hub), ("small", small))]
        for traffic in traffics:
            drive(server, traffic, WARM_UP_SECONDS, core=WRK_CORE)
        costs = [[_cost(server, traffic, seconds) for traffic in traffics] for _ in range(runs)]
    for name, column in zip(("hub", "small lists"), zip(*costs, strict=True), strict=True):
        low, middle, high = min(column), statistics.median(column), max(column)
        print(f"{name:>12}: {middle:>6.1f} us of CPU a page of {ROWS} rows ({low:.1f}-{high:.1f})")
    print(f"{'ratio':>12}: {statistics.median(ours / theirs for ours, theirs in costs):>6.2f}")


def _require_equal(server: Server, token: str, hub: list[dict[str, object]], small: list[dict[str, object]]) -> None:
    """Both sides must show the same rows, page by page."""
    with Session(server.base_url, token) as session:
        for one, other in zip(hub, small, strict=True):
            shown = [session.page("followers", query)["user_followers"] for query in (one, other)]
            if shown[0] != shown[1]:
                raise Failed(f"{one} and {other} show different rows")


def _traffic(name: str, queries: list[dict[str, object]], token: str) -> Traffic:
    file = CACHE / f"bodies-{name}.jsonl"
    file.write_text("\n".join(json.dumps(query) for query in queries))
    return Traffic(file, token, "followers")


def _cost(server: Server, traffic: Traffic, seconds: int) -> float:
    before = server.cpu_seconds()
    outcome = drive(server, traffic, seconds, core=WRK_CORE)
    return (server.cpu_seconds() - before) / outcome.requests * 1e6


if __name__ == "__main__":
    sys.exit(main())
