"""A list from its newest row to its end, page by page, and what pages must be to make a list. Without I/O."""

from typing import Any

from retinue.client.answers import Page
from retinue.client.protocol import Protocol, Steps


class Walk:
    """One account's list on its way down. `cursor` is what the next page is asked with; None: now.

    A page counts only when it goes on where the one before has ended: otherwise rows might be missing, or come twice.
    """

    def __init__(self, protocol: Protocol, direction: str, body: dict[str, Any]) -> None:
        self.cursor: int | None = body.pop("cursor", None) or None  # 0 means now
        self.is_over = False
        self._protocol = protocol
        self._direction = direction
        self._body = body

    def next_page(self) -> Steps[Page | None]:
        """The next page; None at the end. After an error the same page is asked for again."""
        if self.is_over:
            return None
        body = self._body if self.cursor is None else self._body | {"cursor": self.cursor}
        page = yield from self._protocol.page(self._direction, body, wrong)
        self.cursor = page.cursor
        self.is_over = not page.has_more
        return page


def wrong(page: Page) -> str:
    """Why the pages asked for with a page's cursor would not go on where it has ended; empty if they do."""
    if page.bound is not None and page.cursor > page.bound:
        return f"not the page that was asked for: with {page.bound}, answered with {page.cursor}"
    if not page.has_more:
        return ""
    if not page.rows:
        return "no rows, though there are more"
    if page.cursor < 1:  # which would mean now
        return f"there are more rows, but with the cursor {page.cursor}"
    if page.bound is not None and page.cursor == page.bound:
        return f"the cursor does not move: asked with {page.bound}, answered with {page.cursor}"
    return ""
