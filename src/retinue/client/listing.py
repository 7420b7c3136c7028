"""A list as rows or pages, for event loops and blocking code."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from retinue.client.errors import ClientError
from retinue.client.paginator import ListCount, Paginator, count_in
from retinue.client.responses import ListPage, Person, UserInfo
from retinue.client.transport import Transport

_T = TypeVar("_T")
Run = Callable[[Coroutine[Any, Any, _T]], _T]


class AsyncListing:
    """One list, read once: `async for person in listing`, or `async for page in listing.pages()`.

    Rows stay in `collected`, even after an error. A second loop resumes at the next row.
    """

    def __init__(self, paginator: Paginator, transport: Transport) -> None:
        self._paginator = paginator
        self._transport = transport
        self.collected: list[Person] = []
        self._delivered = 0

    @property
    def cursor(self) -> int | None:
        """The cursor of the next request; None means now."""
        return self._paginator.cursor

    @property
    def newest(self) -> Person | None:
        """The first row of the page before the cursor."""
        return self._paginator.newest

    @property
    def is_over(self) -> bool:
        """Whether the end of the list was reached."""
        return self._paginator.is_over

    def count(self, profile: UserInfo) -> ListCount:
        """Compare a whole list, read from now on, with its profile."""
        is_complete = self._paginator.starts_now and self.is_over
        return ListCount(len(self.collected), count_in(profile, self._paginator.direction) if is_complete else None)

    async def next_page(self) -> ListPage | None:
        """Return the next page; None at the end."""
        page = await self.fetch()
        self._delivered = len(self.collected)
        return page

    def undelivered(self) -> Iterator[Person]:
        """Yield the undelivered rows."""
        while self._delivered < len(self.collected):
            self._delivered += 1
            yield self.collected[self._delivered - 1]

    async def fetch(self) -> ListPage | None:
        """Return the next page, its rows undelivered; None at the end."""
        try:
            page = await self._transport.run(self._paginator.next_page())
        except ClientError as error:
            error.collected, error.cursor, error.newest = tuple(self.collected), self.cursor, self.newest
            raise
        self.collected += page.rows if page else ()
        return page

    async def pages(self) -> AsyncIterator[ListPage]:
        """Yield pages up to the end."""
        while page := await self.next_page():
            yield page

    async def __aiter__(self) -> AsyncIterator[Person]:
        while True:
            for person in self.undelivered():
                yield person
            if await self.fetch() is None:
                return


class Listing:
    """`AsyncListing` for blocking code."""

    def __init__(self, listing: AsyncListing, run: "Run[ListPage | None]") -> None:
        self._listing = listing
        self._run = run

    @property
    def collected(self) -> list[Person]:
        """The rows that were read."""
        return self._listing.collected

    @property
    def cursor(self) -> int | None:
        """The cursor of the next request; None means now."""
        return self._listing.cursor

    @property
    def newest(self) -> Person | None:
        """The first row of the page before the cursor."""
        return self._listing.newest

    @property
    def is_over(self) -> bool:
        """Whether the end of the list was reached."""
        return self._listing.is_over

    def count(self, profile: UserInfo) -> ListCount:
        """Compare a whole list, read from now on, with its profile."""
        return self._listing.count(profile)

    def next_page(self) -> ListPage | None:
        """Return the next page; None at the end."""
        return self._run(self._listing.next_page())

    def pages(self) -> Iterator[ListPage]:
        """Yield pages up to the end."""
        while page := self.next_page():
            yield page

    def __iter__(self) -> Iterator[Person]:
        while True:
            yield from self._listing.undelivered()
            if self._run(self._listing.fetch()) is None:
                return
