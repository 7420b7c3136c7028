"""A whole graph as tables of DuckDB on disk: there the store's numbers become keys, and rows get their order.

What is written does not depend on the store, its numbers or its order: equal graphs give equal tables.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from retinue.export.duck import Duck, numbered
from retinue.model import AccountRecord
from retinue.store.whole import WholeGraph

MEMORY = "900MB"

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


def gather(duck: Duck, graph: WholeGraph, on_rows: OnRows, *, with_ended: bool) -> None:
    """Read a graph to its end. `on_rows` gets how many rows there are so far."""
    duck.run(_TABLES)
    rows = 0
    for accounts in graph.accounts():
        columns = zip(*(_account_row(number, record) for number, record in accounts), strict=True)
        duck.add("account", _numbered(np.array(column, object) for column in columns))
        on_rows(rows := rows + len(accounts))
    for standings in graph.standings(with_ended=with_ended):
        if len(standings.starts):
            duck.add("standing", _numbered(standings))
            on_rows(rows := rows + len(standings.starts))


def _numbered(columns: Iterable[Any]) -> dict[str, Any]:
    return {numbered(number): column for number, column in enumerate(columns)}


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
