"""How far a collection is, told from its journal. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

from retinue.client.answers import Page, Person
from retinue.client.walk import newest_of
from retinue.collect.journal import Begun, InfoRead, ListName, PageRead, Record, Unavailable

DAY_SECONDS = 86_400

Pool = Literal["lists", "info"]  # what has a daily quota of its own


class Place(NamedTuple):
    """One thing to be collected: a list or the user info of an account."""

    name: str
    list: ListName

    @property
    def pool(self) -> Pool:
        """Whose quota it needs."""
        return "info" if self.list == "info" else "lists"


class Standing(Struct):
    """How far one list is; it goes on with `cursor` and `newest`.

    `state` is incomplete, complete, or why the service will not tell.
    """

    state: str = "incomplete"
    cursor: int | None = None
    newest: Person | None = None
    pages: int = 0
    rows: int = 0
    first_at: int = 0
    last_at: int = 0


def place_of(record: PageRead | InfoRead | Unavailable) -> Place:
    """What a record is about."""
    return Place(record.name, "info" if isinstance(record, InfoRead) else record.list)


class Progress:
    """How far all lists are, and how many calls were answered on the latest day."""

    def __init__(self) -> None:
        self.begun: Begun | None = None
        self.standings: dict[Place, Standing] = {}
        self.pages = 0
        self.rows = 0
        self.answers = 0
        self._day = 0
        self._calls = Counter[Pool]()

    def take(self, record: Record, page: Page | None = None) -> None:
        """Take notice of a record; of a page that is at hand it need not be read again."""
        if isinstance(record, Begun):
            self.begun = record
            return
        self.answers += 1
        standing = self.standings.setdefault(place_of(record), Standing())
        standing.first_at = standing.first_at or record.at
        standing.last_at = record.at
        if isinstance(record, Unavailable):
            standing.state = record.reason
            return
        self._count(record.at, "info" if isinstance(record, InfoRead) else "lists")
        if isinstance(record, InfoRead):
            standing.state = "complete"
            return
        page = page or record.page()
        standing.pages += 1
        standing.rows = record.before + len(page.rows)
        standing.cursor, standing.newest = page.cursor, newest_of(page)
        standing.state = "incomplete" if page.has_more else "complete"
        self.pages += 1
        self.rows += len(page.rows)

    def waiting(self, wanted: Iterable[Place]) -> list[Place]:
        """What of these is not finished."""
        return [place for place in wanted if self.standings.get(place, Standing()).state == "incomplete"]

    def calls_on(self, day: int, pool: Pool) -> int:
        """How many calls were answered on a day (since 1970, UTC)."""
        return self._calls[pool] if day == self._day else 0

    def _count(self, at: int, pool: Pool) -> None:
        day = at // DAY_SECONDS
        if day != self._day:
            self._day = day
            self._calls.clear()
        self._calls[pool] += 1
