"""`AsyncClient` for event loops, and `Client` for blocking code and notebooks: the same, on a loop of its own."""

import asyncio
import operator
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Any, Self, TypedDict, TypeVar, Unpack

from msgspec import Struct

from retinue import names
from retinue.client.connections import Service
from retinue.client.listing import AsyncListing, Listing
from retinue.client.loop_thread import LoopThread
from retinue.client.paginator import Paginator
from retinue.client.protocol import ApiProtocol, RetryPolicy
from retinue.client.responses import Person, RawUserInfo, UserInfo
from retinue.client.transport import OnWait, Transport
from retinue.clock import Clock, SystemClock
from retinue.errors import InputError

TIKTOK = "https://open.tiktokapis.com"
MOST_ROWS = 100

_T = TypeVar("_T")


class Runtime(Struct, frozen=True):
    """Time and chance, for those who test: numbers from 0 to 1, and a sleep of so many seconds."""

    clock: Clock = SystemClock()
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class ClientOptions(TypedDict, total=False):
    """How to ask: how patiently (`RetryPolicy`), over how many connections (32), how long to wait for an answer (60 s).

    `on_wait` is called whenever the client is going to wait, with the seconds and the reason.
    """

    policy: RetryPolicy
    connections: int
    timeout_seconds: float
    on_wait: OnWait | None
    outside: Runtime


class ListOptions(TypedDict, total=False):
    """Where a list begins: now, unless there is a cursor.

    `newest` is the first row of the page before that cursor, if it is known: by it a page that comes twice is told.
    `max_count` is how many rows a page has, from 1 to 100 (100). `as_of` is a second in the past, for servers that know
    it (Retinue does, TikTok does not).
    """

    cursor: int | None
    newest: Person | None
    max_count: int
    as_of: int | None


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
        **options: Unpack[ClientOptions],
    ) -> None:
        if not client_key or not client_secret:
            raise InputError("a client has a key and a secret, and one of them is empty")
        outside = options.get("outside") or Runtime()
        policy = options.get("policy") or RetryPolicy()
        target = Service(url, options.get("connections", 32), options.get("timeout_seconds", 60.0))
        self._protocol = ApiProtocol(client_key, client_secret, policy, outside.clock, outside.chance)
        self._transport = Transport(self._protocol, target, outside.sleep, options.get("on_wait") or _in_silence)

    def following(self, username: str, **start: Unpack[ListOptions]) -> AsyncListing:
        """Return the accounts that an account follows, newest first. Raises `InputError`."""
        return self._listing("following", username, start)

    def followers(self, username: str, **start: Unpack[ListOptions]) -> AsyncListing:
        """Return the accounts that follow an account, newest first. Raises `InputError`."""
        return self._listing("followers", username, start)

    async def user_info(self, username: str) -> UserInfo:
        """An account's profile."""
        return (await self.raw_user_info(username)).profile

    async def raw_user_info(self, username: str) -> RawUserInfo:
        """An account's profile as it came: when, under which log_id, in which bytes."""
        _check_username(username)
        return await self._transport.run(self._protocol.info(username))

    async def raw_counts(self, username: str) -> RawUserInfo:
        """Return the counts of an account's lists as they came, or raise soon if they cannot be had."""
        _check_username(username)
        return await self._transport.run(self._protocol.counts(username))

    async def log_in(self, *, anew: bool = False) -> None:
        """Make sure that there is a token, as all else does by itself; `anew`: another one.

        Raises `Refused`, `GaveUp`.
        """
        await self._transport.token(self._protocol.known_token(None) if anew else None)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _listing(self, direction: str, username: str, start: ListOptions) -> AsyncListing:
        walk = Paginator(self._protocol, direction, _body(username, start), start.get("newest"))
        return AsyncListing(walk, self._transport)


class Client:
    """As `AsyncClient`, for code that waits: also in a notebook, whose own event loop is left alone.

    May be used by many threads at once, and after a fork in the child process as well, where it opens connections of
    its own. Close it, or use it in `with`.
    """

    def __init__(
        self, client_key: str, client_secret: str, url: str = TIKTOK, **options: Unpack[ClientOptions]
    ) -> None:
        self._client = AsyncClient(client_key, client_secret, url, **options)
        self._threads: dict[int, LoopThread] = {}  # by process

    def following(self, username: str, **start: Unpack[ListOptions]) -> Listing:
        """Return the accounts that an account follows, newest first. Raises `InputError`."""
        return Listing(self._client.following(username, **start), self._run)

    def followers(self, username: str, **start: Unpack[ListOptions]) -> Listing:
        """Return the accounts that follow an account, newest first. Raises `InputError`."""
        return Listing(self._client.followers(username, **start), self._run)

    def user_info(self, username: str) -> UserInfo:
        """An account's profile."""
        return self._run(self._client.user_info(username))

    def close(self) -> None:
        """Close all connections. Whoever waits for something in another thread gets an `InputError`."""
        self._thread().close(self._client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._thread().run(coroutine)

    def _thread(self) -> LoopThread:
        """The thread of this process: threads do not survive a fork, and locks may be held for ever after one."""
        return self._threads.setdefault(os.getpid(), LoopThread())


def _in_silence(_seconds: float, _reason: str) -> None:
    """Who waits tells nobody."""


def _check_username(username: object) -> None:
    """Raises `InputError` for what is no username."""
    if not isinstance(username, str):
        raise InputError(f"username: expected text, not {username!r}")
    if fault := names.fault_in_username(username):
        raise InputError(f"username: {username!r} {fault}")


def _body(username: str, start: ListOptions) -> dict[str, Any]:
    """What to ask with. Raises `InputError`, before anything is asked."""
    _check_username(username)
    max_count = _integer(start.get("max_count", MOST_ROWS))
    if max_count is None or not 1 <= max_count <= MOST_ROWS:
        raise InputError(f"max_count: expected an integer from 1 to {MOST_ROWS}, not {start['max_count']!r}")
    seconds = {"cursor": _second("cursor", start.get("cursor")), "as_of": _second("as_of", start.get("as_of"))}
    said = {"username": username, "max_count": max_count, **seconds}
    return {name: value for name, value in said.items() if value is not None}


def _second(name: str, value: object) -> int | None:
    """A Unix second. Raises `InputError`."""
    second = _integer(value)
    if value is not None and (second is None or second < 0):
        raise InputError(f"{name}: expected a Unix second, not {value!r}")
    return second


def _integer(value: object) -> int | None:
    """The integer that a value is, also one of numpy's; None if it is something else, such as true."""
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # it is tried
    except TypeError:
        return None
