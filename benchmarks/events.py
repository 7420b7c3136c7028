"""Events that become durable while a server answers: how many a second, and pages across what they withheld."""

import csv
import json
import random
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from running import Failed, Server, Session, command_of, fresh_token, retinue, running_server
from scenario import Report, Scenario
from workload import Size, generated

SEED = 1
ROWS = 20

# --- events a second ------------------------------------------------------------------------------------------------

PAGES_PER_SECOND = 200


@dataclass(frozen=True, slots=True)
class EventOptions:
    """The size of the graph, and the number of events."""

    accounts: int = 100_000
    follows: int = 2_000_000
    events: int = 1_000_000


@dataclass
class Reading:
    """The seconds of each page, and the first fault."""

    times: list[float] = field(default_factory=list)
    fault: str = ""


def measure_events(options: EventOptions) -> Report:
    """Send events to `retinue apply` while pages are read."""
    graph = generated(Size(options.accounts, options.follows))
    events = b"".join(drawn_events(graph, options.events))
    owners = [row["username"] for row in _rows(graph / "accounts.csv") if row["visibility"] == "public"]
    with tempfile.TemporaryDirectory(prefix="retinue-apply-") as folder:
        store = Path(folder) / "graph.db"
        for name in ("graph.db", "graph.access.db"):
            shutil.copy(graph / name, store.with_name(name))
        with running_server(store, "--workers", "1") as server:
            groups, reading, seconds = _apply_beside_reading(server, store, owners, events)
    if reading.fault:
        raise Failed(reading.fault)
    return _report(groups, reading, seconds)


def drawn_events(graph: Path, count: int) -> Iterator[bytes]:
    """Yield events: seven in ten new follows, one each an unfollow, a repeated follow and a new display name."""
    draw = random.Random(SEED)
    keys = {row["username"]: row["id"] for row in _rows(graph / "accounts.csv")}
    follows = [
        (keys[row["follower"]], keys[row["followee"]], int(row["followed_at"])) for row in _rows(graph / "follows.csv")
    ]
    ids, follows = list(keys.values()), draw.sample(follows, count // 5)
    newest = max(at for *_, at in follows)
    for number in range(count):
        follower, followee, at = follows[number % len(follows)]
        kind = draw.random()
        if kind < 0.1:
            yield _line(event="account", account=draw.choice(ids), display_name=f"name {number}", at=newest + number)
        elif kind < 0.2:
            yield _line(event="unfollow", follower=follower, followee=followee, at=newest + number)
        elif kind < 0.3:
            yield _line(event="follow", follower=follower, followee=followee, at=at)
        else:
            one, other = draw.sample(ids, 2)
            yield _line(event="follow", follower=one, followee=other, at=newest + number // 10)


def _line(**fields: object) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _apply_beside_reading(
    server: Server, store: Path, owners: list[str], events: bytes
) -> tuple[list[dict[str, int]], Reading, float]:
    reading, has_ended = Reading(), threading.Event()
    with Session(server.base_url, fresh_token(server, store)) as session:
        reader = threading.Thread(target=_read, args=(session, owners, reading, has_ended))
        reader.start()
        start = time.perf_counter()
        try:
            groups = _apply(store, events)
        finally:
            seconds = time.perf_counter() - start
            has_ended.set()
            reader.join()
    return groups, reading, seconds


def _apply(store: Path, events: bytes) -> list[dict[str, int]]:
    """Send all events; return the report of each durable group."""
    process = subprocess.Popen(
        command_of("apply", "--store", store), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    output, errors = process.communicate(events)
    if process.returncode:
        raise Failed(f"apply ended with exit code {process.returncode}\n{errors.decode()}")
    return [json.loads(line) for line in output.splitlines()]


def _read(session: Session, owners: list[str], reading: Reading, has_ended: threading.Event) -> None:
    """Read pages of one list after the other until the end."""
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


def _report(groups: list[dict[str, int]], reading: Reading, seconds: float) -> Report:
    events = groups[-1]["line"]
    applied, duplicate = (sum(group[what] for group in groups) for what in ("applied", "duplicate"))
    quantiles = statistics.quantiles(reading.times, n=100)
    print(f"{events:,} events ({applied:,} applied, {duplicate:,} duplicates) in {len(groups):,} durable groups")
    print(f"{events / seconds:>10,.0f} events a second")
    print(f"{len(reading.times) / seconds:>10,.0f} pages a second beside them")
    print(f"{1000 * quantiles[49]:>10.2f} ms a page (median), {1000 * quantiles[98]:.2f} ms (p99)")
    figures = {"groups": len(groups), "applied": applied, "duplicates": duplicate, "seconds": seconds}
    return Report({**figures, "page_seconds": reading.times})


# --- withheld rows ---------------------------------------------------------------------------------------------------

OWNER = "owner"
FEW = 10
FIRST_SECOND = 1_600_000_000
VISIBLE_AFTER_SECONDS = 1.0  # a change of visibility may take so long to show
MAX_WAIT_SECONDS = 1800
PROBES = 50


@dataclass(frozen=True, slots=True)
class WithheldOptions:
    """The number of rows that are withheld."""

    rows: int = 1_000_000


def measure_withheld(options: WithheldOptions) -> Report:
    """Withhold, show and unfollow adjacent rows; time pages across them."""
    with tempfile.TemporaryDirectory(prefix="retinue-withheld-") as folder:
        return _measure_withheld(Path(folder) / "graph.db", options.rows)


def _measure_withheld(store: Path, rows: int) -> Report:
    follows = store.with_name("follows.csv")
    with follows.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("follower", "followee", "followed_at"))
        writer.writerows((OWNER, name, FIRST_SECOND + number) for number, name in enumerate(_names(rows)))
    retinue("import", "--store", store, follows)
    everyone = list(_names(rows))[::-1]
    few = [*everyone[:FEW], *everyone[-FEW:]]
    with running_server(store, "--workers", "1") as server:
        token = fresh_token(server, store)
        with Session(server.base_url, token) as session:
            usual = statistics.median(_timed(session, everyone[:ROWS]) for _ in range(PROBES))
        print(f"{'before':>12}: {1000 * usual:>9.2f} ms a page")
        pages: dict[str, dict[str, float]] = {}
        for kind, expected in (("withheld", few), ("public", everyone[:ROWS]), ("unfollowed", few)):
            seconds = _apply_to_all(store, kind, rows)
            print(f"{kind:>12}: {rows / seconds:>9,.0f} events a second", flush=True)
            time.sleep(VISIBLE_AFTER_SECONDS)
            with Session(server.base_url, token) as session:
                pages[kind] = {"events_per_second": rows / seconds, **_watch(session, expected, usual)}
    print(retinue("check", "--store", store).strip().rpartition("graph.db: ")[2])
    return Report({"seconds_before": usual, "pages": pages})


def _names(rows: int) -> Iterator[str]:
    """Yield all accounts of the list, oldest follow first."""
    yield from (f"old{number}" for number in range(FEW))
    yield from (f"many{number}" for number in range(rows))
    yield from (f"new{number}" for number in range(FEW))


def _apply_to_all(store: Path, kind: str, rows: int) -> float:
    """Apply an event of one kind to each row; return the seconds."""
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


def _watch(session: Session, expected: list[str], usual: float) -> dict[str, float]:
    """Ask until pages are fast again; return the times in seconds."""
    start = time.perf_counter()
    slowest = first = _timed(session, expected)
    while statistics.median(times := [_timed(session, expected) for _ in range(5)]) > 2 * usual:
        slowest = max(slowest, *times)
        if time.perf_counter() - start > MAX_WAIT_SECONDS:
            raise Failed(f"pages still take {1000 * statistics.median(times):.1f} ms")
        time.sleep(1)
    took = time.perf_counter() - start
    pages = f"the first page {1000 * first:,.2f} ms, the slowest {1000 * slowest:,.2f} ms"
    print(f"{'':>12}  exact at once; {pages}; as before after {took:,.0f} s", flush=True)
    return {"first": first, "slowest": slowest, "recovered": took}


def _timed(session: Session, expected: list[str]) -> float:
    start = time.perf_counter()
    data = session.page("following", {"username": OWNER, "max_count": ROWS})
    seconds = time.perf_counter() - start
    names = [row["username"] for row in data["user_following"]]
    if names != expected:
        raise Failed(f"the page shows {names} instead of {expected}")
    return seconds


SCENARIOS: Mapping[str, Scenario[Any]] = {
    "events": Scenario(measure_events, EventOptions(), EventOptions(500, 20_000, events=2_000), cores=1),
    "withheld": Scenario(measure_withheld, WithheldOptions(), WithheldOptions(rows=2_000), cores=1),
}
