"""How far a collection is, told from its journal. Pure."""

from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

from msgspec import Struct

from retinue.client.counts import ListCount, count_in, is_likely_cap
from retinue.client.paginator import newest_of
from retinue.client.responses import ListPage, Person
from retinue.collect.journal import InfoRecord, JournalRecord, ListName, PageRecord, StartRecord, UnavailableRecord

DAY_SECONDS = 86_400
MAYBE_CAPPED = "maybe capped"

DIRECTIONS: tuple[ListName, ...] = ("following", "followers")
Pool = Literal["lists", "info"]  # what has a daily quota of its own


class Item(NamedTuple):
    """One thing to be collected: a list or the user info of an account."""

    name: str
    list: ListName

    @property
    def pool(self) -> Pool:
        """Whose quota it needs."""
        return "info" if self.list == "info" else "lists"


class ListProgress(Struct):
    """How far one list is; it goes on with `cursor` and `newest`.

    `state` is incomplete, complete, maybe capped (read to the end that the service gives, which may not be the end), or
    why the service will not tell. `profile_count` is how many rows the account's profile counts, as of `counted_at`.
    """

    state: str = "incomplete"
    cursor: int | None = None
    newest: Person | None = None
    pages: int = 0
    rows: int = 0
    first_at: int = 0
    last_at: int = 0
    profile_count: int | None = None
    counted_at: int | None = None

    @property
    def gap(self) -> int | None:
        """How many more the profile counts than a list has that was read to its end."""
        return ListCount(self.rows, self.profile_count).gap if self.state in ("complete", MAYBE_CAPPED) else None

    @property
    def is_uncounted(self) -> bool:
        """Return whether the list ends at a likely cap and its count is unknown."""
        return self.state == "complete" and self.profile_count is None and is_likely_cap(self.rows)

    def compare(self, profile_count: int | None, counted_at: int) -> None:
        """Take notice of the count in the account's profile."""
        self.profile_count, self.counted_at = profile_count, counted_at if profile_count is not None else None
        if self.state in ("complete", MAYBE_CAPPED):
            self.state = MAYBE_CAPPED if ListCount(self.rows, profile_count).is_maybe_capped else "complete"


def place_of(record: PageRecord | InfoRecord | UnavailableRecord) -> Item:
    """What a record is about."""
    return Item(record.name, "info" if isinstance(record, InfoRecord) else record.list)


class Progress:
    """How far all lists are, and how many calls were answered on the latest day."""

    def __init__(self) -> None:
        self.begun: StartRecord | None = None
        self.standings: dict[Item, ListProgress] = {}
        self.pages = 0
        self.rows = 0
        self.answers = 0
        self.counts: dict[str, tuple[dict[ListName, int | None], int]] = {}  # by account: of each list, and since when
        self._day = 0
        self._calls = Counter[Pool]()

    def take(self, record: JournalRecord, page: ListPage | None = None) -> None:
        """Take notice of a record; of a page that is at hand it need not be read again."""
        if isinstance(record, StartRecord):
            self.begun = record
            return
        self.answers += 1
        if isinstance(record, InfoRecord):
            self._take_counts(record)
            if record.only_counts:
                return
        standing = self.standings.setdefault(place_of(record), ListProgress())
        standing.first_at = standing.first_at or record.at
        standing.last_at = record.at
        if isinstance(record, PageRecord):
            self._take_page(record, standing, page or record.page())
        else:
            standing.state = record.reason if isinstance(record, UnavailableRecord) else "complete"

    def _take_counts(self, record: InfoRecord) -> None:
        self._count(record.at, "info")
        profile = record.profile()
        counts = {direction: count_in(profile, direction) for direction in DIRECTIONS}
        self.counts[record.name] = (counts, record.at)
        for direction in DIRECTIONS:
            if standing := self.standings.get(Item(record.name, direction)):
                standing.compare(counts[direction], record.at)

    def _take_page(self, record: PageRecord, standing: ListProgress, page: ListPage) -> None:
        self._count(record.at, "lists")
        standing.pages += 1
        standing.rows = record.before + len(page.rows)
        standing.cursor, standing.newest = page.cursor, newest_of(page)
        standing.state = "incomplete" if page.has_more else "complete"
        self.pages += 1
        self.rows += len(page.rows)
        if known := self.counts.get(record.name):
            standing.compare(known[0][record.list], known[1])

    def waiting(self, wanted: Iterable[Item]) -> list[Item]:
        """What of these is not finished."""
        return [place for place in wanted if self.standings.get(place, ListProgress()).state == "incomplete"]

    def uncounted(self, wanted: Iterable[Item]) -> list[Item]:
        """Return which of these end at a likely cap, with an unknown count."""
        return [place for place in wanted if self.standings.get(place, ListProgress()).is_uncounted]

    def maybe_capped(self, wanted: Iterable[Item]) -> list[Item]:
        """Return which of these may be capped by the service."""
        return [place for place in wanted if self.standings.get(place, ListProgress()).state == MAYBE_CAPPED]

    def calls_on(self, day: int, pool: Pool) -> int:
        """How many calls were answered on a day (since 1970, UTC)."""
        return self._calls[pool] if day == self._day else 0

    def _count(self, at: int, pool: Pool) -> None:
        day = at // DAY_SECONDS
        if day != self._day:
            self._day = day
            self._calls.clear()
        self._calls[pool] += 1
