"""The lists that a command requested and the rows that it received.

Rows are stored as 64-bit hashes of their usernames, up to a limit that bounds memory.
"""

from array import array
from urllib.parse import urlsplit

from msgspec import Struct

from retinue import names
from retinue.errors import Refusal
from retinue.model import Direction, Query
from retinue.wire import parsing

MAX_LISTS = 20_000
MAX_ROWS = 3_000_000  # of all lists: more than a day's quota

_END = -1  # before every second of a list
_DIRECTIONS = {f"/v2/research/user/{direction.value}": direction for direction in Direction}


class ListKey(Struct, frozen=True):
    """One list: a folded username, a direction, and an earlier second or None."""

    username: str
    direction: Direction
    as_of: int | None = None


class Delivery(Struct, frozen=True):
    """A response to a request for a page. `trouble` is why it is not a page, or empty."""

    usernames: list[str]
    has_more: bool
    trouble: str = ""
    cursor: int = 0


class DeliveredList(Struct):
    """The delivered rows of one list.

    `start` is the newest requested second, and `reached` the second down to which pages cover the list without a gap.
    `is_from_now`: the list was read from its beginning. `trouble`: why the last response is not a page.
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
        """Whether the pages cover the list down to its end."""
        return self.reached == _END

    def cover(self, second: int, delivery: Delivery) -> None:
        """Record the seconds that a response covers, from the requested one down."""
        page_end = delivery.cursor if delivery.has_more else _END
        end = second if delivery.trouble else page_end
        if second > self.start and end > self.start:  # not adjacent to the seconds covered before
            self.reached = end
        elif second >= self.reached:
            self.reached = min(self.reached, end)
        self.start = max(self.start, second)


def list_query(target: bytes, body: bytes) -> tuple[ListKey, Query] | None:
    """Return the requested list and its query; None for other requests."""
    try:
        direction = _DIRECTIONS.get(urlsplit(target).path.decode().removesuffix("/"))
        query = parsing.read_query(body) if direction is not None else None
    except (ValueError, Refusal):
        return None
    if direction is None or query is None:
        return None
    return ListKey(names.fold(query.username), direction, query.as_of), query


def row_hash(username: str) -> int:
    """Return the hash that identifies a row."""
    return hash(username)


class ListLog:
    """The lists of one run, in the order of their first request."""

    def __init__(self, max_lists: int = MAX_LISTS, max_rows: int = MAX_ROWS) -> None:
        self.lists: dict[ListKey, DeliveredList] = {}
        self.unrecorded = 0  # responses for lists beyond the limit
        self._max_lists = max_lists
        self._remaining_rows = max_rows

    def add(self, key: ListKey, query: Query, delivery: Delivery, now: int) -> None:
        """Record the response to a query, delivered at the second `now`."""
        delivered = self.lists.get(key)
        if delivered is None:
            if len(self.lists) >= self._max_lists:
                self.unrecorded += 1
                return
            delivered = self.lists[key] = DeliveredList(names.without_at(query.username), array("q"))
        is_from_now = query.cursor is None or query.cursor >= now
        delivered.cover(now if query.cursor is None else min(query.cursor, now), delivery)
        delivered.is_from_now |= is_from_now
        delivered.trouble = delivery.trouble
        if not delivery.trouble:
            delivered.has_more = delivery.has_more
            self._record_rows(delivered, delivery.usernames)

    def _record_rows(self, delivered: DeliveredList, usernames: list[str]) -> None:
        if len(usernames) > self._remaining_rows:
            delivered.is_recorded = False
            return
        self._remaining_rows -= len(usernames)
        delivered.rows.extend(map(row_hash, usernames))
