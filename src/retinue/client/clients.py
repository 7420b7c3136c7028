"""`AsyncClient` for event loops, and `Client` for blocking code and notebooks: the same, on a loop of its own."""

import asyncio
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypeVar

from msgspec import Struct

from retinue.client.answers import Info, Person, Profile
from retinue.client.driver import Driver, Target
from retinue.client.listing import AsyncListing, Listing
from retinue.client.protocol import Policy, Protocol
from retinue.client.walk import Walk
from retinue.clock import Clock, SystemClock
from retinue.errors import InputError

TIKTOK = "https://open.tiktokapis.com"
MOST_ROWS = 100

_T = TypeVar("_T")


class Outside(Struct, frozen=True):
    """Time and chance, for those who test: numbers from 0 to 1, and a sleep of so many seconds."""

    clock: Clock = SystemClock()
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class AsyncClient:
    """Asks TikTok's Research API, or whatever speaks its contract, in the name of one registered client.

    Tokens are fetched and renewed; short refusals are waited out; what is broken is asked for again, as often as
    `policy` allows. May be used by many tasks at once. Close it, or use it in `async with`.
    """

    def __init__(
        self,
        client_key: str,
        client_secret: str,
        url: str = TIKTOK,
        *,
        policy: Policy | None = None,
        connections: int = 32,
        timeout_seconds: float = 60.0,
        outside: Outside | None = None,
    ) -> None:
        outside = outside or Outside()
        self._protocol = Protocol(client_key, client_secret, policy or Policy(), outside.clock, outside.chance)
        self._driver = Driver(self._protocol, Target(url, connections, timeout_seconds), outside.sleep)

    def following(
        self,
        username: str,
        *,
        cursor: int | None = None,
        newest: Person | None = None,
        max_count: int = MOST_ROWS,
        as_of: int | None = None,
    ) -> AsyncListing:
        """The accounts that an account follows, newest first; from a cursor on, where one is given.

        `newest` is the first row of the page before that cursor, if it is known: by it a page that comes twice is told.
        `as_of` is a second in the past, for servers that know it (Retinue does, TikTok does not).
        """
        return self._listing("following", _body(username, cursor, max_count, as_of), newest)

    def followers(
        self,
        username: str,
        *,
        cursor: int | None = None,
        newest: Person | None = None,
        max_count: int = MOST_ROWS,
        as_of: int | None = None,
    ) -> AsyncListing:
        """The accounts that follow an account, newest first; otherwise as `following`."""
        return self._listing("followers", _body(username, cursor, max_count, as_of), newest)

    async def user_info(self, username: str) -> Profile:
        """An account's profile."""
        return (await self.raw_user_info(username)).profile

    async def raw_user_info(self, username: str) -> Info:
        """An account's profile as it came: when, under which log_id, in which bytes."""
        return await self._driver.run(self._protocol.info(username))

    async def close(self) -> None:
        """Close all connections."""
        await self._driver.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _listing(self, direction: str, body: dict[str, Any], newest: Person | None) -> AsyncListing:
        return AsyncListing(Walk(self._protocol, direction, body, newest), self._driver)


class Client:
    """As `AsyncClient`, for code that waits: also in a notebook, whose own event loop is left alone.

    May be used by many threads at once. Close it, or use it in `with`.
    """

    def __init__(self, client_key: str, client_secret: str, url: str = TIKTOK, **options: Any) -> None:
        """Options are those of `AsyncClient`."""
        self._client = AsyncClient(client_key, client_secret, url, **options)
        self._is_closed = False
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._serve, name="retinue-client", daemon=True).start()

    def following(
        self,
        username: str,
        *,
        cursor: int | None = None,
        newest: Person | None = None,
        max_count: int = MOST_ROWS,
        as_of: int | None = None,
    ) -> Listing:
        """The accounts that an account follows, newest first; from a cursor on, where one is given.

        `newest` is the first row of the page before that cursor, if it is known: by it a page that comes twice is told.
        `as_of` is a second in the past, for servers that know it (Retinue does, TikTok does not).
        """
        return self._listing(
            self._client.following(username, cursor=cursor, newest=newest, max_count=max_count, as_of=as_of)
        )

    def followers(
        self,
        username: str,
        *,
        cursor: int | None = None,
        newest: Person | None = None,
        max_count: int = MOST_ROWS,
        as_of: int | None = None,
    ) -> Listing:
        """The accounts that follow an account, newest first; otherwise as `following`."""
        return self._listing(
            self._client.followers(username, cursor=cursor, newest=newest, max_count=max_count, as_of=as_of)
        )

    def user_info(self, username: str) -> Profile:
        """An account's profile."""
        return self._run(self._client.user_info(username))

    def close(self) -> None:
        """Close all connections."""
        if not self._is_closed:
            self._run(self._client.close())
            self._is_closed = True
            self._loop.call_soon_threadsafe(self._loop.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _serve(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def _listing(self, listing: AsyncListing) -> Listing:
        return Listing(listing, self._run)

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        if self._is_closed:
            coroutine.close()
            raise InputError("the client is closed")
        waiting = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return waiting.result()
        except BaseException:  # such as Ctrl-C, while we wait
            waiting.cancel()
            raise


def _body(username: str, cursor: int | None, max_count: int, as_of: int | None) -> dict[str, Any]:
    """What to ask with. Raises `InputError`, before anything is asked."""
    if not 1 <= max_count <= MOST_ROWS:
        raise InputError(f"max_count: expected an integer from 1 to {MOST_ROWS}, not {max_count}")
    if cursor is not None and cursor < 0:
        raise InputError(f"cursor: expected a Unix second, not {cursor}")
    said = {"username": username, "max_count": max_count, "cursor": cursor, "as_of": as_of}
    return {name: value for name, value in said.items() if value is not None}
