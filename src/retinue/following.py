"""The use case: one page of an account's following or followers list, at any second of its past; and its profile.

Account, then visibility, then bound, then page. Knows neither HTTP nor SQL; the store keeps lists exact
(`store/contract.py`), the rules of visibility and of the cursor are here.
"""

from typing import Generic

from retinue import names
from retinue.clock import Clock
from retinue.errors import AccountNotFound, AccountPrivate, AccountWithheld
from retinue.model import Account, Direction, Page, Profile, Query, Shown_co, Stretch, Visibility
from retinue.store.contract import GraphReader

_FOLLOWING = Direction.FOLLOWING  # on Python 3.11 each look into an enum is dear
# How much an account may hide and still be asked for its following list; for its followers and its profile.
_FOR_FOLLOWING, _FOR_THE_REST = Visibility.PUBLIC, Visibility.FOLLOWING_HIDDEN


class Following(Generic[Shown_co]):
    """Answers queries for lists and profiles. Both raise `AccountPrivate` or `AccountWithheld`.

    Visibility is today's, also of lists of the past.
    """

    def __init__(self, graph: GraphReader[Shown_co], clock: Clock) -> None:
        self._graph = graph
        self._clock = clock

    async def account(self, username: str) -> Account:
        """The account with a username. Raises `AccountNotFound`."""
        account = await self._graph.find_account(names.fold(username))
        if account is None:
            raise AccountNotFound(username)
        return account

    async def page(self, account: Account, query: Query, direction: Direction) -> Page[Shown_co]:
        """The page at a query's bound.

        The next cursor is one second before the oldest row: no two rows of a list share a second, so nothing is
        repeated and nothing is lost. An empty page gives back the bound that was used.
        """
        stretch = stretch_of(account, query, direction, self._clock.now())
        found = await self._graph.read(stretch)
        return Page(found.rows, found.oldest - 1 if found.rows else stretch.bound, found.has_more)

    async def profile(self, account: Account, username: str) -> Profile:
        """The account as itself. It is shown to everybody who may see it as a row."""
        _require_open(account, username, _FOR_THE_REST)
        profile = await self._graph.profile(account.id)
        if profile is None:
            raise AccountNotFound(username)  # it went away between the two looks
        return profile


def stretch_of(account: Account, query: Query, direction: Direction, now: int) -> Stretch:
    """Which rows a query asks for at a second, pure. Raises `AccountPrivate` or `AccountWithheld`."""
    _require_open(account, query.username, _FOR_FOLLOWING if direction is _FOLLOWING else _FOR_THE_REST)
    bound = now if query.cursor is None else min(query.cursor, now)
    as_of = query.as_of
    if as_of is not None and as_of >= now:
        as_of = None  # the list of now is today's
    return Stretch(account.id, direction, bound, query.max_count, as_of)


def _require_open(account: Account, username: str, most_hidden: Visibility) -> None:
    """Refuse an account that hides more than that."""
    if account.visibility > most_hidden:
        raise AccountWithheld if account.visibility is Visibility.WITHHELD else AccountPrivate(username)
