"""Pagination without I/O: consistency checks, the position to resume at, and likely caps."""

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from retinue.client.protocol import ApiProtocol, Flow
from retinue.client.responses import ListPage, Person, UserInfo

# A first page whose cursor is this close to now has not moved. A growing list can cause that too, but not twice.
_NOW_SECONDS = 2
# Users saw lists end near 4,000 and 5,000 rows.
_MIN_CAP_ROWS = 4_000
_CAP_STEP_ROWS = 1_000


class Paginator:
    """One account's list, read downwards. `cursor` is sent with the next page; None means now."""

    def __init__(
        self, protocol: ApiProtocol, direction: str, body: dict[str, Any], newest: Person | None = None
    ) -> None:
        self.cursor: int | None = body.pop("cursor", None) or None  # 0 means now
        self.is_over = False
        self._protocol = protocol
        self.direction = direction
        self.starts_now = self.cursor is None and not body.get("as_of")
        self._body = body
        self.newest = newest if self.cursor is not None else None  # the first row of the page before

    def next_page(self) -> Flow[ListPage | None]:
        """Return the next page, or None at the end. After an error it is requested again."""
        if self.is_over:
            return None
        body = self._body if self.cursor is None else self._body | {"cursor": self.cursor}
        page = yield from self._protocol.page(self.direction, body, self._inconsistency)
        self.cursor = page.cursor
        self.is_over = not page.has_more
        self.newest = newest_of(page)
        return page

    def _inconsistency(self, page: ListPage) -> str:
        max_rows = self._body.get("max_count")
        if max_rows is not None and len(page.rows) > max_rows:
            return f"{len(page.rows)} rows, though at most {max_rows} were requested"
        return inconsistency(page, self.newest)


def newest_of(page: ListPage) -> Person | None:
    """Return the row that identifies a page: the first, or None."""
    return page.rows[0] if len(page.rows) > 1 and page.rows[0].username else None


def inconsistency(page: ListPage, newest: Person | None) -> str:
    """Return why a page does not continue its list, or "". `newest` is the first row of the previous page."""
    if page.bound is not None and page.cursor > page.bound:
        return f"not the page that was requested: with {page.bound}, answered with {page.cursor}"
    if newest is not None and page.rows and page.rows[0] == newest:
        return f"the page before once more, from {newest.username!r} on"
    return _dead_end(page) if page.has_more else ""


def _dead_end(page: ListPage) -> str:
    if not page.rows:
        return "no rows, though there are more"
    if page.cursor < 1:  # 0 would mean now
        return f"there are more rows, but with the cursor {page.cursor}"
    if page.cursor == page.bound or (page.bound is None and page.cursor >= answered_at(page) - _NOW_SECONDS):
        problem = f"the cursor does not move: sent {page.bound or 'none'}, answered with {page.cursor}"
        return problem if page.bound is not None else f"{problem} (or this machine's clock is behind)"
    return ""


def answered_at(page: ListPage) -> int:
    """Return a response's Unix second, from its log_id or else our clock."""
    try:
        return int(datetime.strptime(page.log_id[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return page.answered_at


class ListCount(Struct, frozen=True):
    """The rows of a list, and its profile's count, hidden accounts included."""

    rows: int
    profile_count: int | None = None

    @property
    def gap(self) -> int | None:
        """The profile's count minus the rows; None if the count is unknown."""
        return None if self.profile_count is None else self.profile_count - self.rows

    @property
    def is_maybe_capped(self) -> bool:
        """Whether the list may be capped by the service."""
        return is_likely_cap(self.rows) and self.gap is not None and self.gap > 0


def is_likely_cap(rows: int) -> bool:
    """Return whether services may end lists after this many rows."""
    return rows >= _MIN_CAP_ROWS and rows % _CAP_STEP_ROWS == 0


def count_in(profile: UserInfo, direction: str) -> int | None:
    """Return the count of a list in a profile, or None."""
    count = profile.following_count if direction == "following" else profile.follower_count
    return count if count is not None and 0 <= count < 2**63 else None
