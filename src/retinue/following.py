"""The use case: one page of an account's list, as of any second, and its profile.

The steps are account, visibility, bound, page. The rules of visibility and cursor are here, without HTTP or SQL. The
store keeps lists exact (`store/contract.py`).
"""

from typing import Generic

from retinue import names
from retinue.clock import Clock
from retinue.errors import PrivateAccount, UnknownAccount, WithheldAccount
from retinue.model import Account, Direction, Page, PageRequest, Profile, Query, Shown_co, Visibility
from retinue.store.contract import GraphReader

_FOLLOWING = Direction.FOLLOWING  # in Python 3.11 access to an enum's members is slow
# The greatest visibility level at which the following list, or followers and profile, are served.
_FOR_FOLLOWING, _FOR_THE_REST = Visibility.PUBLIC, Visibility.FOLLOWING_HIDDEN


class Following(Generic[Shown_co]):
    """Answers queries for lists and profiles, by today's visibility. Raises `PrivateAccount` or `WithheldAccount`."""

    def __init__(self, graph: GraphReader[Shown_co], clock: Clock) -> None:
        self._graph = graph
        self._clock = clock

    async def account(self, username: str) -> Account:
        """Return the account with a username. Raises `UnknownAccount`."""
        account = await self._graph.find_account(names.fold(username))
        if account is None:
            raise UnknownAccount(username)
        return account

    async def page(self, account: Account, query: Query, direction: Direction) -> Page[Shown_co]:
        """Return the page at the query's bound.

        The next cursor is one second before the oldest row. Rows of a list never share a second, so no row is repeated
        or lost. The cursor of an empty page is the bound.
        """
        request = page_request_of(account, query, direction, self._clock.now())
        found = await self._graph.read(request)
        return Page(found.rows, found.oldest - 1 if found.rows else request.bound, found.has_more)

    async def profile(self, account: Account, username: str) -> Profile:
        """Return the profile. It has the same visibility as a row."""
        _require_open(account, username, _FOR_THE_REST)
        profile = await self._graph.profile(account.id)
        if profile is None:
            raise UnknownAccount(username)  # it was erased since the first lookup
        return profile


def page_request_of(account: Account, query: Query, direction: Direction, now: int) -> PageRequest:
    """Return the requested rows. Raises `PrivateAccount` or `WithheldAccount`."""
    _require_open(account, query.username, _FOR_FOLLOWING if direction is _FOLLOWING else _FOR_THE_REST)
    bound = now if query.cursor is None else min(query.cursor, now)
    as_of = query.as_of
    if as_of is not None and as_of >= now:
        as_of = None  # the list as of now is the current list
    return PageRequest(account.id, direction, bound, query.max_count, as_of)


def _require_open(account: Account, username: str, most_hidden: Visibility) -> None:
    if account.visibility > most_hidden:
        raise WithheldAccount if account.visibility is Visibility.WITHHELD else PrivateAccount(username)
