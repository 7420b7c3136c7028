"""Fills the hand-made service's database with a generated graph, by COPY, and registers a client."""

import asyncio
import secrets
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from postgres import Cluster
from running import Client
from traffic import table_of

if TYPE_CHECKING:
    import asyncpg

_SCHEMA = Path(__file__).with_name("schema.sql")

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
# What is asked for most comes last, so that it stays where not all of it fits.
_HOT = ("follow_list", "account_username_idx", "account_pkey", "account")


def load(cluster: Cluster, accounts: Path, follows: Path, scratch: Path) -> Client:
    """Make tables, rows and indexes; the new client. Files as large as the graph come and go in a folder."""
    tables = {"account": scratch / "account.csv", "follow": scratch / "follow.csv"}
    _write_tables(accounts, follows, tables, scratch)
    return asyncio.run(_fill(cluster, tables))


def warm(cluster: Cluster) -> None:
    """Bring what pages are made of into the memory of a server that has just started."""

    async def read_all() -> None:
        connection = await cluster.connect()
        try:
            for name in _HOT:
                await connection.fetchval("SELECT pg_prewarm($1::text::regclass)", name)
        finally:
            await connection.close()

    asyncio.run(read_all())


def _write_tables(accounts: Path, follows: Path, tables: dict[str, Path], scratch: Path) -> None:
    """Names become numbers here, so that the database gets ready rows."""
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
        await connection.execute(_SCHEMA.read_text())
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
