"""A temporary PostgreSQL server, and the hand-made service's tables.

Only the programs of Debian's package are used; its clusters are not touched.
"""

import asyncio
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import asyncpg
import duckdb

from debian import POSTGRES_BINARIES, as_servant, give_to_servant
from figures import MIB
from running import Client, Failed
from workload import table_of

START_SECONDS = 60.0
STOP_SECONDS = 120.0

_USER = "benchmark"

_SCHEMA = """
    CREATE TABLE account (
        id integer PRIMARY KEY,
        username text NOT NULL,
        display_name text NOT NULL,
        visibility text NOT NULL
    );

    -- `second` is when the follow happened, or the nearest free earlier second of the list, so that a cursor of plain
    -- seconds tells any two rows of a list apart.
    CREATE TABLE follow (
        follower integer NOT NULL,
        second bigint NOT NULL,
        followee integer NOT NULL
    );

    CREATE TABLE client (
        id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
        client_key text NOT NULL UNIQUE,
        secret_digest bytea NOT NULL
    );

    CREATE TABLE token (
        digest bytea PRIMARY KEY,
        client integer NOT NULL REFERENCES client,
        expires_at timestamptz NOT NULL
    );
"""
# After the n-th row of a list, counted from the newest, no second is later than any earlier row's second minus the rows
# between them; the minimum over those is the free second nearest to the row's own.
_ROWS = """
    CREATE TABLE numbered AS SELECT row_number() OVER () AS id, * FROM account;
    CREATE TABLE placed AS
    SELECT owner.id AS follower, friend.id AS followee, followed_at,
        row_number() OVER (PARTITION BY owner.id ORDER BY followed_at DESC, line) AS place
    FROM (SELECT row_number() OVER () AS line, * FROM follow) AS follow
    JOIN numbered AS owner ON owner.username = follow.follower
    JOIN numbered AS friend ON friend.username = follow.followee
"""
_ACCOUNTS = "SELECT id, username, display_name, visibility FROM numbered"
_FOLLOWS = """
    SELECT follower, min(followed_at + place) OVER (PARTITION BY follower ORDER BY place) - place AS second, followee
    FROM placed
"""
_AFTERWARDS = (
    "CREATE UNIQUE INDEX ON account (username)",
    # Everything that a page needs of a follow is in the index, so the table itself is not looked at.
    "CREATE UNIQUE INDEX follow_list ON follow (follower, second DESC) INCLUDE (followee)",
    "VACUUM (ANALYZE, FREEZE) account",
    "VACUUM (ANALYZE, FREEZE) follow",
    "CREATE EXTENSION pg_prewarm",
)
# The most requested comes last, so that it stays in memory if not all of it fits.
_HOT = ("follow_list", "account_username_idx", "account_pkey", "account")


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running server: the folder of its socket, and its first process."""

    folder: Path
    pid: int

    @property
    def data(self) -> Path:
        """Return the folder of its files."""
        return self.folder / "data"

    @property
    def address(self) -> str:
        """Return the address to connect to."""
        return f"postgresql://{_USER}@/postgres?host={self.folder}"

    async def connect(self) -> "asyncpg.Connection[asyncpg.Record]":
        """Open a connection."""
        return await asyncpg.connect(self.address)


def settings_for(memory_bytes: int) -> dict[str, str]:
    """Return sensible settings for a machine with some memory."""
    mebibytes = memory_bytes // MIB
    return {
        "shared_buffers": f"{min(2048, mebibytes // 4)}MB",
        "effective_cache_size": f"{mebibytes // 2}MB",
        "maintenance_work_mem": f"{min(1024, mebibytes // 8)}MB",
        "work_mem": "32MB",
        "random_page_cost": "1.1",
        "effective_io_concurrency": "200",
        "jit": "off",  # it compiles queries that last milliseconds; these do not
        "max_connections": "50",
        "max_wal_size": "8GB",
        "checkpoint_timeout": "30min",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_parallel_maintenance_workers": "2",
    }


def make_cluster(folder: Path) -> None:
    """Initialise an empty server in a folder."""
    give_to_servant(folder)
    command = [str(POSTGRES_BINARIES / "initdb"), "-D", str(folder / "data"), "-U", _USER, "--auth=trust"]
    # Names are compared by their bytes: the fastest, and as Retinue does it.
    _run(as_servant([*command, "--encoding=UTF8", "--locale=C", "--no-sync"]))


@contextmanager
def running_cluster(
    folder: Path, extra: Mapping[str, str] | None = None, *, core: int | None = None
) -> Iterator[Cluster]:
    """Run the server of a folder until the block ends."""
    settings = {
        **settings_for(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
        "listen_addresses": "",
        "unix_socket_directories": str(folder),
        **(extra or {}),
    }
    pinned = [] if core is None else ["taskset", "-c", str(core)]
    flags = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    command = as_servant([str(POSTGRES_BINARIES / "postgres"), "-D", str(folder / "data"), *flags])
    log = folder / "postgres.log"
    with log.open("ab") as output:
        # In its own session, so that Ctrl-C stops its client first.
        process = subprocess.Popen(
            [*pinned, *command], stdout=output, stderr=output, cwd=folder, start_new_session=True
        )
    try:
        cluster = Cluster(folder, process.pid)
        _await_start(cluster, process, log)
        yield cluster
    finally:
        _stop(process)


def _await_start(cluster: Cluster, process: "subprocess.Popen[bytes]", log: Path) -> None:
    async def try_once() -> None:
        await (await cluster.connect()).close()

    deadline = time.monotonic() + START_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            return asyncio.run(try_once())
        except (OSError, asyncpg.PostgresError):
            time.sleep(0.1)
    raise Failed(f"PostgreSQL did not start; it said\n{log.read_text()[-2000:]}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Shut down fast: end sessions, then make a checkpoint."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGQUIT)
        process.wait()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise Failed(f"`{' '.join(command)}` failed\n{done.stdout}{done.stderr}")


# --- tables of the hand-made service ---------------------------------------------------------------------------------


def load_handmade_tables(cluster: Cluster, accounts: Path, follows: Path, scratch: Path) -> Client:
    """Fill the tables of the hand-made service; return a client."""
    tables = {"account": scratch / "account.csv", "follow": scratch / "follow.csv"}
    _write_tables(accounts, follows, tables, scratch)
    return asyncio.run(_fill(cluster, tables))


def warm(cluster: Cluster) -> None:
    """Read tables and indexes of pages into memory."""

    async def read_all() -> None:
        connection = await cluster.connect()
        try:
            for name in _HOT:
                await connection.fetchval("SELECT pg_prewarm($1::text::regclass)", name)
        finally:
            await connection.close()

    asyncio.run(read_all())


def _write_tables(accounts: Path, follows: Path, tables: dict[str, Path], scratch: Path) -> None:
    """Write rows for COPY, with ids in place of names."""
    with duckdb.connect(scratch / "rows.db") as connection:
        for name, path in (("account", accounts), ("follow", follows)):
            table_of(connection, path).create_view(name)
        connection.execute(_ROWS)
        for query, path in ((_ACCOUNTS, tables["account"]), (_FOLLOWS, tables["follow"])):
            connection.execute(f"COPY ({query}) TO '{path}' (FORMAT csv, HEADER false, FORCE_QUOTE *)")
    (scratch / "rows.db").unlink()


async def _fill(cluster: Cluster, tables: dict[str, Path]) -> Client:
    client = Client(secrets.token_hex(8), secrets.token_urlsafe(32))
    connection = await cluster.connect()
    try:
        await connection.execute(_SCHEMA)
        for name, path in tables.items():
            await connection.copy_to_table(name, source=path, format="csv")
            path.unlink()
        for statement in _AFTERWARDS:
            await connection.execute(statement)
        await _register(connection, client)
    finally:
        await connection.close()
    return client


async def _register(connection: "asyncpg.Connection[asyncpg.Record]", client: Client) -> None:
    digest = sha256(client.secret.encode()).digest()
    await connection.execute("INSERT INTO client (client_key, secret_digest) VALUES ($1, $2)", client.key, digest)
