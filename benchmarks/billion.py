"""A billion follows on one machine, or as many as its disk has room for: import, size, start, pages warm and cold.

Ten million accounts and their follows are generated and imported; then a server answers 200 requests a second, sent at
random instants whatever it does. Warm: each of them was asked before. Cold: the server has just started, none of them
was ever asked, and nothing of the store is in the system's cache.

The disk has to hold the files to import, the store twice (its log is as large until the import ends) and what is
sorted. Where it has no room for a billion, the largest power of ten that fits is taken. .cache/bench/billion.json has
all figures.
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import apsw

from bench import machine
from graphs import CACHE, Size, generate
from import_figures import Load, lines
from measured_import import Work, measured_import
from open_loop import Plan, Seen
from process_tree import require_cores
from running import AMPLE_LIMITS, Failed, Server, command_of, fresh_token, running, running_server
from traffic import BODIES, draw_bodies, pace

ACCOUNTS = 10_000_000
FOLLOWS = 1_000_000_000
FEWEST = 1_000
BYTES_A_FOLLOW = 110  # of disk, at the worst moment
BYTES_AN_ACCOUNT = 1_000
MAX_COUNTS = (20, 100)
CONNECTIONS = 32
SERVER_CORE, SENDER_CORE = 0, 1

_OF_ACCOUNTS = (
    *("account", "sqlite_autoindex_account_1", "sqlite_autoindex_account_2", "account_changed"),
    *("claim", "claim_account", "profile"),
)


@dataclass(frozen=True, slots=True)
class Options:
    """What to measure."""

    accounts: int
    follows: int
    rate: float
    seconds: int
    runs: int


@dataclass(frozen=True, slots=True)
class Pages:
    """Runs of one kind, and the bytes that the server read from the disk in each."""

    name: str
    max_count: int
    seen: tuple[Seen, ...]
    read_bytes: tuple[int, ...]


def main() -> int:
    """Make, measure, report; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped then too
    try:
        require_cores(SERVER_CORE, SENDER_CORE)
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="billion-", dir=CACHE) as name:
            options = _options(shutil.disk_usage(name).free)
            _measure(Path(name), options)
    except Failed as failure:
        sys.stderr.write(f"billion: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("billion: stopped\n")
        return 130
    return 0


def _options(free: int) -> Options:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--follows", type=int, help="a billion, or the largest power of ten for which there is room")
    parser.add_argument("--rate", type=float, default=200, help="requests a second")
    parser.add_argument("--seconds", type=int, default=10, help="length of a run")
    parser.add_argument("--runs", type=int, default=5)
    given = vars(parser.parse_args())
    wanted = given.pop("follows")
    return Options(follows=follows_that_fit(wanted, given["accounts"], free), **given)


def follows_that_fit(wanted: int | None, accounts: int, free: int) -> int:
    """So many follows, if there is room for them; without a wish a billion, or the largest power of ten that fits.

    Raises `Failed`.
    """
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


def _measure(folder: Path, options: Options) -> None:
    start = time.perf_counter()
    generate(Size(options.accounts, options.follows), folder, "parquet")
    print(f"generated in {time.perf_counter() - start:,.0f} s", flush=True)
    work = Work(folder / "store")
    loads = [
        measured_import("accounts", work, ("--accounts", folder / "accounts.parquet"), options.accounts),
        measured_import("follows", work, (folder / "follows.parquet",), options.follows),
    ]
    print("\n".join(lines(loads)), flush=True)
    bytes_a_follow = _bytes_of_follows(work.store) / options.follows
    starts = [_start_seconds(work.store) for _ in range(options.runs)]
    print(f"{bytes_a_follow:.1f} bytes a follow, in both directions and with all that belongs to follows")
    print(f"a server announces itself after {_spread(starts, 's')}", flush=True)
    pages = [each for max_count in MAX_COUNTS for each in _pages(folder, work.store, max_count, options)]
    for each in pages:
        print(_line_of(each), flush=True)
    print(f"all figures are in {_save(options, loads, bytes_a_follow, starts, pages)}")


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
    bodies = folder / "bodies.jsonl"
    drawn = draw_bodies(folder / "accounts.parquet", folder / "follows.parquet", max_count)
    bodies.write_bytes(b"\n".join(dict.fromkeys(drawn)))
    with _serving(store) as (server, token):
        _ask(server, token, bodies, 0, options)
        warm = [_ask(server, token, bodies, 0, options) for _ in range(options.runs)]
    yield Pages("warm", max_count, *zip(*warm, strict=True))
    cold = []
    for number in range(options.runs):
        _forget(store)
        with _serving(store) as (server, token):
            first = BODIES // 4 + number * BODIES // (2 * options.runs)
            cold.append(_ask(server, token, bodies, first, options))
    yield Pages("cold", max_count, *zip(*cold, strict=True))


@contextmanager
def _serving(store: Path) -> Iterator[tuple[Server, str]]:
    with running_server(store, "--workers", "1", core=SERVER_CORE) as server:
        yield server, fresh_token(server, store, *AMPLE_LIMITS)


def _ask(server: Server, token: str, bodies: Path, first: int, options: Options) -> tuple[Seen, int]:
    url = server.list_url("following")
    before = _read_bytes(server)
    seen = pace(
        Plan(url, str(bodies), token, options.rate, options.seconds, CONNECTIONS, seed=first, first=first),
        core=SENDER_CORE,
    )
    return seen, _read_bytes(server) - before


def _read_bytes(server: Server) -> int:
    """What the workers have read from the disk up to now (proc(5), /proc/pid/io)."""
    lines_of = [Path(f"/proc/{pid}/io").read_text().splitlines() for pid in server.workers()]
    return sum(int(line.split()[1]) for found in lines_of for line in found if line.startswith("read_bytes"))


def _forget(store: Path) -> None:
    """Let the system's cache forget the store."""
    for path in store.parent.glob(f"{store.name}*"):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


# --- reporting ------------------------------------------------------------------------------------------------------


def _spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f} {unit} ({min(values):.2f}-{max(values):.2f})"


def _line_of(pages: Pages) -> str:
    p50 = _spread([seen.p50_milliseconds for seen in pages.seen], "ms")
    p99 = _spread([seen.p99_milliseconds for seen in pages.seen], "ms")
    requests = sum(seen.answered for seen in pages.seen)
    kept = "" if all(seen.kept_schedule for seen in pages.seen) else "; THE SENDER WAS LATE"
    return (
        f"{pages.max_count:>3} rows, {pages.name}: p50 {p50}, p99 {p99},"
        f" {sum(pages.read_bytes) / requests / 1024:.1f} KiB read from disk a page{kept}"
    )


def _save(options: Options, loads: list[Load], bytes_a_follow: float, starts: list[float], pages: list[Pages]) -> Path:
    report = {
        "options": asdict(options),
        "machine": machine(),
        "loads": [asdict(load) for load in loads],
        "bytes_a_follow": bytes_a_follow,
        "start_seconds": starts,
        "pages": [asdict(each) for each in pages],
    }
    path = CACHE / "billion.json"
    path.write_text(json.dumps(report, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
