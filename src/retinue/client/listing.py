"""A list as it is read by a program: rows one by one, or page by page, for event loops and for blocking code."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any, TypeVar

from retinue.client.counts import ListCount, count_in
from retinue.client.errors import ClientError
from retinue.client.paginator import Paginator
from retinue.client.responses import ListPage, Person, UserInfo
from retinue.client.transport import Transport

_T = TypeVar("_T")
Run = Callable[[Coroutine[Any, Any, _T]], _T]


class AsyncListing:
    """One list, read once: `async for person in listing`, or `async for page in listing.pages()`.

    Rows that were read stay in `collected`, also when an error ends the reading; then what is asked for next goes on
    at `cursor`. Who leaves a loop over rows in the middle of a page goes on in a second one with the next row.
    """

    def __init__(self, walk: Paginator, driver: Transport) -> None:
        self._walk = walk
        self._transport = driver
        self.collected: list[Person] = []
        self._given = 0  # how many of these somebody has got

    @property
    def cursor(self) -> int | None:
        """What the next page is asked with; None: now."""
        return self._walk.cursor

    @property
    def newest(self) -> Person | None:
        """The first row of the page before the cursor: whoever goes on there later says it too."""
        return self._walk.newest

    @property
    def is_over(self) -> bool:
        """Whether the end of the list was reached."""
        return self._walk.is_over

    def count(self, profile: UserInfo) -> ListCount:
        """Compare the rows that were read with the count in the account's profile.

        That is unknown unless the list was read from now to its end: the count is of the whole list as it is today.
        """
        is_whole = self._walk.is_whole and self.is_over
        return ListCount(len(self.collected), count_in(profile, self._walk.direction) if is_whole else None)

    async def next_page(self) -> ListPage | None:
        """The next page; None at the end."""
        page = await self.read()
        self._given = len(self.collected)
        return page

    def left(self) -> Iterator[Person]:
        """The rows that were read and nobody has got yet."""
        while self._given < len(self.collected):
            self._given += 1
            yield self.collected[self._given - 1]

    async def read(self) -> ListPage | None:
        """Read the next page, whose rows are left then."""
        try:
            page = await self._transport.run(self._walk.next_page())
        except ClientError as error:
            error.collected, error.cursor, error.newest = tuple(self.collected), self.cursor, self.newest
            raise
        self.collected += page.rows if page else ()
        return page

    async def pages(self) -> AsyncIterator[ListPage]:
        """Page by page, to the end."""
        while page := await self.next_page():
            yield page

    async def __aiter__(self) -> AsyncIterator[Person]:
        while True:
            for person in self.left():
                yield person
            if await self.read() is None:
                return


class Listing:
    """One list, read once: `for person in listing`, or `for page in listing.pages()`. As `AsyncListing`."""

    def __init__(self, listing: AsyncListing, run: "Run[ListPage | None]") -> None:
        self._listing = listing
        self._run = run

    @property
    def collected(self) -> list[Person]:
        """The rows that were read."""
        return self._listing.collected

    @property
    def cursor(self) -> int | None:
        """What the next page is asked with; None: now."""
        return self._listing.cursor

    @property
    def newest(self) -> Person | None:
        """The first row of the page before the cursor: whoever goes on there later says it too."""
        return self._listing.newest

    @property
    def is_over(self) -> bool:
        """Whether the end of the list was reached."""
        return self._listing.is_over

    def count(self, profile: UserInfo) -> ListCount:
        """Compare the rows that were read with the count in the account's profile, as `AsyncListing` does."""
        return self._listing.count(profile)

    def next_page(self) -> ListPage | None:
        """The next page; None at the end."""
        return self._run(self._listing.next_page())

    def pages(self) -> Iterator[ListPage]:
        """Page by page, to the end."""
        while page := self.next_page():
            yield page

    def __iter__(self) -> Iterator[Person]:
        while True:
            yield from self._listing.left()
            if self._run(self._listing.read()) is None:
                return
