"""Random stories of events for Hypothesis, and how to read a whole list."""

from typing import NamedTuple

from hypothesis import strategies as st

from retinue import names
from retinue.model import AccountEvent, AccountRecord, Event, FollowEvent, PageRequest, PageRows, Row, Visibility
from retinue.store.contract import GraphReader

# Keys that are names, and one that cannot be; names that are keys, spellings of one name, and one too long for a key.
KEYS = ("1", "2", "3 3", "ann", "Ann")
NAMES = ("ann", "bob", "cy", "1", "Ærø", "ærø", "x" * 65)
ALL_NAMES = sorted({names.fold(name) for name in (*KEYS, *NAMES)})
USERNAMES = st.none() | st.sampled_from(NAMES)
FIELDS = {
    "display_name": st.none() | st.sampled_from(["", "a", "b"]),
    "visibility": st.none() | st.sampled_from(Visibility),
    "likes_count": st.none() | st.integers(0, 2),
    "is_verified": st.none() | st.booleans(),
}


class Told(NamedTuple):
    """An event as drawn. Its second is relative to its receipt."""

    event: Event
    age: int

    def at(self, now: int) -> Event:
        """Return the event, received at a second."""
        kind = type(self.event)
        fields = {name: getattr(self.event, name) for name in self.event.__struct_fields__}
        return kind(**fields | {"at": max(1, now - self.age)})


FOLLOWS = st.builds(FollowEvent, st.sampled_from(KEYS), st.sampled_from(KEYS), st.just(0), st.booleans())
ACCOUNTS = st.builds(
    AccountEvent, st.builds(AccountRecord, key=st.sampled_from(KEYS), username=USERNAMES, **FIELDS), st.just(0)
)


def below(request: PageRequest, found: PageRows[Row]) -> PageRequest:
    """Return the page request after a page."""
    bound = found.oldest - 1 if found.rows else request.bound
    return PageRequest(request.account_id, request.direction, bound, request.limit, request.as_of)


async def pages(graph: GraphReader[Row], request: PageRequest) -> list[PageRows[Row]]:
    """Return a whole list, page by page."""
    found = [await graph.read(request)]
    while found[-1].has_more:
        request = below(request, found[-1])
        found.append(await graph.read(request))
    return found
