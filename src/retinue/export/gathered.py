"""A whole graph as tables of DuckDB on disk: there the store's numbers become keys, and rows get their order.

What is written does not depend on the store, its numbers or its order: equal graphs give equal tables.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from retinue.errors import StoreError
from retinue.model import AccountRecord
from retinue.store.whole import WholeGraph

MEMORY = "900MB"
THREADS = 2
_ROWS_AT_ONCE = 10_000

OnRows = Callable[[int], None]

# Columns are named as in the tables that an import reads.
ACCOUNTS = (
    "SELECT id, username, display_name, visibility, bio_description, avatar_url, bio_url, is_verified, likes_count,"
    " video_count FROM account ORDER BY id"
)
FOLLOWS = (
    "SELECT a.id AS follower, b.id AS followee, start AS followed_at, nullif(stop, 0) AS ended_at, following_position,"
    " followers_position FROM standing JOIN account a ON a.number = standing.follower"
    " JOIN account b ON b.number = standing.followee ORDER BY a.id, following_position DESC"
)

_TABLES = """
CREATE TABLE account (
    number BIGINT, id VARCHAR, username VARCHAR, display_name VARCHAR, visibility VARCHAR, bio_description VARCHAR,
    avatar_url VARCHAR, bio_url VARCHAR, is_verified BOOLEAN, likes_count BIGINT, video_count BIGINT
);
CREATE TABLE standing (
    follower BIGINT, followee BIGINT, start BIGINT, stop BIGINT, following_position BIGINT, followers_position BIGINT
);
"""


class Gathered:
    """The tables, in a folder of which nothing else is expected to stay."""

    def __init__(self, folder: Path) -> None:
        self._duck = duckdb.connect(folder / "gathered.duckdb")
        for setting, value in (("memory_limit", MEMORY), ("threads", THREADS), ("temp_directory", folder / "spilled")):
            self._duck.execute(f"SET {setting} = '{str(value).replace(chr(39), chr(39) * 2)}'")
        self._duck.execute(_TABLES)

    def close(self) -> None:
        """Close the tables."""
        self._duck.close()

    def gather(self, graph: WholeGraph, on_rows: OnRows, *, with_ended: bool) -> None:
        """Read a graph to its end. `on_rows` gets how many rows there are so far."""
        rows = 0
        for accounts in graph.accounts():
            columns = zip(*(_account_row(number, record) for number, record in accounts), strict=True)
            self._add("account", [np.array(column, object) for column in columns])
            on_rows(rows := rows + len(accounts))
        for standings in graph.standings(with_ended=with_ended):
            if len(standings.starts):
                self._add("standing", standings)
                on_rows(rows := rows + len(standings.starts))

    def count(self, query: str) -> int:
        """How many rows a query has."""
        return int(self._duck.execute(f"SELECT count(*) FROM ({query})").fetchall()[0][0])  # noqa: S608 - queries of ours

    def rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        """The rows of a query."""
        reading = self._duck.cursor()
        reading.execute(query)
        while batch := reading.fetchmany(_ROWS_AT_ONCE):
            yield from batch

    def copy(self, query: str, path: Path, options: str) -> None:
        """Write the rows of a query into a file of a neutral name, with the options of SQL's COPY."""
        self._duck.execute(f"COPY ({query}) TO '{str(path).replace(chr(39), chr(39) * 2)}' ({options})")

    def _add(self, table: str, columns: Sequence[Any]) -> None:
        chunk = {f"column{number:02}": column for number, column in enumerate(columns)}
        self._duck.register("chunk", chunk)
        self._duck.execute(f"INSERT INTO {table} FROM chunk")
        self._duck.unregister("chunk")


@contextmanager
def translated(what: Path) -> Iterator[None]:
    """Turn errors of DuckDB and of the disk into ours."""
    try:
        yield
    except (OSError, duckdb.Error) as error:
        raise StoreError(f"{what}: cannot be written: {error}") from error


def _account_row(number: int, record: AccountRecord) -> tuple[Any, ...]:
    return (
        number,
        record.key,
        record.username,
        record.display_name,
        record.visibility.name.lower() if record.visibility is not None else None,
        record.bio_description,
        record.avatar_url,
        record.bio_url,
        record.is_verified,
        record.likes_count,
        record.video_count,
    )
