"""The only file that knows the HTTP library: does what the protocol's generators say, on an event loop.

Proxies and authorities are taken from the environment, as most programs do; passwords from `.netrc` are not, since a
token stands where they would.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import suppress
from copy import copy
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from msgspec import Struct

from retinue.client.answers import Answer
from retinue.client.errors import ClientError
from retinue.client.protocol import Ask, Broken, NeedToken, Protocol, Steps
from retinue.errors import InputError

MOST_BYTES = 64 << 20  # of an answer
_FORM = "application/x-www-form-urlencoded"
_JSON = "application/json"
_LOGIN = re.compile(r"(?<=//)[^/\s]*@")  # of a proxy, whose URL is in the library's errors

_T = TypeVar("_T")

OnWait = Callable[[float, str], None]  # for how many seconds, and why


class Target(Struct, frozen=True):
    """Whom to ask, over how many connections at most, and how long to wait for one answer."""

    url: str
    connections: int = 32
    timeout_seconds: float = 60.0


class Driver:
    """Runs generators, any number at once. `sleep` takes seconds; `on_wait` is told before each."""

    def __init__(
        self, protocol: Protocol, target: Target, sleep: Callable[[float], Awaitable[None]], on_wait: OnWait
    ) -> None:
        _check_address(target.url)
        self._protocol = protocol
        self._target = target
        self._url = target.url.rstrip("/")
        self._sleep = sleep
        self._on_wait = on_wait
        self._proxy = _proxy_of(self._url)
        self._is_closed = False
        self._free = asyncio.Semaphore(target.connections)
        self._session: aiohttp.ClientSession | None = None
        self._fetching: asyncio.Task[str] | None = None

    async def run(self, steps: Steps[_T]) -> _T:
        """What a generator returns in the end."""
        said: Any = None
        try:
            while True:
                effect = steps.send(said)
                if isinstance(effect, Ask):
                    said = await self._send(effect)
                elif isinstance(effect, NeedToken):
                    said = await self.token(effect.refused)
                else:
                    said = None
                    self._on_wait(effect.seconds, effect.reason)
                    await self._sleep(effect.seconds)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # a generator's result has no type
        finally:
            steps.close()

    async def close(self) -> None:
        """Close all connections, for good."""
        self._is_closed = True
        if self._fetching is not None:
            self._fetching.cancel()
            with suppress(asyncio.CancelledError, ClientError):
                await self._fetching
        if self._session is not None:
            await self._session.close()

    async def token(self, refused: str | None) -> str:
        """A good token. However many wait for one, it is fetched once; where that fails, it has failed for all."""
        known = self._protocol.known_token(refused)
        if known is not None:
            return known
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        try:
            return await asyncio.shield(self._fetching)
        except ClientError as error:
            raise copy(error) from None  # one for each: what it says of a list is filled in by who reads that

    async def _fetch(self) -> str:
        try:
            return await self.run(self._protocol.fetch_token())
        finally:
            self._fetching = None

    async def _send(self, ask: Ask) -> Answer | Broken:
        headers = {"Content-Type": _FORM if ask.token is None else _JSON}
        if ask.token is not None:
            headers["Authorization"] = f"Bearer {ask.token}"
        try:
            # All of it has to be over in time: name, connection, proxy, headers, body.
            async with (
                self._free,
                asyncio.timeout(self._target.timeout_seconds),
                self._opened().post(
                    self._url + ask.path, data=ask.body, headers=headers, allow_redirects=False
                ) as response,
            ):
                body = await _whole(response.content)
                return Answer(response.status, body, {name.lower(): value for name, value in response.headers.items()})
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            return Broken(_LOGIN.sub("", said))

    def _opened(self) -> aiohttp.ClientSession:
        if self._is_closed:
            raise InputError("the client is closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._target.connections),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
                proxy=self._proxy,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _check_address(url: str) -> None:
    """Raises `InputError` for what is no address of a service; a password in it is not shown."""
    scheme, separator, place = url.partition("://")
    parts = _parts_of(url)
    if parts is None or parts.scheme not in ("http", "https") or "@" in place or any(each.isspace() for each in url):
        shown = f"{scheme}{separator}{place.rpartition('@')[2]}"
        raise InputError(f"{shown!r} is no address of a service; expected https://host[:port]")


def _parts_of(url: str) -> SplitResult | None:
    """The parts of a URL that names a host."""
    try:
        parts = urlsplit(url)
        is_one = bool(parts.hostname) and parts.port != 0
    except ValueError:  # such as a port that is no number
        return None
    return parts if is_one else None


def _proxy_of(url: str) -> str | None:
    """The proxy that the environment names for a URL. Raises `InputError`, without showing it."""
    parts = urlsplit(url)
    named = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    if named is None:
        return None
    proxy = named if "://" in named else f"http://{named}"
    if _parts_of(proxy) is None:
        raise InputError(f"what {parts.scheme}_proxy in the environment names is no address of a proxy")
    return proxy


async def _whole(content: aiohttp.StreamReader) -> bytes:
    """A body to its end. Raises `ValueError` where it is larger than any answer of the contract."""
    body = bytearray()
    async for piece in content.iter_any():
        body += piece
        if len(body) > MOST_BYTES:
            raise ValueError(f"an answer of more than {MOST_BYTES} bytes")
    return bytes(body)
