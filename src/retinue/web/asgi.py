"""The public ASGI application: finds the route, reads the body, sends the answer, turns every error into one.

Plain ASGI on purpose: around a call that takes microseconds a framework would cost more than the work. Knows the
shape of requests and answers; what a path means is `routes.py`'s business.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from retinue import errors, wire
from retinue.audit.record import Auditor, RequestContext, RequestOutcome
from retinue.clock import Clock
from retinue.requests import MAX_BODY_BYTES
from retinue.store.quota_counters import Allowance
from retinue.web import heads
from retinue.web.paths import PathWords
from retinue.web.peers import NO_PROXIES, Peers
from retinue.web.replies import Headers, Message, Receive, Reply, Scope, Send, refusal_headers, send_reply

_Allowance = Allowance | errors.RateExceeded | errors.QuotaSpent
_LOGGER = logging.getLogger("retinue.web")
_UNREAD = {"method": "-", "path": "-", "headers": ()}
_LOG_IDS_AT_ONCE = 100
_RANDOM_DIGITS = 2 * wire.LOG_ID_RANDOM_BYTES


class ClientGone(Exception):
    """The client went away before its body was read."""


class Request:
    """A request to a handler. It fills in `context` for the audit log and `allowance` for headers."""

    __slots__ = ("_peers", "_receive", "_scope", "allowance", "context", "headers", "log_id")

    def __init__(self, scope: Scope, receive: Receive, log_id: str, peers: Peers = NO_PROXIES) -> None:
        self._scope = scope
        self._receive = receive
        self._peers = peers
        self.headers: Headers = scope["headers"]
        self.log_id = log_id
        self.context = RequestContext()
        self.allowance: _Allowance | None = None

    @property
    def method(self) -> str:
        """POST, usually."""
        method: str = self._scope["method"]
        return method

    @property
    def path(self) -> str:
        """What was asked for, without the query string."""
        path: str = self._scope["path"]
        return path

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

    def peer(self) -> str:
        """The address of the client, behind proxies that are trusted; empty where it is not known."""
        client = self._scope.get("client")
        proxies_said = (
            [value for key, value in self.headers if key == b"x-forwarded-for"] if self._peers.networks else ()
        )
        return self._peers.address(client[0] if client else "", proxies_said)

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
    """What is served at a path, by POST alone unless `any_method`. `is_flat` says that its errors are OAuth's.

    `endpoint` is its name in audit and metrics.
    `at_once` says that its handler waits for nothing but the body, so that no task is needed to run it.
    """

    handler: Handler
    endpoint: str
    is_flat: bool = False
    at_once: bool = False
    any_method: bool = False


class LogIds:
    """Gives each request its log_id."""

    def __init__(self, clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._second = -1
        self._date = ""
        self._random = ""  # upper-case hex for some log_ids; asking the kernel for each would cost a call
        self._used = 0

    def fresh(self, now: int | None = None) -> str:
        """A new log_id; `now` by who knows it already."""
        if now is None:
            now = self._clock.now()
        if now != self._second:
            self._second, self._date = now, wire.log_id_date(now)
        start = self._used
        self._used = end = start + _RANDOM_DIGITS
        digits = self._random[start:end]
        if not digits:
            self._random = self._random_bytes(_LOG_IDS_AT_ONCE * wire.LOG_ID_RANDOM_BYTES).hex().upper()
            digits, self._used = self._random[:_RANDOM_DIGITS], _RANDOM_DIGITS
        return self._date + digits


class Application:
    """Answers HTTP requests by a table from path to route, and has each of them recorded."""

    def __init__(
        self, routes: dict[str, Route], log_ids: LogIds, auditor: Auditor, clock: Clock, peers: Peers = NO_PROXIES
    ) -> None:
        # Both spellings of each path are served: a redirect would turn a client's POST into a GET.
        self._routes = {spelling: route for path, route in routes.items() for spelling in (path, path.rstrip("/"))}
        self._log_ids = log_ids
        self._auditor = auditor
        self._clock = clock
        self._peers = peers
        self._path_words = PathWords(routes)
        self.at_once_targets = frozenset(path.encode() for path, route in self._routes.items() if route.at_once)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        reply = await self.reply(scope, receive)
        if reply is not None:
            await send_reply(send, reply)

    def refuse(self, scope: Scope, refusal: errors.Refusal) -> Reply:
        """Return the reply to a request that is refused before its route is asked, or that could not be read."""
        started = self._clock.elapsed()
        whole = {**_UNREAD, **scope}
        request = Request(whole, _receive_nothing, self._log_ids.fresh(), self._peers)
        return self._refused(refusal, self._routes.get(whole["path"]), request, started)

    def reply_at_once(self, scope: Scope, body: bytes) -> Reply:
        """The reply to a whole request to one of `at_once_targets`, in one step."""

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        try:
            self.reply(scope, receive).send(None)
        except StopIteration as end:
            reply: Reply = end.value
            return reply
        raise RuntimeError("a handler that waits cannot answer at once")

    async def reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """The reply to one request, whatever happens; None if the client went away."""
        started = self._clock.elapsed()
        request = Request(scope, receive, self._log_ids.fresh(), self._peers)
        route = self._routes.get(scope["path"])
        try:
            answer = await self._answer(route, scope["method"], request)
        except errors.Refusal as refusal:
            return self._refused(refusal, route, request, started)
        except asyncio.CancelledError:  # the server stops, and has waited long enough for the rest of this one
            return self._refused(errors.Overloaded(), route, request, started)
        except ClientGone:
            self._record(request, route, 499, "client_gone", started)
            return None
        except Exception:
            _LOGGER.exception("log_id=%s", request.log_id)
            return self._refused(errors.InternalFault(), route, request, started)
        self._record(request, route, 200, "ok", started)
        return Reply(200, [*_usual_headers(answer.body, request), *answer.headers], answer.body)

    async def _answer(self, route: Route | None, method: str, request: Request) -> Answer:
        if self._auditor.is_full:
            raise errors.Overloaded  # an answer that could not be recorded is not given
        if name := heads.repeated(request.headers):
            raise errors.RepeatedHeader(name)
        if route is None:
            raise errors.PathUnsupported
        if method != "POST" and not route.any_method:
            raise errors.MethodNotAllowed("POST")
        return await route.handler(request)

    def gone(self, scope: Scope) -> None:
        """AuditRecord a request whose sender went away before its body was there."""
        request = Request(scope, _receive_nothing, self._log_ids.fresh(), self._peers)
        self._record(request, self._routes.get(scope["path"]), 499, "client_gone", self._clock.elapsed())

    def _refused(self, refusal: errors.Refusal, route: Route | None, request: Request, started: float) -> Reply:
        """A refusal in the form of the route's errors; what is wrong before a route is asked is in the envelope."""
        wording = wire.WORDINGS[type(refusal)]
        is_flat = route is not None and route.is_flat and not isinstance(refusal, errors.MethodNotAllowed)
        self._record(request, route, wording.status, wording.flat_code if is_flat else wording.code, started)
        if isinstance(refusal, errors.StoreUnavailable):
            _LOGGER.error("store unavailable: %s log_id=%s", refusal.detail, request.log_id)
        if isinstance(refusal, errors.RateExceeded | errors.QuotaSpent):
            request.allowance = refusal
        body = (wire.flat_refusal_body if is_flat else wire.refusal_body)(refusal, request.log_id)
        return Reply(wording.status, [*_usual_headers(body, request), *refusal_headers(refusal, wording)], body)

    def _record(self, request: Request, route: Route | None, status: int, code: str, started: float) -> None:
        endpoint = "none" if route is None else route.endpoint
        microseconds = int((self._clock.elapsed() - started) * 1e6)
        outcome = RequestOutcome(request.log_id, endpoint, status, code, microseconds, request.peer())
        self._auditor.record(request.context, outcome)
        if _LOGGER.isEnabledFor(logging.INFO):
            # Nothing of its query string, headers and body may be in it, and of its path only words of ours.
            fields = (request.log_id, request.method, self._path_words.shown(request.path), status, microseconds / 1000)
            _LOGGER.info("log_id=%s method=%s path=%a status=%d duration_ms=%.3f", *fields)


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}


def _usual_headers(body: bytes, request: Request) -> Headers:
    """The headers of every answer. No charset: some clients compare the content type letter by letter."""
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-tt-logid", request.log_id.encode()),
    ]
    allowance = request.allowance
    if allowance is not None and allowance.limit is not None:
        headers += (
            (b"ratelimit-limit", b"%d" % allowance.limit),
            (b"ratelimit-remaining", b"%d" % (allowance.calls or 0)),
            (b"ratelimit-reset", b"%d" % allowance.reset),
        )
    return headers
