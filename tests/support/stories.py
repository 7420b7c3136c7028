"""Random stories of events for Hypothesis, and how to read a whole list."""

from typing import NamedTuple

from hypothesis import strategies as st

from retinue import names
from retinue.model import AccountEvent, AccountRecord, Event, FollowEvent, Row, Slice, Stretch, Visibility
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
    """An event as it is drawn: its second is so far from the second of its receipt."""

    event: Event
    age: int

    def at(self, now: int) -> Event:
        """The event, received at a second."""
        kind = type(self.event)
        fields = {name: getattr(self.event, name) for name in self.event.__struct_fields__}
        return kind(**fields | {"at": max(1, now - self.age)})


FOLLOWS = st.builds(FollowEvent, st.sampled_from(KEYS), st.sampled_from(KEYS), st.just(0), st.booleans())
ACCOUNTS = st.builds(
    AccountEvent, st.builds(AccountRecord, key=st.sampled_from(KEYS), username=USERNAMES, **FIELDS), st.just(0)
)


def below(stretch: Stretch, found: Slice[Row]) -> Stretch:
    """Return the page request after a page."""
    bound = found.oldest - 1 if found.rows else stretch.bound
    return Stretch(stretch.account_id, stretch.direction, bound, stretch.limit, stretch.as_of)


async def pages(graph: GraphReader[Row], stretch: Stretch) -> list[Slice[Row]]:
    """A whole list, page by page."""
    found = [await graph.read(stretch)]
    while found[-1].has_more:
        stretch = below(stretch, found[-1])
        found.append(await graph.read(stretch))
    return found
