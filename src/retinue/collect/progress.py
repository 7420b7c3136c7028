"""The progress of a collection, computed from its journal: states, rows, counts and likely caps. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from msgspec import Struct

from retinue.client.paginator import ListCount, count_in, is_likely_cap, newest_of
from retinue.client.responses import ListPage, Person
from retinue.collect.journal import InfoRecord, JournalRecord, ListName, PageRecord, StartRecord, UnavailableRecord

DAY_SECONDS = 86_400
MAYBE_CAPPED = "maybe capped"

DIRECTIONS: tuple[ListName, ...] = ("following", "followers")
Pool = Literal["lists", "info"]  # each has its own daily quota


class Item(NamedTuple):
    """One thing to collect: a list or the user info of an account."""

    name: str
    list: ListName

    @property
    def pool(self) -> Pool:
        """The quota that it uses."""
        return "info" if self.list == "info" else "lists"


class ListProgress(Struct):
    """The progress of one list, which resumes at `cursor` and `newest`.

    `state` is incomplete, complete, maybe capped, or the reason why the account is unavailable. `profile_count` is the
    count in the account's profile at the second `counted_at`.
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
        """The profile's count minus the rows of a finished list."""
        return ListCount(self.rows, self.profile_count).gap if self.state in ("complete", MAYBE_CAPPED) else None

    @property
    def is_uncounted(self) -> bool:
        """Whether the list ends at a likely cap without a count."""
        return self.state == "complete" and self.profile_count is None and is_likely_cap(self.rows)

    def compare(self, profile_count: int | None, counted_at: int) -> None:
        """Record the profile's count and update the state."""
        self.profile_count, self.counted_at = profile_count, counted_at if profile_count is not None else None
        if self.state in ("complete", MAYBE_CAPPED):
            self.state = MAYBE_CAPPED if ListCount(self.rows, profile_count).is_maybe_capped else "complete"


def item_of(record: PageRecord | InfoRecord | UnavailableRecord) -> Item:
    """Return the item of a record."""
    return Item(record.name, "info" if isinstance(record, InfoRecord) else record.list)


class Progress:
    """The progress of all items, and the latest day's calls."""

    def __init__(self) -> None:
        self.start: StartRecord | None = None
        self.items: dict[Item, ListProgress] = {}
        self.pages = 0
        self.rows = 0
        self.answers = 0
        self.counts: dict[str, tuple[dict[ListName, int | None], int]] = {}  # by account: per list, and the second
        self._day = 0
        self._calls = Counter[Pool]()

    def add(self, record: JournalRecord, page: ListPage | None = None) -> None:
        """Add a record. `page` saves parsing its body again."""
        if isinstance(record, StartRecord):
            self.start = record
            return
        self.answers += 1
        if isinstance(record, InfoRecord):
            self._add_counts(record)
            if record.only_counts:
                return
        progress = self.items.setdefault(item_of(record), ListProgress())
        progress.first_at = progress.first_at or record.at
        progress.last_at = record.at
        if isinstance(record, PageRecord):
            self._add_page(record, progress, page or record.page())
        else:
            progress.state = record.reason if isinstance(record, UnavailableRecord) else "complete"

    def _add_counts(self, record: InfoRecord) -> None:
        self._count_call(record.at, "info")
        profile = record.profile()
        counts = {direction: count_in(profile, direction) for direction in DIRECTIONS}
        self.counts[record.name] = (counts, record.at)
        for direction in DIRECTIONS:
            if progress := self.items.get(Item(record.name, direction)):
                progress.compare(counts[direction], record.at)

    def _add_page(self, record: PageRecord, progress: ListProgress, page: ListPage) -> None:
        self._count_call(record.at, "lists")
        progress.pages += 1
        progress.rows = record.before + len(page.rows)
        progress.cursor, progress.newest = page.cursor, newest_of(page)
        progress.state = "incomplete" if page.has_more else "complete"
        self.pages += 1
        self.rows += len(page.rows)
        if counts := self.counts.get(record.name):
            progress.compare(counts[0][record.list], counts[1])

    def of(self, item: Item) -> ListProgress:
        """Return the progress of an item."""
        return self.items.get(item, ListProgress())

    def incomplete(self, items: Iterable[Item]) -> list[Item]:
        """Return the items that are not finished."""
        return [item for item in items if self.of(item).state == "incomplete"]

    def uncounted(self, items: Iterable[Item]) -> list[Item]:
        """Return the uncounted items."""
        return [item for item in items if self.of(item).is_uncounted]

    def calls_today(self, now: int, pool: Pool) -> int:
        """Return the calls answered on the day (UTC) of a second."""
        return self._calls[pool] if now // DAY_SECONDS == self._day else 0

    def _count_call(self, at: int, pool: Pool) -> None:
        day = at // DAY_SECONDS
        if day != self._day:
            self._day = day
            self._calls.clear()
        self._calls[pool] += 1


class Counts(Struct, frozen=True):
    """Sums over the lists of a kind with a known count."""

    lists: int
    rows: int
    profile_count: int
    gap: int


class MaybeCapped(Struct, frozen=True):
    """A list that may be capped by the service."""

    name: str
    list: str
    rows: int
    profile_count: int
    gap: int

    def __str__(self) -> str:
        figures = f"{self.rows:,} rows, profile counts {self.profile_count:,}, gap {self.gap:,}"
        return f"{self.list} of {self.name}: maybe capped: {figures}"


class CountSummary(NamedTuple):
    """The sums and likely caps of a collection."""

    counts: dict[str, Counts]
    maybe_capped: list[MaybeCapped]
    uncounted_likely_caps: int


def compare_counts(items: Mapping[Item, ListProgress]) -> CountSummary:
    """Return sums by kind of list, and likely caps by name."""
    counts = {}
    for name in DIRECTIONS:
        if lists := [each for item, each in items.items() if item.list == name and each.gap is not None]:
            sums = (sum(getattr(each, field) for each in lists) for field in ("rows", "profile_count", "gap"))
            counts[str(name)] = Counts(len(lists), *sums)
    capped = [
        MaybeCapped(*item, progress.rows, progress.profile_count or 0, progress.gap or 0)
        for item, progress in sorted(items.items(), key=lambda pair: pair[0])
        if progress.state == MAYBE_CAPPED
    ]
    return CountSummary(counts, capped, sum(progress.is_uncounted for progress in items.values()))
