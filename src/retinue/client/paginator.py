"""A list from its newest row to its end, page by page, and what pages must be to make a list. Without I/O."""

from datetime import UTC, datetime
from typing import Any

from retinue.client.protocol import ApiProtocol, Flow
from retinue.client.responses import ListPage, Person

# The cursor of a first page that is as good as now has not moved. Of a list that is just growing this may be true as
# well; it is not any more when the page is asked for again.
_NOW_SECONDS = 2


class Paginator:
    """One account's list on its way down. `cursor` is what the next page is asked with; None: now.

    A page counts only when it goes on where the one before has ended: otherwise rows might be missing, or come twice.
    """

    def __init__(
        self, protocol: ApiProtocol, direction: str, body: dict[str, Any], newest: Person | None = None
    ) -> None:
        self.cursor: int | None = body.pop("cursor", None) or None  # 0 means now
        self.is_over = False
        self._protocol = protocol
        self.direction = direction
        self.is_whole = self.cursor is None and not body.get("as_of")  # as it is today, from its newest row on
        self._body = body
        self.newest = newest if self.cursor is not None else None  # the first row of the page before

    def next_page(self) -> Flow[ListPage | None]:
        """The next page; None at the end. After an error the same page is asked for again."""
        if self.is_over:
            return None
        body = self._body if self.cursor is None else self._body | {"cursor": self.cursor}
        page = yield from self._protocol.page(self.direction, body, self._wrong)
        self.cursor = page.cursor
        self.is_over = not page.has_more
        self.newest = newest_of(page)
        return page

    def _wrong(self, page: ListPage) -> str:
        return _excess(page, self._body.get("max_count")) or wrong(page, self.newest)


def _excess(page: ListPage, max_rows: int | None) -> str:
    """Return what is wrong with a page of more rows than were asked for; empty if it has no more."""
    if max_rows is None or len(page.rows) <= max_rows:
        return ""
    return f"{len(page.rows)} rows, though at most {max_rows} were asked for"


def newest_of(page: ListPage) -> Person | None:
    """The row by which a page is known again; None where it has too few, or that one has no name."""
    return page.rows[0] if len(page.rows) > 1 and page.rows[0].username else None


def wrong(page: ListPage, newest: Person | None) -> str:
    """Why the pages asked for with a page's cursor would not go on where it has ended; empty if they do.

    `newest` is the first row of the page before, which cannot be the first of this one as well.
    """
    if page.bound is not None and page.cursor > page.bound:
        return f"not the page that was asked for: with {page.bound}, answered with {page.cursor}"
    if newest is not None and page.rows and page.rows[0] == newest:
        return f"the page before once more, from {newest.username!r} on"
    return _no_way_on(page) if page.has_more else ""


def _no_way_on(page: ListPage) -> str:
    if not page.rows:
        return "no rows, though there are more"
    if page.cursor < 1:  # which would mean now
        return f"there are more rows, but with the cursor {page.cursor}"
    if page.cursor == page.bound or (page.bound is None and page.cursor >= answered_at(page) - _NOW_SECONDS):
        said = f"the cursor does not move: asked with {page.bound or 'none'}, answered with {page.cursor}"
        return said if page.bound is not None else f"{said} (or this machine's clock is behind)"
    return ""


def answered_at(page: ListPage) -> int:
    """When the service has answered, by its own clock, which is in its log_id; else by ours."""
    try:
        return int(datetime.strptime(page.log_id[:14], "%Y%m%d%H%M%S").replace(tzinfo=UTC).timestamp())
    except ValueError:
        return page.answered_at
