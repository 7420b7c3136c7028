"""The rows of a list as the store behind the server has them."""

import asyncio
from collections.abc import Iterator
from contextlib import closing, contextmanager

from msgspec import structs

from retinue.clock import Clock
from retinue.following import Following
from retinue.intercept.lists import ListKey, row_hash
from retinue.intercept.verdicts import Expected
from retinue.model import Query, Row
from retinue.store.open import open_store

_PAGE_ROWS = 1000


@contextmanager
def expected_rows(store: str, clock: Clock) -> Iterator[Expected]:
    """Open a store for reading the lists of a run. Raises `InputError`."""
    with closing(open_store(store).graph(clock)) as graph, asyncio.Runner() as runner:
        following = Following(graph, clock)
        yield lambda key, start, limit: runner.run(_read(following, key, start, limit))


async def _read(following: Following[Row], key: ListKey, start: int, limit: int) -> list[int] | None:
    """Return the hashes of a list's rows from a second on, newest first; None if they are more than `limit`."""
    account = await following.account(key.username)
    query = Query(key.username, _PAGE_ROWS, start, key.as_of)
    rows: list[int] = []
    has_more = True
    while has_more:
        page = await following.page(account, query, key.direction)
        rows += [row_hash(row.username) for row in page.rows]
        query, has_more = structs.replace(query, cursor=page.cursor), page.has_more
        if len(rows) > limit:
            return None
    return rows
