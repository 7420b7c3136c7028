"""The use case: one page of an account's following list.

Account, then visibility, then bound, then page. Knows neither HTTP nor SQL; the store keeps lists exact
(`store/base.py`), the rules of the cursor are here.
"""

from typing import Generic

from retinue import names
from retinue.clock import Clock
from retinue.errors import AccountNotFound, AccountPrivate, AccountWithheld
from retinue.model import Account, Page, Query, Shown_co, Visibility
from retinue.store.base import GraphReader


class Following(Generic[Shown_co]):
    """Answers queries for following lists."""

    def __init__(self, graph: GraphReader[Shown_co], clock: Clock) -> None:
        self._graph = graph
        self._clock = clock

    async def page(self, query: Query) -> Page[Shown_co]:
        """The page at a query's bound. Raises `AccountNotFound`, `AccountPrivate` or `AccountWithheld`.

        The next cursor is one second before the oldest row: no two rows of a list share a second, so nothing is
        repeated and nothing is lost. An empty page gives back the bound that was used.
        """
        account = await self._account(query.username)
        now = self._clock.now()
        bound = now if query.cursor is None else min(query.cursor, now)
        found = await self._graph.following(account.id, bound, query.max_count)
        return Page(found.rows, found.oldest - 1 if found.rows else bound, found.has_more)

    async def _account(self, username: str) -> Account:
        account = await self._graph.find_account(names.fold(username))
        if account is None:
            raise AccountNotFound(username)
        if account.visibility is Visibility.WITHHELD:
            raise AccountWithheld
        if account.visibility is not Visibility.PUBLIC:
            raise AccountPrivate(username)
        return account
