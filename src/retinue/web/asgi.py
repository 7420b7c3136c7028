"""The public ASGI application: finds the route, reads the body, sends the answer, turns every error into one.

Plain ASGI on purpose: around a call that takes microseconds a framework would cost more than the work. Knows the
shape of requests and answers; what a path means is `routes.py`'s business.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

from msgspec import Struct

from retinue import errors, wire
from retinue.clock import Clock

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

_LOGGER = logging.getLogger("retinue.web")


class ClientGone(Exception):
    """The client went away before its body was read."""


class Request:
    """What a handler may know of a request."""

    __slots__ = ("_receive", "headers", "log_id")

    def __init__(self, headers: Iterable[tuple[bytes, bytes]], receive: Receive, log_id: str) -> None:
        self.headers = headers
        self.log_id = log_id
        self._receive = receive

    def header(self, name: bytes) -> bytes:
        """The first header of a (lower-case) name; empty where there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    async def body(self) -> bytes:
        """The whole body. Raises `BodyTooLarge`, without reading on."""
        if (declared := self.header(b"content-length")).isdigit() and int(declared[:20]) > wire.MAX_BODY_BYTES:
            raise errors.BodyTooLarge(str(wire.MAX_BODY_BYTES))
        message = await self._receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body", False):
            if len(body) > wire.MAX_BODY_BYTES:
                break
            message = await self._receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientGone
        if len(body) > wire.MAX_BODY_BYTES:
            raise errors.BodyTooLarge(str(wire.MAX_BODY_BYTES))
        return body


class Answer(Struct, frozen=True, gc=False):
    """What a handler answers with status 200."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Handler(Protocol):
    """Answers one kind of request, or raises a `Refusal`."""

    async def __call__(self, request: Request, /) -> Answer:
        """The answer."""
        ...


class Route(Struct, frozen=True):
    """What is served at a path, always by POST. `refusal_body` is the form of its errors."""

    handler: Handler
    refusal_body: Callable[[errors.Refusal, str], bytes] = wire.refusal_body


class LogIds:
    """Gives each request its log_id."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._second = -1
        self._date = ""

    def fresh(self) -> str:
        """A new log_id."""
        now = self._clock.now()
        if now != self._second:
            self._second, self._date = now, wire.log_id_date(now)
        return self._date + self._random_bytes(wire.LOG_ID_RANDOM_BYTES).hex().upper()


class Application:
    """Answers HTTP requests by a table from path to route."""

    def __init__(self, routes: dict[str, Route], log_ids: LogIds) -> None:
        # Both spellings of each path are served: a redirect would turn a client's POST into a GET.
        self._routes = {spelling: route for path, route in routes.items() for spelling in (path, path.rstrip("/"))}
        self._log_ids = log_ids

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope["headers"], receive, self._log_ids.fresh())
        route = self._routes.get(scope["path"])
        try:
            answer = await _answer(route, scope["method"], request)
        except errors.Refusal as refusal:
            await _refuse(send, refusal, route, request.log_id)
        except ClientGone:
            return
        except Exception:
            _LOGGER.exception("log_id=%s", request.log_id)
            await _refuse(send, errors.InternalFault(), route, request.log_id)
        else:
            await _send(send, 200, answer.body, [(b"x-tt-logid", request.log_id.encode()), *answer.headers])

    async def overloaded(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Refuse one request because there are too many connections."""
        await _refuse(send, errors.Overloaded(), self._routes.get(scope["path"]), self._log_ids.fresh())

    def not_http(self) -> tuple[int, Headers, bytes]:
        """Status, headers and body for bytes that are not HTTP, so that no scope exists."""
        return refusal_parts(errors.NotHttp(), None, self._log_ids.fresh())


async def _answer(route: Route | None, method: str, request: Request) -> Answer:
    if route is None:
        raise errors.PathUnsupported
    if method != "POST":
        raise errors.MethodNotAllowed("POST")
    return await route.handler(request)


def refusal_parts(refusal: errors.Refusal, route: Route | None, log_id: str) -> tuple[int, Headers, bytes]:
    """Status, headers and body of a refusal, in the form of the route's errors.

    What is wrong before the route is asked (404, 405) is always in the envelope.
    """
    wording = wire.WORDINGS[type(refusal)]
    form = wire.refusal_body if route is None else route.refusal_body
    if isinstance(refusal, errors.MethodNotAllowed):
        form = wire.refusal_body
    body = form(refusal, log_id)
    headers = [(b"x-tt-logid", log_id.encode())]
    if wording.retry_after is not None:
        headers.append((b"retry-after", str(wording.retry_after).encode()))
    if isinstance(refusal, errors.MethodNotAllowed):
        headers.append((b"allow", refusal.detail.encode()))
    if isinstance(refusal, _ENDS_CONNECTION):
        headers.append((b"connection", b"close"))
    return wording.status, headers, body


# What is left of a too long body is not worth reading; without a place or without HTTP nothing more can follow.
_ENDS_CONNECTION = (errors.BodyTooLarge, errors.Overloaded, errors.NotHttp)


async def _refuse(send: Send, refusal: errors.Refusal, route: Route | None, log_id: str) -> None:
    if isinstance(refusal, errors.StoreUnavailable):
        _LOGGER.error("store unavailable: %s log_id=%s", refusal.detail, log_id)
    status, headers, body = refusal_parts(refusal, route, log_id)
    await _send(send, status, body, headers)


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [*entity_headers(body), *headers]})
    await send({"type": "http.response.body", "body": body})


def entity_headers(body: bytes) -> Headers:
    """The headers of every answer. No charset: some clients compare the content type letter by letter."""
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
