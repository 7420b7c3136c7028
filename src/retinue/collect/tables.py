"""The tables of a collection, made from its journal by DuckDB.

    rows      every row of every list in order, with its provenance and the bounds of its second
    profiles  user info
    lists     the progress of each list
    accounts, follows   the graph, as `retinue import` reads it

Responses do not say when a follow began: it was not after the cursor of its request, and not before the page's own
cursor (unless the page is the last). Each follow gets the latest possible second that keeps the order of its list.

Names are compared folded; the graph has the latest spelling. Rows without a valid username are not in the graph.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from retinue import names
from retinue.client.responses import UserInfo
from retinue.collect.journal import InfoRecord, JournalRecord, PageRecord
from retinue.collect.progress import Item, ListProgress
from retinue.duck import Duck

MEMORY = "700MB"
_BATCH_RECORDS = 200

_PROFILE = dict.fromkeys(UserInfo.__struct_fields__, "VARCHAR") | {
    "is_verified": "BOOLEAN",
    "follower_count": "BIGINT",
    "following_count": "BIGINT",
    "likes_count": "BIGINT",
    "video_count": "BIGINT",
}
_COLUMNS = {
    "row_": {
        "owner_folded": "VARCHAR",
        "folded": "VARCHAR",
        "owner": "VARCHAR",
        "list": "VARCHAR",
        "rank": "BIGINT",
        "username": "VARCHAR",
        "display_name": "VARCHAR",
        "collected_at": "BIGINT",
        "not_after": "BIGINT",
        "not_before": "BIGINT",
        "log_id": "VARCHAR",
        "page_sha256": "VARCHAR",
    },
    "profile": {"folded": "VARCHAR", "username": "VARCHAR", **_PROFILE}
    | {"collected_at": "BIGINT", "log_id": "VARCHAR", "page_sha256": "VARCHAR"},
    "list_": {
        "folded": "VARCHAR",
        "owner": "VARCHAR",
        "list": "VARCHAR",
        "state": "VARCHAR",
        "pages": "BIGINT",
        "rows": "BIGINT",
        "first_at": "BIGINT",
        "last_at": "BIGINT",
        "profile_count": "BIGINT",
        "gap": "BIGINT",
        "counted_at": "BIGINT",
    },
}

# Each row gets its own second: the latest that the page allows, and earlier than that of the row before.
_PLACED = """
CREATE TABLE placed_row AS
SELECT owner_folded AS owner, list, folded, not_after,
       greatest(min(not_after + rank) OVER (PARTITION BY owner_folded, list ORDER BY rank) - rank, 1) AS position
FROM row_ WHERE folded NOT IN ('', owner_folded)
"""
# The reason why an account is unavailable gives its visibility.
_ACCOUNT = """
CREATE TABLE account AS
WITH shown AS (
    SELECT folded, arg_max(username, collected_at) AS username, arg_max(display_name, collected_at) AS display_name
    FROM row_ WHERE folded <> '' GROUP BY folded
),
asked AS (
    SELECT folded, any_value(owner) AS username, bool_or(state = 'complete' OR rows > 0) AS is_there, CASE
        WHEN bool_or(state = 'withheld') THEN 'withheld'
        WHEN bool_or(state = 'private' AND list <> 'following') THEN 'private'
        WHEN bool_or(state = 'private') THEN 'following_hidden'
    END AS visibility
    FROM list_ GROUP BY folded
)
SELECT folded, coalesce(shown.username, asked.username) AS username,
       coalesce(profile.display_name, shown.display_name, '') AS display_name,
       coalesce(asked.visibility, 'public') AS visibility, bio_description, avatar_url, bio_url, is_verified,
       CASE WHEN likes_count >= 0 THEN likes_count END AS likes_count,
       CASE WHEN video_count >= 0 THEN video_count END AS video_count
FROM shown FULL JOIN asked USING (folded) LEFT JOIN (
    SELECT * EXCLUDE (username) FROM profile
    QUALIFY row_number() OVER (PARTITION BY folded ORDER BY collected_at DESC) = 1
) AS profile USING (folded)
WHERE shown.username IS NOT NULL OR asked.is_there OR asked.visibility IS NOT NULL
"""
# A follow that only one of two collected lists has gets a position in the other too, last in its second. So an import
# keeps all positions.
_FOLLOW = """
CREATE TABLE follow AS
WITH pair AS (
    SELECT follower, followee, min(not_after) AS followed_at,
           max(following_position) AS following_position, max(followers_position) AS followers_position
    FROM (
        SELECT owner AS follower, folded AS followee, not_after, position AS following_position,
               NULL AS followers_position FROM placed_row WHERE list = 'following'
        UNION ALL
        SELECT folded, owner, not_after, NULL, position FROM placed_row WHERE list = 'followers'
    )
    GROUP BY follower, followee
),
ranked AS (
    SELECT follower, followee, followed_at,
           coalesce(following_position, followed_at) AS following,
           coalesce(followers_position, followed_at) AS followers,
           row_number() OVER (PARTITION BY follower ORDER BY following DESC, following_position IS NULL, followee)
               AS following_rank,
           row_number() OVER (PARTITION BY followee ORDER BY followers DESC, followers_position IS NULL, follower)
               AS followers_rank
    FROM pair
),
placed AS (
    SELECT follower, followee, followed_at,
           min(following + following_rank) OVER (PARTITION BY follower ORDER BY following_rank) - following_rank
               AS following_position,
           min(followers + followers_rank) OVER (PARTITION BY followee ORDER BY followers_rank) - followers_rank
               AS followers_position
    FROM ranked
)
SELECT a.username AS follower, b.username AS followee, followed_at,
       greatest(following_position, 1) AS following_position, greatest(followers_position, 1) AS followers_position
FROM placed JOIN account a ON a.folded = placed.follower JOIN account b ON b.folded = placed.followee
"""

QUERIES = {
    "rows": "SELECT * EXCLUDE (owner_folded, folded) FROM row_ ORDER BY owner, list, rank",
    "profiles": "SELECT * EXCLUDE (folded) FROM profile ORDER BY username",
    "lists": "SELECT * EXCLUDE (folded) FROM list_ ORDER BY owner, list",
    "accounts": "SELECT * EXCLUDE (folded) FROM account ORDER BY username",
    "follows": "SELECT * FROM follow ORDER BY follower, following_position DESC, followee",
}
NODES = "SELECT username AS id, * EXCLUDE (folded) FROM account ORDER BY username"
EDGES = (
    "SELECT follower, followee, followed_at, NULL AS ended_at, following_position, followers_position FROM follow"
    " ORDER BY follower, following_position DESC, followee"
)


def fill(
    duck: Duck,
    records: Iterable[JournalRecord],
    items: Iterable[tuple[Item, ListProgress]],
    on_rows: Callable[[int], None],
) -> None:
    """Load a journal into a database. `on_rows` gets the number of rows so far."""
    for table, columns in _COLUMNS.items():
        duck.run(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    remaining, count = iter(records), 0
    while batch := list(islice(remaining, _BATCH_RECORDS)):
        rows = [row for record in batch if isinstance(record, PageRecord) for row in _rows(record)]
        infos = [record for record in batch if isinstance(record, InfoRecord)]
        _add(duck, "row_", rows)
        _add(duck, "profile", [_profile(record) for record in infos if not record.only_counts])
        on_rows(count := count + len(rows))
    _add(duck, "list_", [_list_row(item, progress) for item, progress in items])
    for statement in (_PLACED, _ACCOUNT, _FOLLOW):
        duck.run(statement)


def _add(duck: Duck, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        values = zip(*rows, strict=True)
        # A number that the column cannot hold becomes NULL; the journal has it.
        duck.add(table, (np.array(column, object) for column in values), _COLUMNS[table].values())


def _rows(record: PageRecord) -> Iterator[tuple[Any, ...]]:
    page = record.page()
    owner = names.fold(record.name)
    not_after = max(record.at, page.cursor) if record.bound is None else record.bound
    not_before = page.cursor if page.has_more else None
    for rank, person in enumerate(page.rows, record.before):
        folded = "" if names.fault_in_username(person.username) else names.fold(person.username)
        name_columns = person.username.replace("\0", ""), person.display_name.replace("\0", "")
        yield (
            *(owner, folded, record.name, record.list, rank, *name_columns),
            *(record.at, not_after, not_before, record.log_id, record.sha256),
        )


def _profile(record: InfoRecord) -> tuple[Any, ...]:
    profile = record.profile()
    fields = (getattr(profile, name) for name in UserInfo.__struct_fields__)
    return (names.fold(record.name), record.name, *fields, record.at, record.log_id, record.sha256)


def _list_row(item: Item, progress: ListProgress) -> tuple[Any, ...]:
    figures = progress.state, progress.pages, progress.rows, progress.first_at or None, progress.last_at or None
    return (names.fold(item.name), *item, *figures, progress.profile_count, progress.gap, progress.counted_at)
