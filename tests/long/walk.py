"""Walk every list of a real network over HTTP and compare it with the file.

All follows of one list carry the same second there: the hardest case for a cursor made of seconds. Expected are
each follow exactly once, in the file's order, names as in the file; full pages and falling cursors on the way.
"""

import argparse
import csv
import gzip
import math
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from running import Failed, Session, fresh_token, retinue, running_server

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "nostr"
ACCOUNTS = "accounts.csv.gz"
FOLLOWS = "follows-2024-09.csv.gz"
MAX_COUNTS = (1, 7, 20, 100)
SHOWN_DIFFERENCES = 10
HIDDEN = ("private", "withheld")

Row = tuple[str, str]  # username, display name
Lists = Mapping[str, Sequence[Row]]  # by the owner's username, newest follow first


@dataclass(frozen=True, slots=True)
class View:
    """Which lists are walked: "following" or "followers", of today or as of a second; whether their order counts."""

    direction: str = "following"
    as_of: int | None = None
    is_ordered: bool = True


FOLLOWING_TODAY = View()


@dataclass(frozen=True, slots=True)
class Figures:
    """The size and time of one walk over all lists, and a sentence for each difference."""

    max_count: int
    lists: int
    rows: int
    requests: int
    seconds: float
    differences: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Walk:
    """One list, walked to its end or to its first fault."""

    rows: tuple[Row, ...]
    requests: int
    fault: str | None


def expected_lists(data: Path, follows: str = FOLLOWS) -> Lists:
    """The lists as the files give them, without accounts that lists do not show."""
    names, hidden = display_names(data), hidden_accounts(data)
    lists: dict[str, list[Row]] = {}
    for line in lines_of(data / follows):
        followee, rows = line["followee"], lists.setdefault(line["follower"], [])
        if followee not in hidden:
            rows.append((followee, names.get(followee, "")))
    return lists


def expected_followers(data: Path, follows: str = FOLLOWS) -> Lists:
    """The follower lists that an import of the files gives.

    Follows that share a second are moved to the nearest free earlier one, in the order of the file.
    """
    names, hidden = display_names(data), hidden_accounts(data)
    lists: dict[str, dict[int, Row]] = {}
    for line in lines_of(data / follows):
        entries, second = lists.setdefault(line["followee"], {}), int(line["followed_at"])
        while second in entries:
            second -= 1
        entries[second] = (line["follower"], names.get(line["follower"], ""))
    newest_first = {
        owner: [row for _, row in sorted(entries.items(), reverse=True)] for owner, entries in lists.items()
    }
    return {
        owner: [row for row in rows if row[0] not in hidden]
        for owner, rows in newest_first.items()
        if owner not in hidden
    }


def display_names(data: Path) -> dict[str, str]:
    """Each account's display name by its username."""
    return {line["username"]: line["display_name"] for line in lines_of(data / ACCOUNTS)}


def hidden_accounts(data: Path) -> frozenset[str]:
    """The usernames of accounts that lists do not show; none if the table of accounts has no such column."""
    rows = lines_of(data / ACCOUNTS)
    return frozenset(line["username"] for line in rows if line.get("visibility") in HIDDEN)


def walk_lists(base_url: str, token: str, expected: Lists, max_count: int, view: View = FOLLOWING_TODAY) -> Figures:
    """Walk all lists at one page size over one connection."""
    start = time.perf_counter()
    with Session(base_url, token) as session:
        walks = {owner: _walk(session, owner, max_count, view) for owner in expected}
    return Figures(
        max_count=max_count,
        lists=len(walks),
        rows=sum(len(walk.rows) for walk in walks.values()),
        requests=sum(walk.requests for walk in walks.values()),
        seconds=time.perf_counter() - start,
        differences=tuple(_differences(walks, expected, max_count, view)),
    )


def _walk(session: Session, owner: str, max_count: int, view: View) -> _Walk:
    """Ask without a cursor first, then with the one returned, until has_more is false."""
    rows: list[Row] = []
    requests = 0
    query: dict[str, Any] = {"username": owner, "max_count": max_count}
    if view.as_of is not None:
        query["as_of"] = view.as_of
    while True:
        page = session.page(view.direction, query)
        requests += 1
        shown = page[f"user_{view.direction}"]
        rows += [(row["username"], row["display_name"]) for row in shown]
        fault = fault_in_page(page, len(shown), query)
        if fault or not page["has_more"]:
            return _Walk(tuple(rows), requests, fault)
        query["cursor"] = page["cursor"]


def fault_in_page(page: Mapping[str, Any], count: int, query: Mapping[str, Any]) -> str | None:
    """Return the fault of a page with `count` rows, or None."""
    bound = query.get("cursor", math.inf)
    if count > query["max_count"] or (page["has_more"] and count < query["max_count"]):
        return f"a page at {bound} has {count} rows, has_more {page['has_more']}"
    if page["has_more"] and not 1 <= page["cursor"] < bound:
        return f"the cursor after {bound} is {page['cursor']}"
    return None


def _differences(walks: Mapping[str, _Walk], expected: Lists, max_count: int, view: View) -> Iterator[str]:
    order = list if view.is_ordered else sorted
    for owner, walk in walks.items():
        if difference := walk.fault or _difference(order(walk.rows), order(expected[owner])):
            yield f"{owner}, max_count {max_count}: {difference}"


def _difference(found: Sequence[Row], expected: Sequence[Row]) -> str | None:
    """The first place where two lists differ."""
    for place, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        if ours != theirs:
            return f"row {place} is {ours!r} instead of {theirs!r}"
    if len(found) != len(expected):
        return f"{len(found)} rows instead of {len(expected)}"
    return None


def lines_of(path: Path) -> Iterator[dict[str, str]]:
    """The rows of a packed table, by column."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


# --- the script -----------------------------------------------------------------------------------------------------


def main() -> int:
    """Import, serve, walk, check; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    options = _options()
    for name in (ACCOUNTS, FOLLOWS):
        if not (options.data / name).is_file():
            sys.stderr.write(f"walk: {options.data / name} does not exist; pass the folder that holds it\n")
            return 2
    with tempfile.TemporaryDirectory(prefix="retinue-walk-") as folder:
        try:
            differences = walk_network(options.data, options.max_count or MAX_COUNTS, Path(folder) / "graph.db")
        except Failed as failure:
            sys.stderr.write(f"walk: {failure}\n")
            return 1
    return 1 if differences else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=DATA, help="folder with the network's files")
    parser.add_argument("--max-count", type=int, action="append", metavar="N", help="page size; may be repeated")
    return parser.parse_args()


def walk_network(data: Path, max_counts: Sequence[int], store: str | Path) -> list[str]:
    """Import a network into an empty store and walk all lists with each size of pages; return the differences."""
    expected = expected_lists(data)
    start = time.perf_counter()
    retinue("import", "--store", store, "--accounts", data / ACCOUNTS, data / FOLLOWS)
    print(f"imported in {time.perf_counter() - start:.1f} s")
    with running_server(store, "--workers", "1") as server:
        token = fresh_token(server, store)
        differences = _print_walks(walk_lists(server.base_url, token, expected, count) for count in max_counts)
    for difference in differences[:SHOWN_DIFFERENCES]:
        print(difference)
    print(f"{len(differences)} lists differ" if differences else "every list is exact")
    print(retinue("check", "--store", store).strip())
    return differences


def _print_walks(walks: Iterator[Figures]) -> list[str]:
    """Print each walk when it is done, then their sum; all differences."""
    print(f"{'max_count':>9}{'lists':>8}{'rows':>11}{'requests':>11}{'seconds':>10}")
    done = []
    for each in walks:
        done.append(each)
        print(f"{each.max_count:>9}{each.lists:>8,}{each.rows:>11,}{each.requests:>11,}{each.seconds:>10.1f}")
    lists, rows, requests = (sum(getattr(each, name) for each in done) for name in ("lists", "rows", "requests"))
    print(f"{'total':>9}{lists:>8,}{rows:>11,}{requests:>11,}{sum(each.seconds for each in done):>10.1f}")
    return [difference for each in done for difference in each.differences]


if __name__ == "__main__":
    sys.exit(main())
