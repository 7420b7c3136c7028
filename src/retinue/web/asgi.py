"""The public ASGI application: finds the route, reads the body, sends the answer, turns every error into one.

Plain ASGI on purpose: around a call that takes microseconds a framework would cost more than the work. Knows the
shape of requests and answers; what a path means is `routes.py`'s business.
"""

import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from msgspec import Struct

from retinue import errors, wire
from retinue.clock import Clock
from retinue.requests import MAX_BODY_BYTES

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

    __slots__ = ("_receive", "_scope", "headers", "log_id")

    def __init__(self, scope: Scope, receive: Receive, log_id: str) -> None:
        self._scope = scope
        self._receive = receive
        self.headers: Headers = scope["headers"]
        self.log_id = log_id

    @property
    def query_string(self) -> bytes:
        """What stands behind the `?`, as it came."""
        query_string: bytes = self._scope.get("query_string", b"")
        return query_string

    def header(self, name: bytes) -> bytes:
        """The first header of a (lower-case) name; empty where there is none."""
        for key, value in self.headers:
            if key == name:
                return value
        return b""

    async def body(self) -> bytes:
        """The whole body. Raises `BodyTooLarge`, without reading on."""
        if (declared := self.header(b"content-length")).isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
            raise errors.BodyTooLarge(str(MAX_BODY_BYTES))
        message = await self._receive()
        body: bytes = message.get("body", b"")
        while message.get("more_body", False):
            if len(body) > MAX_BODY_BYTES:
                break
            message = await self._receive()
            body += message.get("body", b"")
        if message["type"] == "http.disconnect":
            raise ClientGone
        if len(body) > MAX_BODY_BYTES:
            raise errors.BodyTooLarge(str(MAX_BODY_BYTES))
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
    """What is served at a path, by POST alone unless `any_method`. `refusal_body` is the form of its errors.

    `at_once` says that its handler waits for nothing but the body, so that no task is needed to run it.
    """

    handler: Handler
    refusal_body: Callable[[errors.Refusal, str], bytes] = wire.refusal_body
    at_once: bool = False
    any_method: bool = False


class Reply(Struct, frozen=True, gc=False):
    """What goes over the line."""

    status: int
    headers: Headers
    body: bytes


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
        self.at_once_targets = frozenset(path.encode() for path, route in self._routes.items() if route.at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        reply = await self.reply(scope, receive)
        if reply is not None:
            await _send(send, reply)

    async def overloaded(self, scope: Scope, _receive: Receive, send: Send) -> None:
        """Refuse one request because there are too many connections, as an ASGI application."""
        await _send(send, _refusal(errors.Overloaded(), self._routes.get(scope["path"]), self._log_ids.fresh()))

    def not_http(self) -> Reply:
        """The reply to bytes that are not HTTP."""
        return _refusal(errors.NotHttp(), None, self._log_ids.fresh())

    async def reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """The reply to one request, whatever happens; None if the client went away."""
        request = Request(scope, receive, self._log_ids.fresh())
        route = self._routes.get(scope["path"])
        try:
            answer = await _answer(route, scope["method"], request)
        except errors.Refusal as refusal:
            return _refusal(refusal, route, request.log_id)
        except ClientGone:
            return None
        except Exception:
            _LOGGER.exception("log_id=%s", request.log_id)
            return _refusal(errors.InternalFault(), route, request.log_id)
        return Reply(200, [*_usual_headers(answer.body, request.log_id), *answer.headers], answer.body)


async def _answer(route: Route | None, method: str, request: Request) -> Answer:
    if route is None:
        raise errors.PathUnsupported
    if method != "POST" and not route.any_method:
        raise errors.MethodNotAllowed("POST")
    return await route.handler(request)


def _refusal(refusal: errors.Refusal, route: Route | None, log_id: str) -> Reply:
    """A refusal in the form of the route's errors; what is wrong before a route is asked is in the envelope."""
    if isinstance(refusal, errors.StoreUnavailable):
        _LOGGER.error("store unavailable: %s log_id=%s", refusal.detail, log_id)
    wording = wire.WORDINGS[type(refusal)]
    form = wire.refusal_body if route is None else route.refusal_body
    if isinstance(refusal, errors.MethodNotAllowed):
        form = wire.refusal_body
    body = form(refusal, log_id)
    headers = _usual_headers(body, log_id)
    if wording.retry_after is not None:
        headers.append((b"retry-after", str(wording.retry_after).encode()))
    if isinstance(refusal, errors.MethodNotAllowed):
        headers.append((b"allow", refusal.detail.encode()))
    if isinstance(refusal, _ENDS_CONNECTION):
        headers.append(CLOSE)
    return Reply(wording.status, headers, body)


# Without a place or without HTTP nothing more can follow.
_ENDS_CONNECTION = (errors.Overloaded, errors.NotHttp)
CLOSE = (b"connection", b"close")


def _usual_headers(body: bytes, log_id: str) -> Headers:
    """The headers of every answer. No charset: some clients compare the content type letter by letter."""
    length = str(len(body)).encode()
    return [(b"content-type", b"application/json"), (b"content-length", length), (b"x-tt-logid", log_id.encode())]


async def _send(send: Send, reply: Reply) -> None:
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})
