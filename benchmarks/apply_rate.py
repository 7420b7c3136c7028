"""How many events a second `retinue apply` makes durable while pages are read, on a generated graph.

The events come through a pipe, as from another program: follows new to the graph, unfollows of follows in it, follows
that come again, and changes of accounts, in the order of a seeded shuffle. A server answers pages of the same store
meanwhile, at a fixed rate over one connection, each checked to be full or the list's last.
"""

import argparse
import csv
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from graphs import Size, generated
from running import Failed, Session, command_of, fresh_token, running_server

SEED = 1
ROWS = 20
PAGES_PER_SECOND = 200


@dataclass
class Reading:
    """Pages that were read beside the writing: how long each took, in seconds."""

    times: list[float] = field(default_factory=list)
    fault: str = ""


def main() -> int:
    """Make events, apply them, report; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--follows", type=int, default=2_000_000)
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    try:
        graph = generated(Size(options.accounts, options.follows))
        with tempfile.TemporaryDirectory(prefix="retinue-apply-") as folder:
            store = Path(folder) / "graph.db"
            for name in ("graph.db", "graph.access.db"):
                shutil.copy(graph / name, store.with_name(name))
            events = b"".join(drawn_events(graph, options.events))
            _measure(store, graph, events)
    except Failed as failure:
        sys.stderr.write(f"apply_rate: {failure}\n")
        return 1
    return 0


# --- the events -----------------------------------------------------------------------------------------------------


def drawn_events(graph: Path, count: int) -> Iterator[bytes]:
    """Seven in ten are new follows, one each an unfollow, a follow once more, and a new display name."""
    draw = random.Random(SEED)
    keys = {row["username"]: row["id"] for row in _rows(graph / "accounts.csv")}
    known = [
        (keys[row["follower"]], keys[row["followee"]], int(row["followed_at"])) for row in _rows(graph / "follows.csv")
    ]
    ids, known = list(keys.values()), draw.sample(known, count // 5)
    newest = max(at for *_, at in known)
    for number in range(count):
        follower, followee, at = known[number % len(known)]
        kind = draw.random()
        if kind < 0.1:
            yield _line(event="account", account=draw.choice(ids), display_name=f"name {number}", at=newest + number)
        elif kind < 0.2:
            yield _line(event="unfollow", follower=follower, followee=followee, at=newest + number)
        elif kind < 0.3:
            yield _line(event="follow", follower=follower, followee=followee, at=at)
        else:
            someone, other = draw.sample(ids, 2)
            yield _line(event="follow", follower=someone, followee=other, at=newest + number // 10)


def _line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


# --- measuring ------------------------------------------------------------------------------------------------------


def _measure(store: Path, graph: Path, events: bytes) -> None:
    owners = [row["username"] for row in _rows(graph / "accounts.csv") if row["visibility"] == "public"]
    with running_server(store, "--workers", "1") as server:
        reading, has_ended = Reading(), threading.Event()
        with Session(server.base_url, fresh_token(server, store)) as session:
            reader = threading.Thread(target=_read, args=(session, owners, reading, has_ended))
            reader.start()
            start = time.perf_counter()
            groups = _apply(store, events)
            seconds = time.perf_counter() - start
            has_ended.set()
            reader.join()
    if reading.fault:
        raise Failed(reading.fault)
    _report(groups, reading, seconds)


def _apply(store: Path, events: bytes) -> list[dict[str, int]]:
    """Send all events through a pipe; what was told of each durable group."""
    process = subprocess.Popen(
        command_of("apply", "--store", store), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told, said = process.communicate(events)
    if process.returncode:
        raise Failed(f"apply ended with exit code {process.returncode}\n{said.decode()}")
    return [json.loads(line) for line in told.splitlines()]


def _read(session: Session, owners: list[str], reading: Reading, has_ended: threading.Event) -> None:
    """Read pages of a list, then of another, until told to end."""
    draw = random.Random(SEED)
    query: dict[str, object] = {}
    began = time.perf_counter()
    while not has_ended.wait(began + len(reading.times) / PAGES_PER_SECOND - time.perf_counter()) and not reading.fault:
        query = query or {"username": draw.choice(owners), "max_count": ROWS}
        start = time.perf_counter()
        page = session.following(query)
        reading.times.append(time.perf_counter() - start)
        if page["has_more"] and len(page["user_following"]) < ROWS:
            reading.fault = f"a page of {query} is short: {page}"
        query = query | {"cursor": page["cursor"]} if page["has_more"] else {}


def _report(groups: list[dict[str, int]], reading: Reading, seconds: float) -> None:
    events = groups[-1]["line"]
    applied, duplicate = (sum(group[what] for group in groups) for what in ("applied", "duplicate"))
    quantiles = statistics.quantiles(reading.times, n=100)
    print(f"{events:,} events ({applied:,} applied, {duplicate:,} known) in {len(groups):,} durable groups")
    print(f"{events / seconds:>10,.0f} events a second")
    print(f"{len(reading.times) / seconds:>10,.0f} pages a second beside them")
    print(f"{1000 * quantiles[49]:>10.2f} ms a page (median), {1000 * quantiles[98]:.2f} ms (99 in 100 are quicker)")


if __name__ == "__main__":
    sys.exit(main())
