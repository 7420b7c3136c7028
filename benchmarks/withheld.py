"""A million rows in a row that are no rows any more: how long pages across them take, from the first second on.

An account follows a few, then a million, then a few more accounts. The million is withheld by events, later shown
again, and at last unfollowed, while a server answers. After each change the page that reaches across the million is
asked for at once: it must be exact from the first answer on, and is timed until it costs no more than before.
"""

import argparse
import csv
import json
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from running import Failed, Session, fresh_token, retinue, running_server

OWNER = "owner"
FEW = 10
ROWS = 20
FIRST_SECOND = 1_600_000_000
NOTICED_SECONDS = 1.0  # a change of visibility may take so long to show
MOST_WAIT_SECONDS = 1800
PROBES = 50


def main() -> int:
    """Make the list, change it, measure; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that the server is stopped then too
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000, help="how many are withheld")
    rows = parser.parse_args().rows
    try:
        with tempfile.TemporaryDirectory(prefix="retinue-withheld-") as folder:
            _measure(Path(folder) / "graph.db", rows)
    except Failed as failure:
        sys.stderr.write(f"withheld: {failure}\n")
        return 1
    return 0


def _measure(store: Path, rows: int) -> None:
    follows = store.with_name("follows.csv")
    with follows.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("follower", "followee", "followed_at"))
        writer.writerows((OWNER, name, FIRST_SECOND + number) for number, name in enumerate(_names(rows)))
    retinue("import", "--store", store, follows)
    everybody = list(_names(rows))[::-1]
    few = [*everybody[:FEW], *everybody[-FEW:]]
    with running_server(store, "--workers", "1") as server:
        token = fresh_token(server, store)
        with Session(server.base_url, token) as session:
            usual = statistics.median(_timed(session, everybody[:ROWS]) for _ in range(PROBES))
        print(f"{'before':>12}: {1000 * usual:>9.2f} ms a page")
        for kind, expected in (("withheld", few), ("public", everybody[:ROWS]), ("unfollowed", few)):
            seconds = _apply(store, kind, rows)
            print(f"{kind:>12}: {rows / seconds:>9,.0f} events a second", flush=True)
            time.sleep(NOTICED_SECONDS)
            with Session(server.base_url, token) as session:
                _watch(session, expected, usual)
    print(retinue("check", "--store", store).strip().rpartition("graph.db: ")[2])


def _names(rows: int) -> Iterator[str]:
    """Everybody in the list, oldest follow first: few, the million, few."""
    yield from (f"old{number}" for number in range(FEW))
    yield from (f"many{number}" for number in range(rows))
    yield from (f"new{number}" for number in range(FEW))


def _apply(store: Path, kind: str, rows: int) -> float:
    """Let it happen to the million; how many seconds that takes."""
    events, now = store.with_name("events.jsonl"), int(time.time())
    with events.open("w", encoding="utf-8") as file:
        for number in range(rows):
            event: dict[str, Any] = {"event": "visibility", "account": f"many{number}", "visibility": kind, "at": now}
            if kind == "unfollowed":
                event = {"event": "unfollow", "follower": OWNER, "followee": f"many{number}", "at": now}
            file.write(json.dumps(event) + "\n")
    start = time.perf_counter()
    retinue("apply", "--store", store, events)
    return time.perf_counter() - start


def _watch(session: Session, expected: list[str], usual: float) -> None:
    """Ask until a page costs what it did before, give or take the noise of the machine."""
    start = time.perf_counter()
    slowest = first = _timed(session, expected)
    while statistics.median(times := [_timed(session, expected) for _ in range(5)]) > 2 * usual:
        slowest = max(slowest, *times)
        if time.perf_counter() - start > MOST_WAIT_SECONDS:
            raise Failed(f"pages still take {1000 * statistics.median(times):.1f} ms")
        time.sleep(1)
    took = time.perf_counter() - start
    pages = f"the first page {1000 * first:,.2f} ms, the slowest {1000 * slowest:,.2f} ms"
    print(f"{'':>12}  exact at once; {pages}; as before after {took:,.0f} s", flush=True)


def _timed(session: Session, expected: list[str]) -> float:
    start = time.perf_counter()
    data = session.page("following", {"username": OWNER, "max_count": ROWS})
    seconds = time.perf_counter() - start
    found = [row["username"] for row in data["user_following"]]
    if found != expected:
        raise Failed(f"the page shows {found} instead of {expected}")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
