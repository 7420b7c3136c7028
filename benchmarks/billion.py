"""A billion follows, or as many as the disk can hold: import, size, start, pages warm and cold.

Ten million accounts and their follows are generated and imported; then a server answers 200 requests a second, sent at
random instants. Warm: each request was sent before. Cold: the server has just started, each request is new, and nothing
of the store is in the system's cache. The disk must hold the files to import, the store twice (its log is as large
until the import ends) and the data being sorted.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import apsw

from figures import spread
from importing import StoreFolder, lines, measured_import
from retinue.store.layout.tables import ACCOUNT, ACCOUNT_KEY, CHANGE, CLAIM, META, USERNAME
from running import AMPLE_LIMITS, Failed, Server, command_of, fresh_token, running, running_server
from scenario import CACHE, CLIENT_CORE, SERVER_CORE, Report, Scenario
from senders import Plan, Sent
from workload import BODIES, Size, draw_bodies, generate, pace, write_lines

FOLLOWS = 1_000_000_000
FEWEST = 1_000
BYTES_A_FOLLOW = 110  # of disk, at the worst moment
BYTES_AN_ACCOUNT = 1_000
MAX_COUNTS = (20, 100)
CONNECTIONS = 32

_OF_ACCOUNTS = {table.name for table in (META, ACCOUNT, ACCOUNT_KEY, USERNAME, CLAIM, CHANGE)}


@dataclass(frozen=True, slots=True)
class Options:
    """The graph, the request rate, and the runs."""

    accounts: int = 10_000_000
    follows: int = 0  # 0: a billion, or the largest power of ten that fits
    rate: float = 200
    seconds: int = 10
    runs: int = 5


@dataclass(frozen=True, slots=True)
class Pages:
    """Runs of one kind, and the bytes read from disk in each."""

    name: str
    max_count: int
    sent: tuple[Sent, ...]
    read_bytes: tuple[int, ...]


def measure(options: Options) -> Report:
    """Generate, import, start, send requests, and report."""
    with tempfile.TemporaryDirectory(prefix="billion-", dir=CACHE) as name:
        free = shutil.disk_usage(name).free
        follows = follows_that_fit(options.follows or None, options.accounts, free)
        return _measure(Path(name), replace(options, follows=follows))


def follows_that_fit(wanted: int | None, accounts: int, free: int) -> int:
    """Return `wanted`, or the most follows that fit. Raises `Failed` if it does not fit."""
    fits = FOLLOWS
    while fits >= FEWEST and _needed(accounts, fits) > free:
        fits //= 10
    short = (
        f"{wanted or FOLLOWS:,} follows of {accounts:,} accounts may need"
        f" {_needed(accounts, wanted or FOLLOWS) / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free"
    )
    if fits < FEWEST or (wanted and _needed(accounts, wanted) > free):
        raise Failed(f"{short}; {f'--follows {fits} would fit' if fits >= FEWEST else 'not even 1,000 would fit'}")
    if not wanted and fits < FOLLOWS:
        print(f"{short}: taking {fits:,}", flush=True)
    return wanted or fits


def _needed(accounts: int, follows: int) -> int:
    return BYTES_A_FOLLOW * follows + BYTES_AN_ACCOUNT * accounts


# --- the steps ------------------------------------------------------------------------------------------------------


def _measure(folder: Path, options: Options) -> Report:
    start = time.perf_counter()
    generate(Size(options.accounts, options.follows), folder, "parquet")
    print(f"generated in {time.perf_counter() - start:,.0f} s", flush=True)
    work = StoreFolder(folder / "store")
    imports = [
        measured_import("accounts", work, ("--accounts", folder / "accounts.parquet"), options.accounts),
        measured_import("follows", work, (folder / "follows.parquet",), options.follows),
    ]
    print("\n".join(lines(imports)), flush=True)
    bytes_a_follow = _bytes_of_follows(work.store) / options.follows
    starts = [_start_seconds(work.store) for _ in range(options.runs)]
    print(f"{bytes_a_follow:.1f} bytes a follow, in both directions and with all that belongs to follows")
    print(f"a server announces itself after {spread(starts):.2f} s", flush=True)
    pages = [each for max_count in MAX_COUNTS for each in _pages(folder, work.store, max_count, options)]
    for each in pages:
        print(_line_of(each), flush=True)
    return Report(
        {
            "follows": options.follows,
            "imports": [asdict(each) for each in imports],
            "bytes_a_follow": bytes_a_follow,
            "start_seconds": starts,
            "pages": [asdict(each) for each in pages],
        }
    )


def _bytes_of_follows(store: Path) -> int:
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        tables = dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"))
    finally:
        connection.close()
    return sum(taken for table, taken in tables.items() if table not in _OF_ACCOUNTS)


def _start_seconds(store: Path) -> float:
    command = command_of("serve", "--store", store, "--port", "0", "--management-port", "0")
    start = time.perf_counter()
    with running(command):
        return time.perf_counter() - start


def _pages(folder: Path, store: Path, max_count: int, options: Options) -> Iterator[Pages]:
    drawn = draw_bodies(folder / "accounts.parquet", folder / "follows.parquet", max_count)
    bodies = write_lines(folder / "bodies.jsonl", list(dict.fromkeys(drawn)))
    with _serving(store) as (server, token):
        _ask(server, token, bodies, 0, options)
        warm = [_ask(server, token, bodies, 0, options) for _ in range(options.runs)]
    yield Pages("warm", max_count, *zip(*warm, strict=True))
    cold = []
    for number in range(options.runs):
        _drop_from_cache(store)
        with _serving(store) as (server, token):
            first = BODIES // 4 + number * BODIES // (2 * options.runs)
            cold.append(_ask(server, token, bodies, first, options))
    yield Pages("cold", max_count, *zip(*cold, strict=True))


@contextmanager
def _serving(store: Path) -> Iterator[tuple[Server, str]]:
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        yield server, fresh_token(server, store, *AMPLE_LIMITS)


def _ask(server: Server, token: str, bodies: Path, first: int, options: Options) -> tuple[Sent, int]:
    url = server.list_url("following")
    before = _read_bytes(server)
    sent = pace(
        Plan(url, str(bodies), token, options.rate, options.seconds, CONNECTIONS, seed=first, first=first),
        core=CLIENT_CORE,
    )
    return sent, _read_bytes(server) - before


def _read_bytes(server: Server) -> int:
    """Return the bytes that the workers have read from the disk."""
    texts = [Path(f"/proc/{pid}/io").read_text().splitlines() for pid in server.workers()]
    return sum(int(line.split()[1]) for text in texts for line in text if line.startswith("read_bytes"))


def _drop_from_cache(store: Path) -> None:
    """Drop the store from the system's cache."""
    for path in store.parent.glob(f"{store.name}*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _line_of(pages: Pages) -> str:
    p50 = spread(each.p50_milliseconds for each in pages.sent)
    p99 = spread(each.p99_milliseconds for each in pages.sent)
    requests = sum(each.answered for each in pages.sent)
    late = "" if all(each.kept_schedule for each in pages.sent) else "; THE SENDER WAS LATE"
    return (
        f"{pages.max_count:>3} rows, {pages.name}: p50 {p50:.2f} ms, p99 {p99:.2f} ms,"
        f" {sum(pages.read_bytes) / requests / 1024:.1f} KiB read from disk a page{late}"
    )


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "billion": Scenario(measure, Options(), Options(2_000, 200_000, seconds=1, runs=2))
}
