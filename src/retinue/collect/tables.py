"""The tables of a collection, made of its journal by DuckDB: what was read, with its provenance, and the graph in it.

    rows      every row of every list, in order: when it came, under which log_id, in which page, when it may have begun
    profiles  what was said of accounts
    lists     how far each list is, or why there is none
    accounts, follows   the graph, as `retinue import` takes it

When a follow began is not in the answers. It was not after what its page was asked with, and not before the page's
own cursor, except on the last page, whose cursor says nothing. A list keeps its order: each of its follows gets a
second of its own, as late as it can have been.

Who is who is told by folded names, since a name may be there in two spellings; the graph has the latest. A name that is
blank or no username is in `rows`, and is nobody in the graph.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeGuard

import numpy as np

from retinue import names
from retinue.client.responses import Profile
from retinue.collect.journal import InfoRead, PageRead, Record
from retinue.collect.progress import Place, Standing
from retinue.duck import Duck

MEMORY = "700MB"
_RECORDS_AT_ONCE = 200

_PROFILE = dict.fromkeys(Profile.__struct_fields__, "VARCHAR") | {
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

# A second of its own for each row of a list: as late as the page allows, but before that of the row before.
_STANDING = """
CREATE TABLE standing AS
SELECT owner_folded AS owner, list, folded, not_after,
       greatest(min(not_after + rank) OVER (PARTITION BY owner_folded, list ORDER BY rank) - rank, 1) AS position
FROM row_ WHERE folded NOT IN ('', owner_folded)
"""
# Of an account that will not tell: what it hides. What others' lists show is public.
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
# What only one of two collected lists has gets a place in the other one as well, so that whoever loads the tables need
# not look for one, and moves nothing: among those of its second it comes last.
_FOLLOW = """
CREATE TABLE follow AS
WITH pair AS (
    SELECT follower, followee, min(not_after) AS followed_at,
           max(following_position) AS following_position, max(followers_position) AS followers_position
    FROM (
        SELECT owner AS follower, folded AS followee, not_after, position AS following_position,
               NULL AS followers_position FROM standing WHERE list = 'following'
        UNION ALL
        SELECT folded, owner, not_after, NULL, position FROM standing WHERE list = 'followers'
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
    records: Iterable[Record],
    standings: Iterable[tuple[Place, Standing]],
    on_rows: Callable[[int], None],
) -> None:
    """Read a journal to its end into a database. `on_rows` gets how many rows there are so far."""
    for table, columns in _COLUMNS.items():
        duck.run(f"CREATE TABLE {table} ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
    waiting, count = iter(records), 0
    while some := list(islice(waiting, _RECORDS_AT_ONCE)):
        rows = [row for record in some if isinstance(record, PageRead) for row in _rows(record)]
        _add(duck, "row_", rows)
        _add(duck, "profile", [_profile(record) for record in some if _is_profile(record)])
        on_rows(count := count + len(rows))
    _add(duck, "list_", [_standing(place, standing) for place, standing in standings])
    for statement in (_STANDING, _ACCOUNT, _FOLLOW):
        duck.run(statement)


def _add(duck: Duck, table: str, rows: Sequence[Sequence[Any]]) -> None:
    if rows:
        values = zip(*rows, strict=True)
        # A number that no column can hold becomes NULL; the journal has it.
        duck.add(table, (np.array(column, object) for column in values), _COLUMNS[table].values())


def _rows(record: PageRead) -> Iterator[tuple[Any, ...]]:
    page = record.page()
    owner = names.fold(record.name)
    not_after = max(record.at, page.cursor) if record.bound is None else record.bound
    not_before = page.cursor if page.has_more else None
    for rank, person in enumerate(page.rows, record.before):
        folded = "" if names.fault_in_username(person.username) else names.fold(person.username)
        said = person.username.replace("\0", ""), person.display_name.replace("\0", "")
        yield (
            *(owner, folded, record.name, record.list, rank, *said),
            *(record.at, not_after, not_before, record.log_id, record.sha256),
        )


def _is_profile(record: Record) -> TypeGuard[InfoRead]:
    return isinstance(record, InfoRead) and not record.only_counts


def _profile(record: InfoRead) -> tuple[Any, ...]:
    profile = record.profile()
    said = (getattr(profile, name) for name in Profile.__struct_fields__)
    return (names.fold(record.name), record.name, *said, record.at, record.log_id, record.sha256)


def _standing(place: Place, standing: Standing) -> tuple[Any, ...]:
    facts = standing.state, standing.pages, standing.rows, standing.first_at or None, standing.last_at or None
    return (names.fold(place.name), *place, *facts, standing.profile_count, standing.gap, standing.counted_at)
