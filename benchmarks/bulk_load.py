"""How fast follows are imported, in what memory and on how much disk, beside PostgreSQL on the same data.

A graph of 1.2 times the follows is generated and cut in two by chance, so that the smaller part lies anywhere in all
lists. Then, one after the other on all cores: `retinue import` of accounts, then of follows into a store that has none
yet, from Parquet and from CSV; of the smaller part into the store that is full already; and PostgreSQL 15: COPY of both
tables, the follows as names into a staging table, their ids by a join, then the unique pair and an index for each
direction.
PostgreSQL keeps times as they are: it does not find a second of its own for each follow in each list, as imports do.

Memory is the peak of all processes together, shared memory counted once. Temporary disk is the peak of what the folder
holds beyond what stays. .cache/bench/import.json has all figures.
"""

import argparse
import asyncio
import json
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from bench import machine
from debian import POSTGRES, require
from graphs import CACHE, Size, generate
from import_figures import Load, lines
from measured_import import Work, measured_import, measures
from postgres import Cluster, make_cluster, running_cluster
from process_tree import folder_bytes, watched
from running import Failed
from traffic import table_of

FULL = (100_000, 50_000_000)
QUICK = (20_000, 1_000_000)
PARTS = 6  # one of them is the smaller part: 20 % of the rest

_SCHEMA = """
    CREATE TABLE account (id bigint PRIMARY KEY, username text NOT NULL, display_name text NOT NULL, visibility text,
        bio_description text, is_verified boolean, likes_count bigint);
    CREATE TABLE follow (follower bigint NOT NULL, followee bigint NOT NULL, followed_at bigint NOT NULL);
    CREATE UNLOGGED TABLE staging (follower text, followee text, followed_at bigint);
"""
_RESOLVE = """
    INSERT INTO follow SELECT owner.id, friend.id, followed_at
    FROM staging
    JOIN account AS owner ON owner.username = staging.follower
    JOIN account AS friend ON friend.username = staging.followee
"""
_LOAD = (
    "COPY account FROM '{accounts}' (FORMAT csv, HEADER, FORCE_NOT_NULL (bio_description, display_name))",
    "CREATE UNIQUE INDEX ON account (username)",
    "COPY staging FROM '{follows}' (FORMAT csv, HEADER)",
    "ANALYZE account, staging",
    _RESOLVE,
    "DROP TABLE staging",
    "ALTER TABLE follow ADD PRIMARY KEY (follower, followee)",
    "CREATE INDEX ON follow (follower, followed_at DESC) INCLUDE (followee)",
    "CREATE INDEX ON follow (followee, followed_at DESC) INCLUDE (follower)",
    "ANALYZE follow",
    "CHECKPOINT",
)


@dataclass(frozen=True, slots=True)
class Files:
    """The data: accounts, most follows in two forms, and the rest of the follows."""

    accounts: dict[str, Path]  # by kind
    follows: dict[str, Path]
    more: Path
    follow_count: int
    more_count: int


def main() -> int:
    """Generate, load in each way, report; the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that everything is stopped then too
    size = _size()
    try:
        require(POSTGRES)
        with tempfile.TemporaryDirectory(prefix="retinue-import-") as name:
            folder = Path(name)
            folder.chmod(0o755)  # PostgreSQL is somebody else, and reads the files itself
            loads = _measure(folder, size)
    except Failed as failure:
        sys.stderr.write(f"bulk_load: {failure}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("bulk_load: stopped\n")
        return 130
    print("\n".join([f"{size.accounts:,} accounts", *lines(loads)]))
    path = CACHE / "import.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    report = {"accounts": size.accounts, "machine": machine(), "loads": [asdict(load) for load in loads]}
    path.write_text(json.dumps(report, indent=2) + "\n")
    print(f"all figures are in {path}")
    return 0


def _size() -> Size:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a million follows")
    parser.add_argument("--accounts", type=int)
    parser.add_argument("--follows", type=int, help="how many are imported at first")
    options = parser.parse_args()
    accounts, follows = QUICK if options.quick else FULL
    return Size(options.accounts or accounts, options.follows or follows)


def _measure(folder: Path, size: Size) -> list[Load]:
    files = _files(folder / "data", size)
    loads = []
    for kind in ("parquet", "csv"):
        work = Work(folder / kind)
        loads += [
            _imported(f"accounts, {kind}", work, ("--accounts", files.accounts[kind]), size.accounts),
            _imported(f"follows, {kind}", work, (files.follows[kind],), files.follow_count),
        ]
        if kind == "parquet":
            loads.append(_imported("another 20 %, parquet", work, (files.more,), files.more_count))
    return [*loads, _postgres(folder, files)]


def _imported(name: str, work: Work, tables: tuple[str | Path, ...], count: int) -> Load:
    _say(name)
    return measured_import(name, work, tables, count)


# --- the data -------------------------------------------------------------------------------------------------------


def _files(folder: Path, size: Size) -> Files:
    _say("generating")
    total = Size(size.accounts, size.follows * PARTS // (PARTS - 1), size.seed)
    generate(total, folder, "parquet")
    accounts = {kind: folder / f"accounts.{kind}" for kind in ("parquet", "csv")}
    follows = {kind: folder / f"most.{kind}" for kind in ("parquet", "csv")}
    more = folder / "more.parquet"
    with duckdb.connect() as connection:
        table_of(connection, folder / "follows.parquet").create_view("follow")
        table_of(connection, accounts["parquet"]).create_view("account")
        connection.execute(f"COPY account TO '{accounts['csv']}' (FORMAT csv, HEADER)")
        chance = f"hash(follower, followee) % {PARTS}"
        most = _written(connection, f"FROM follow WHERE {chance} > 0", follows["parquet"])
        _written(connection, f"FROM '{follows['parquet']}'", follows["csv"])
        rest = _written(connection, f"FROM follow WHERE {chance} = 0", more)
    (folder / "follows.parquet").unlink()
    return Files(accounts, follows, more, most, rest)


def _written(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    """Write what a query gives; how many rows that is."""
    form = "FORMAT csv, HEADER" if path.suffix == ".csv" else "FORMAT parquet"
    row = connection.execute(f"COPY ({query}) TO '{path}' ({form})").fetchone()
    assert row is not None
    return int(row[0])


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def _postgres(folder: Path, files: Files) -> Load:
    name = "PostgreSQL, COPY of CSV"
    _say(name)
    work = folder / "postgres"
    work.mkdir()
    make_cluster(work)
    with running_cluster(work) as cluster, watched(*measures(cluster.pid, cluster.data)) as (memory, disk):
        start_bytes = folder_bytes(cluster.data)
        start = time.perf_counter()
        count, taken = asyncio.run(_fill(cluster, files))
        seconds = time.perf_counter() - start
    if count != files.follow_count:
        raise Failed(f"{name}: of {files.follow_count:,} follows {count:,} are there")
    return Load(name, count, seconds, memory.value, disk.value - start_bytes - taken, taken)


async def _fill(cluster: Cluster, files: Files) -> tuple[int, int]:
    """Load everything; how many follows there are, and the bytes that they take with their indexes."""
    connection = await cluster.connect()
    try:
        await connection.execute(_SCHEMA)
        for statement in _LOAD:
            await connection.execute(statement.format(accounts=files.accounts["csv"], follows=files.follows["csv"]))
        count, taken = await connection.fetchrow("SELECT count(*), pg_total_relation_size('follow') FROM follow")
    finally:
        await connection.close()
    return count, taken


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
