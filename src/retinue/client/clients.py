"""`AsyncClient` for event loops and `Client` for blocking code."""

import asyncio
import operator
import os
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, TypedDict, TypeVar, Unpack

from msgspec import Struct

from retinue import names
from retinue.client.listing import AsyncListing, Listing
from retinue.client.loop_thread import LoopThread
from retinue.client.paginator import Paginator
from retinue.client.protocol import ApiProtocol, RetryPolicy
from retinue.client.responses import Person, RawUserInfo, UserInfo
from retinue.client.transport import OnWait, Service, Transport
from retinue.clock import Clock, SystemClock
from retinue.errors import InputError

TIKTOK = "https://open.tiktokapis.com"
MAX_ROWS = 100

_T = TypeVar("_T")


class Runtime(Struct, frozen=True):
    """Time and randomness. `chance` returns numbers from 0 to 1; `sleep` takes seconds."""

    clock: Clock = SystemClock()
    chance: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class ClientOptions(TypedDict, total=False):
    """Options of a client. `connections` defaults to 32.

    `timeout_seconds`, by default 60, covers one response. `on_wait` gets the seconds and the reason of each wait.
    """

    policy: RetryPolicy
    connections: int
    timeout_seconds: float
    on_wait: OnWait | None
    runtime: Runtime


class ListOptions(TypedDict, total=False):
    """The part of a list to read, by default all of it.

    `newest` is the first row of the page before `cursor`; it reveals a repeated page. `max_count` is from 1 to 100.
    TikTok does not support `as_of`, an earlier second.
    """

    cursor: int | None
    newest: Person | None
    max_count: int
    as_of: int | None


class AsyncClient:
    """A client of TikTok's Research API or of a compatible server. Tasks may share it."""

    def __init__(
        self, client_key: str, client_secret: str, url: str = TIKTOK, **options: Unpack[ClientOptions]
    ) -> None:
        if not client_key or not client_secret:
            raise InputError("client_key and client_secret must not be empty")
        runtime = options.get("runtime") or Runtime()
        policy = options.get("policy") or RetryPolicy()
        service = Service(url, options.get("connections", 32), options.get("timeout_seconds", 60.0))
        self._protocol = ApiProtocol(client_key, client_secret, policy, runtime.clock, runtime.chance)
        self._transport = Transport(self._protocol, service, runtime.sleep, options.get("on_wait") or (lambda *_: None))

    def following(self, username: str, **start: Unpack[ListOptions]) -> AsyncListing:
        """Return an account's following list. Raises `InputError`."""
        return self._listing("following", username, start)

    def followers(self, username: str, **start: Unpack[ListOptions]) -> AsyncListing:
        """Return an account's followers list. Raises `InputError`."""
        return self._listing("followers", username, start)

    async def user_info(self, username: str) -> UserInfo:
        """Return an account's profile."""
        return (await self.raw_user_info(username)).profile

    async def raw_user_info(self, username: str, *, only_counts: bool = False) -> RawUserInfo:
        """Return a profile with its provenance. `only_counts` requests the counts alone, in few attempts."""
        _check_username(username)
        return await self._transport.run(self._protocol.info(username, only_counts=only_counts))

    async def log_in(self, *, renew: bool = False) -> None:
        """Fetch a token if needed, or always to `renew`. Raises `Refused` or `GaveUp`."""
        await self._transport.token(self._protocol.cached_token(None) if renew else None)

    async def close(self) -> None:
        """Close all connections."""
        await self._transport.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    def _listing(self, direction: str, username: str, start: ListOptions) -> AsyncListing:
        paginator = Paginator(self._protocol, direction, _body(username, start), start.get("newest"))
        return AsyncListing(paginator, self._transport)


class Client:
    """`AsyncClient` for blocking code. Threads may share it, and a forked process gets its own connections."""

    def __init__(
        self, client_key: str, client_secret: str, url: str = TIKTOK, **options: Unpack[ClientOptions]
    ) -> None:
        self._client = AsyncClient(client_key, client_secret, url, **options)
        self._threads: dict[int, LoopThread] = {}  # by process

    def following(self, username: str, **start: Unpack[ListOptions]) -> Listing:
        """Return an account's following list. Raises `InputError`."""
        return Listing(self._client.following(username, **start), self._run)

    def followers(self, username: str, **start: Unpack[ListOptions]) -> Listing:
        """Return an account's followers list. Raises `InputError`."""
        return Listing(self._client.followers(username, **start), self._run)

    def user_info(self, username: str) -> UserInfo:
        """Return an account's profile."""
        return self._run(self._client.user_info(username))

    def close(self) -> None:
        """Close all connections. Waiting calls raise `InputError`."""
        self._thread().close(self._client.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _run(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._thread().run(coroutine)

    def _thread(self) -> LoopThread:
        # Threads do not survive a fork, and locks may stay locked after one.
        return self._threads.setdefault(os.getpid(), LoopThread())


def _check_username(username: object) -> None:
    if not isinstance(username, str):
        raise InputError(f"username: expected text, not {username!r}")
    if fault := names.fault_in_username(username):
        raise InputError(f"username: {username!r} {fault}")


def _body(username: str, start: ListOptions) -> dict[str, Any]:
    _check_username(username)
    max_count = _integer(start.get("max_count", MAX_ROWS))
    if max_count is None or not 1 <= max_count <= MAX_ROWS:
        raise InputError(f"max_count: expected an integer from 1 to {MAX_ROWS}, not {start['max_count']!r}")
    body = {"username": username, "max_count": max_count}
    for name, value in (("cursor", start.get("cursor")), ("as_of", start.get("as_of"))):
        if value is not None:
            second = _integer(value)
            if second is None or second < 0:
                raise InputError(f"{name}: expected a Unix second, not {value!r}")
            body[name] = second
    return body


def _integer(value: object) -> int | None:
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]  # all types are accepted
    except TypeError:
        return None
