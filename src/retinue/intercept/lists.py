"""Which lists a command asked for, and which of their rows it got.

Rows are kept as 64-bit hashes of their usernames, up to a limit, so memory stays bounded however much is collected.
"""

from array import array
from urllib.parse import urlsplit

from msgspec import Struct

from retinue import names
from retinue.errors import Refusal
from retinue.model import Direction, Query
from retinue.wire import parsing

MAX_LISTS = 20_000
MAX_ROWS = 3_000_000  # of all lists together: more than the service gives a client in a day

_END = -1  # older than every second of a list
_DIRECTIONS = {f"/v2/research/user/{direction.value}": direction for direction in Direction}


class ListKey(Struct, frozen=True):
    """One list: an account's folded username, the direction, and the second of its past if it was asked for one."""

    username: str
    direction: Direction
    as_of: int | None = None


class Delivery(Struct, frozen=True):
    """An answer to a request for a page. `trouble`: why it is not a page; empty if it is one.

    `cursor`: the second at which the next page begins, if there is one.
    """

    usernames: list[str]
    has_more: bool
    trouble: str = ""
    cursor: int = 0


class ListProgress(Struct):
    """The rows of one list that were delivered.

    `start` is the newest second that was asked for, `is_from_now` whether that was the list's beginning, and `reached`
    the second down to which pages follow on each other from there. `trouble` says why the last answer is not a page,
    `is_recorded` whether all rows are here.
    """

    label: str
    rows: "array[int]"
    start: int = 0
    reached: int = 0
    is_from_now: bool = False
    has_more: bool = True
    trouble: str = ""
    is_recorded: bool = True

    @property
    def is_gapless(self) -> bool:
        """Whether each page began where another one ended, down to the end of the list."""
        return self.reached == _END

    def cover(self, second: int, delivery: Delivery) -> None:
        """Record which seconds an answer covers if it was asked to begin at one."""
        page_end = delivery.cursor if delivery.has_more else _END
        end = second if delivery.trouble else page_end
        if second > self.start and end > self.start:  # what was covered before is not joined to this
            self.reached = end
        elif second >= self.reached:
            self.reached = min(self.reached, end)
        self.start = max(self.start, second)


def list_query(target: bytes, body: bytes) -> tuple[ListKey, Query] | None:
    """Return the list that a request asks for, with its query; None if it asks for something else."""
    try:
        direction = _DIRECTIONS.get(urlsplit(target).path.decode().removesuffix("/"))
        query = parsing.read_query(body) if direction is not None else None
    except (ValueError, Refusal):
        return None
    if direction is None or query is None:
        return None
    return ListKey(names.fold(query.username), direction, query.as_of), query


def row_hash(username: str) -> int:
    """Return the number by which a row is compared."""
    return hash(username)


class ListLog:
    """The lists of one run, in the order in which they were first asked for."""

    def __init__(self, max_lists: int = MAX_LISTS, max_rows: int = MAX_ROWS) -> None:
        self.lists: dict[ListKey, ListProgress] = {}
        self.unrecorded = 0  # answers for lists beyond the limit
        self._max_lists = max_lists
        self._rows_left = max_rows

    def add(self, key: ListKey, query: Query, delivery: Delivery, now: int) -> None:
        """Record the answer to a query, delivered at the second `now`."""
        progress = self.lists.get(key)
        if progress is None:
            if len(self.lists) >= self._max_lists:
                self.unrecorded += 1
                return
            progress = self.lists[key] = ListProgress(names.without_at(query.username), array("q"))
        is_from_now = query.cursor is None or query.cursor >= now
        progress.cover(now if query.cursor is None else min(query.cursor, now), delivery)
        progress.is_from_now |= is_from_now
        progress.trouble = delivery.trouble
        if not delivery.trouble:
            progress.has_more = delivery.has_more
            self._record_rows(progress, delivery.usernames)

    def _record_rows(self, progress: ListProgress, usernames: list[str]) -> None:
        if len(usernames) > self._rows_left:
            progress.is_recorded = False
            return
        self._rows_left -= len(usernames)
        progress.rows.extend(map(row_hash, usernames))
