"""A real network at two dates: the second is made of the first by events, then by a snapshot, and compared with both.

By events: every difference between the files becomes a follow or an unfollow at the time at which the list was
published again, and after the newest second of the first file. By a snapshot: the second file is imported as a full
dump of its owners' lists; without its times, since they tell when a list was published, not when its follows began.
Owners who are only in the first file are not in the dump, and keep their lists.

Expected, over HTTP: today each list has exactly the accounts of the second file, and as of the newest second of the
first file each is that of the first, in its order. Both directions are walked.
"""

import argparse
import csv
import json
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import walk
from running import Failed, fresh_token, retinue, running_server
from walk import Figures, Lists, Row, View

LATER_FOLLOWS = "follows-2025-07.csv.gz"
FIRST_DATE = 1727342966  # the newest second of the first file
MAX_COUNT = 100

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A view of all lists, their expected rows, and a title."""

    title: str
    view: View
    expected: Lists


# --- what is expected -----------------------------------------------------------------------------------------------


def comparisons(data: Path, later: Lists) -> list[Comparison]:
    """Today's lists against the later ones, and those of the first date against the first file."""
    before = walk.expected_lists(data)
    unordered = View(is_ordered=False)
    return [
        Comparison("following today", unordered, _all_owners(later, before)),
        Comparison("following then", View(as_of=FIRST_DATE), _all_owners(before, later)),
        Comparison("followers today", View("followers", is_ordered=False), _turned(data, later)),
        Comparison("followers then", View("followers", FIRST_DATE, is_ordered=False), _turned(data, before)),
    ]


def after_events(data: Path) -> Lists:
    """The lists after every difference was applied."""
    return walk.expected_lists(data, LATER_FOLLOWS)


def after_snapshot(data: Path) -> Lists:
    """The lists after the second file was imported as a dump: owners who are not in it keep theirs."""
    return {**walk.expected_lists(data), **walk.expected_lists(data, LATER_FOLLOWS)}


def _all_owners(lists: Lists, others: Lists) -> Lists:
    """With an empty list for those who have one only among the others."""
    return {**dict.fromkeys(others, ()), **lists}


def _turned(data: Path, lists: Lists) -> Lists:
    """The follower lists of the same follows, in no order; of all accounts."""
    display_names = walk.display_names(data)
    turned: dict[str, list[Row]] = {name: [] for name in display_names}
    for owner, rows in lists.items():
        for name, _ in rows:
            turned[name].append((owner, display_names[owner]))
    return turned


# --- the two ways from the first date to the second -----------------------------------------------------------------


def first_store(data: Path, store: Path) -> None:
    """A store with the first file in it. Accounts get ids, by which events name them."""
    accounts = store.with_name("accounts.csv")
    with accounts.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "username", "display_name"))
        rows = walk.lines_of(data / walk.ACCOUNTS)
        writer.writerows((f"#{number}", row["username"], row["display_name"]) for number, row in enumerate(rows))
    retinue("import", "--store", store, "--accounts", accounts, data / walk.FOLLOWS)


def apply_events(data: Path, store: Path) -> int:
    """Apply the difference between both files; how many events that is."""
    ids = {row["username"]: f"#{number}" for number, row in enumerate(walk.lines_of(data / walk.ACCOUNTS))}
    events = list(_events(_times(data / walk.FOLLOWS), _times(data / LATER_FOLLOWS), ids))
    file = store.with_name("events.jsonl")
    file.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    retinue("apply", "--store", store, file)
    return len(events)


def import_snapshot(data: Path, store: Path) -> int:
    """Import the second file as a dump; how many rows it has."""
    times = _times(data / LATER_FOLLOWS)
    dump = store.with_name("dump.csv")
    with dump.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("follower", "followee"))
        writer.writerows(times)
    retinue("import", "--store", store, "--snapshot-at", str(max(times.values())), dump)
    return len(times)


def _times(path: Path) -> dict[Pair, int]:
    return {(line["follower"], line["followee"]): int(line["followed_at"]) for line in walk.lines_of(path)}


def _events(
    before: Mapping[Pair, int], after: Mapping[Pair, int], ids: Mapping[str, str]
) -> Iterator[dict[str, str | int]]:
    published = {follower: at for (follower, _), at in after.items()}
    for kind, pairs in (("follow", after.keys() - before.keys()), ("unfollow", before.keys() - after.keys())):
        for follower, followee in sorted(pairs):
            at = max(published.get(follower, 0), FIRST_DATE + 1)
            yield {"event": kind, "follower": ids[follower], "followee": ids[followee], "at": at}


# --- the script -----------------------------------------------------------------------------------------------------

WAYS = {"events": (apply_events, after_events), "snapshot": (import_snapshot, after_snapshot)}


def main() -> int:
    """Go both ways, compare, check; return the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, nargs="?", default=walk.DATA, help="folder with the network's files")
    data = parser.parse_args().data
    for name in (walk.ACCOUNTS, walk.FOLLOWS, LATER_FOLLOWS):
        if not (data / name).is_file():
            sys.stderr.write(f"changes: {data / name} does not exist; pass the folder that holds it\n")
            return 2
    try:
        differences = [difference for way in WAYS for difference in _go(data, way)]
    except Failed as failure:
        sys.stderr.write(f"changes: {failure}\n")
        return 1
    for difference in differences[: walk.SHOWN_DIFFERENCES]:
        print(difference)
    print(f"{len(differences)} lists differ" if differences else "every list is exact")
    return 1 if differences else 0


def _go(data: Path, way: str) -> list[str]:
    bring, expected = WAYS[way]
    with tempfile.TemporaryDirectory(prefix="retinue-changes-") as folder:
        store = Path(folder) / "graph.db"
        first_store(data, store)
        start = time.perf_counter()
        count = bring(data, store)
        print(f"{way}: {count:,} in {time.perf_counter() - start:.1f} s")
        print(f"{'':>18}{'lists':>8}{'rows':>11}{'requests':>11}{'seconds':>10}{'differ':>8}")
        with running_server(store) as server:
            token = fresh_token(server, store)
            found = [
                _printed(each.title, walk.walk_lists(server.base_url, token, each.expected, MAX_COUNT, each.view))
                for each in comparisons(data, expected(data))
            ]
        print(retinue("check", "--store", store).strip().rpartition("graph.db: ")[2])
    return [difference for each in found for difference in each]


def _printed(title: str, walked: Figures) -> tuple[str, ...]:
    counts = f"{walked.lists:>8,}{walked.rows:>11,}{walked.requests:>11,}"
    print(f"{title:>18}{counts}{walked.seconds:>10.1f}{len(walked.differences):>8}", flush=True)
    return walked.differences


if __name__ == "__main__":
    sys.exit(main())
