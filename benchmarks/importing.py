"""Speed, memory and disk space of imports, beside PostgreSQL.

A graph of 1.2 times the follows is generated and split by chance, so that the smaller part lies anywhere in all lists.
Then, one after the other on all cores: `retinue import` of accounts, of follows into a store without any, from Parquet
and from CSV, and of the smaller part into the full store; and PostgreSQL 15: COPY of both tables, the follows as names
into a staging table, their ids by a join, then the unique pair and an index for each direction. PostgreSQL keeps times
as they are; imports also find a slot of its own for each follow in each list.

Memory is the peak of all processes together, shared memory counted once. Temporary disk is the peak of what the folder
holds beyond what stays.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import duckdb

import figures
from debian import POSTGRES
from figures import MIB
from postgres import Cluster, make_cluster, running_cluster
from processes import folder_bytes, resident_bytes, unlinked_bytes, watched
from running import Failed, command_of
from scenario import Report, Scenario
from workload import Size, generate, table_of

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
class Options:
    """The size of the graph that is imported first."""

    accounts: int = 100_000
    follows: int = 50_000_000


@dataclass(frozen=True, slots=True)
class Imported:
    """One import: rows, seconds, peaks of memory and of temporary disk, and the space that the rows take."""

    name: str
    rows: int
    seconds: float
    memory_bytes: int
    temporary_bytes: int
    stored_bytes: int

    @property
    def rows_per_second(self) -> float:
        """Return the speed."""
        return self.rows / self.seconds

    @property
    def bytes_a_row(self) -> float:
        """Return the disk space of a row with all indexes."""
        return self.stored_bytes / self.rows


@dataclass(frozen=True, slots=True)
class Files:
    """The data: accounts and most follows by their format, and the rest of the follows."""

    accounts: dict[str, Path]
    follows: dict[str, Path]
    more: Path
    follow_count: int
    more_count: int


@dataclass(frozen=True, slots=True)
class StoreFolder:
    """A folder with a store and its temporary files."""

    folder: Path

    @property
    def store(self) -> Path:
        """Return the store."""
        return self.folder / "graph.db"

    @property
    def store_bytes(self) -> int:
        """Return the size of its files."""
        return sum(path.stat().st_size for path in self.folder.glob(f"{self.store.name}*"))


def measure(options: Options) -> Report:
    """Generate, import in each way, and report."""
    with tempfile.TemporaryDirectory(prefix="retinue-import-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # PostgreSQL reads the files itself, as another user
        imports = _measure(folder, Size(options.accounts, options.follows))
    print("\n".join([f"{options.accounts:,} accounts", *lines(imports)]))
    return Report({"imports": [asdict(each) for each in imports]})


def _measure(folder: Path, size: Size) -> list[Imported]:
    files = _files(folder / "data", size)
    imports = []
    for kind in ("parquet", "csv"):
        work = StoreFolder(folder / kind)
        imports += [
            _imported(f"accounts, {kind}", work, ("--accounts", files.accounts[kind]), size.accounts),
            _imported(f"follows, {kind}", work, (files.follows[kind],), files.follow_count),
        ]
        if kind == "parquet":
            imports.append(_imported("another 20 %, parquet", work, (files.more,), files.more_count))
    return [*imports, _postgres(folder, files)]


def _imported(name: str, work: StoreFolder, tables: tuple[str | Path, ...], count: int) -> Imported:
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
    """Write the rows of a query; return their number."""
    form = "FORMAT csv, HEADER" if path.suffix == ".csv" else "FORMAT parquet"
    row = connection.execute(f"COPY ({query}) TO '{path}' ({form})").fetchone()
    assert row is not None
    return int(row[0])


# --- PostgreSQL -----------------------------------------------------------------------------------------------------


def _postgres(folder: Path, files: Files) -> Imported:
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
        raise Failed(f"{name}: of {files.follow_count:,} follows {count:,} arrived")
    return Imported(name, count, seconds, memory.value, disk.value - start_bytes - taken, taken)


async def _fill(cluster: Cluster, files: Files) -> tuple[int, int]:
    """Load everything; return the number of follows and their bytes."""
    connection = await cluster.connect()
    try:
        await connection.execute(_SCHEMA)
        for statement in _LOAD:
            await connection.execute(statement.format(accounts=files.accounts["csv"], follows=files.follows["csv"]))
        count, taken = await connection.fetchrow("SELECT count(*), pg_total_relation_size('follow') FROM follow")
    finally:
        await connection.close()
    return count, taken


# --- one import ------------------------------------------------------------------------------------------------------


def measured_import(name: str, work: StoreFolder, tables: tuple[str | Path, ...], count: int) -> Imported:
    """Import files into a store and watch. Raises `Failed` unless `count` rows of the last file were accepted."""
    work.folder.mkdir(exist_ok=True)
    temporary = work.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    before = work.store_bytes
    command = command_of("import", "--store", work.store, "--json", *tables)
    start = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, "TMPDIR": str(temporary)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        try:
            with watched(*measures(process.pid, work.folder)) as (memory, disk):
                output, errors = process.communicate()
        except BaseException:
            process.kill()
            raise
        seconds = time.perf_counter() - start
    if process.returncode:
        raise Failed(f"{' '.join(command)}\nended with exit code {process.returncode}\n{errors.decode()}")
    accepted = {Path(path).name: counts["accepted"] for path, counts in json.loads(output).items()}
    if accepted[Path(tables[-1]).name] != count:
        raise Failed(f"{name}: of {count:,} rows these were accepted: {accepted}")
    temporary_bytes = max(0, disk.value - folder_bytes(work.folder))
    return Imported(name, count, seconds, memory.value, temporary_bytes, work.store_bytes - before)


def measures(pid: int, folder: Path) -> tuple[Callable[[], int], Callable[[], int]]:
    """Return measures of a process tree's memory and disk space."""
    return partial(resident_bytes, pid), lambda: folder_bytes(folder) + unlinked_bytes(pid)


def lines(imports: Sequence[Imported]) -> list[str]:
    """Return a table of imports with a head."""
    head = ("", "rows", "seconds", "rows/s", "memory MiB", "temporary MiB", "bytes a row")
    return figures.table([head, *map(_cells, imports)])


def _cells(each: Imported) -> tuple[str, ...]:
    return (
        each.name,
        f"{each.rows:,}",
        f"{each.seconds:,.1f}",
        f"{each.rows_per_second:,.0f}",
        f"{each.memory_bytes / MIB:,.0f}",
        f"{each.temporary_bytes / MIB:,.0f}",
        f"{each.bytes_a_row:.1f}",
    )


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "import": Scenario(measure, Options(), Options(20_000, 1_000_000), programs=(POSTGRES,), cores=1)
}
