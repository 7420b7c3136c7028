"""The public ASGI application: routing, body, response and errors.

It uses no framework: its overhead would exceed the work of a call. `routes.py` has the handlers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from msgspec import Struct

from retinue import errors
from retinue.audit.record import Auditor, RequestContext, RequestOutcome
from retinue.clock import Clock
from retinue.model import Direction
from retinue.web import heads
from retinue.web.replies import (
    CACHE_HEAD,
    Headers,
    Message,
    QuotaState,
    Receive,
    Reply,
    Scope,
    Send,
    error_reply,
    send_reply,
    usual_headers,
)
from retinue.web.request_log import LogIds, PathWords
from retinue.web.trusted_proxies import NO_PROXIES, TrustedProxies
from retinue.wire import rendering
from retinue.wire.parsing import MAX_BODY_BYTES

_LOGGER = logging.getLogger("retinue.web")
# RFC 6749, section 5.1: intermediaries must not store a token.
_NO_STORE = ((b"cache-control", b"no-store"), (b"pragma", b"no-cache"))
_UNREAD = {"method": "-", "path": "-", "headers": ()}


class ClientGone(Exception):
    """The client disconnected before its body was read."""


class Request:
    """A request as handlers see it.

    Handlers set `context` for the audit log, and `quota_status` for the response headers.
    """

    __slots__ = (
        *("_proxies", "_receive", "_scope", "context", "headers", "log_id", "method", "path", "query_string"),
        "quota_status",
    )

    def __init__(self, scope: Scope, receive: Receive, log_id: str, proxies: TrustedProxies = NO_PROXIES) -> None:
        self._scope = scope
        self._receive = receive
        self._proxies = proxies
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_string: bytes = scope.get("query_string", b"")
        self.headers: Headers = scope["headers"]
        self.log_id = log_id
        self.context = RequestContext()
        self.quota_status: QuotaState | None = None

    def header(self, name: bytes) -> bytes:
        """Return the first header of a lower-case name; empty if absent."""
        return heads.first_value(self.headers, name)

    def peer(self) -> str:
        """Return the client's address behind trusted proxies; empty if unknown."""
        client = self._scope.get("client")
        forwarded_for = heads.values_of(self.headers, b"x-forwarded-for") if self._proxies.networks else ()
        return self._proxies.address(client[0] if client else "", forwarded_for)

    def cache_head(self, direction: Direction) -> None:
        """Let the fast path answer later requests with the same head."""
        extension = self._scope.get("extensions", {}).get(CACHE_HEAD)
        if extension is not None:
            extension["call"](direction)

    async def body(self) -> bytes:
        """Return the whole body. Raises `BodyTooLarge` without reading on."""
        if (declared := self.header(b"content-length")).isdigit() and int(declared[:20]) > MAX_BODY_BYTES:
            raise errors.BodyTooLarge(str(MAX_BODY_BYTES))
        message = await whole_message(self._receive)
        if message["type"] == "http.disconnect":
            raise ClientGone
        body: bytes = message["body"]
        if len(body) > MAX_BODY_BYTES:
            raise errors.BodyTooLarge(str(MAX_BODY_BYTES))
        return body


Handler = Callable[[Request], Awaitable[bytes]]  # returns the body of a response; may raise a `Refusal`


class Route(Struct, frozen=True):
    """A handler and how it is served: by POST only, unless `any_method`.

    `endpoint` is the name in audit log and metrics; `is_oauth` selects the form of errors and forbids caches.
    """

    handler: Handler
    endpoint: str
    is_oauth: bool = False
    any_method: bool = False


class Application:
    """Routes requests by path, and records each of them."""

    def __init__(
        self,
        routes: dict[str, Route],
        log_ids: LogIds,
        auditor: Auditor,
        clock: Clock,
        proxies: TrustedProxies = NO_PROXIES,
    ) -> None:
        # Both spellings of each path are served: a redirect would turn a client's POST into a GET.
        self._routes = {spelling: route for path, route in routes.items() for spelling in (path, path.rstrip("/"))}
        self._log_ids = log_ids
        self._auditor = auditor
        self._clock = clock
        self._proxies = proxies
        self._path_words = PathWords(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, as an ASGI application."""
        reply = await self.reply(scope, receive)
        if reply is not None:
            await send_reply(send, reply)

    def refuse(self, scope: Scope, refusal: errors.Refusal) -> Reply:
        """Return the response to a request that is refused or unreadable."""
        started = self._clock.elapsed()
        whole = {**_UNREAD, **scope}
        request = Request(whole, _receive_nothing, self._log_ids.fresh(), self._proxies)
        return self._refused(refusal, self._routes.get(whole["path"]), request, started)

    async def reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """Return the response to a request; None if the client disconnected."""
        started = self._clock.elapsed()
        request = Request(scope, receive, self._log_ids.fresh(), self._proxies)
        route = self._routes.get(scope["path"])
        try:
            body = await self._answer(route, request)
        except errors.Refusal as refusal:
            return self._refused(refusal, route, request, started)
        except asyncio.CancelledError:  # the server is stopping, and has waited long enough for this request
            return self._refused(errors.Overloaded(), route, request, started)
        except ClientGone:
            self._record(request, route, 499, "client_gone", started)
            return None
        except Exception:
            _LOGGER.exception("log_id=%s", request.log_id)
            return self._refused(errors.InternalFault(), route, request, started)
        self._record(request, route, 200, "ok", started)
        headers = usual_headers(body, request.log_id, request.quota_status)
        if route is not None and route.is_oauth:
            headers += _NO_STORE
        return Reply(200, headers, body)

    async def _answer(self, route: Route | None, request: Request) -> bytes:
        if self._auditor.is_full:
            raise errors.AuditUnavailable  # a response that cannot be recorded must not be sent
        if name := heads.repeated(request.headers):
            raise errors.RepeatedHeader(name)
        if route is None:
            raise errors.UnsupportedPath
        if request.method != "POST" and not route.any_method:
            raise errors.MethodNotAllowed("POST")
        return await route.handler(request)

    def gone(self, scope: Scope) -> None:
        """Record a request whose client disconnected before its body arrived."""
        request = Request(scope, _receive_nothing, self._log_ids.fresh(), self._proxies)
        self._record(request, self._routes.get(scope["path"]), 499, "client_gone", self._clock.elapsed())

    def _refused(self, refusal: errors.Refusal, route: Route | None, request: Request, started: float) -> Reply:
        """Return an error in the form of its route. Errors before routing use the v2 envelope."""
        spec = rendering.spec_of(refusal)
        is_oauth = route is not None and route.is_oauth and not isinstance(refusal, errors.MethodNotAllowed)
        self._record(request, route, spec.status, spec.oauth_code if is_oauth else spec.code, started)
        if isinstance(refusal, errors.StoreUnavailable):
            _LOGGER.error("store unavailable: %s log_id=%s", refusal.detail, request.log_id)
        return error_reply(refusal, request.log_id, is_oauth=is_oauth)

    def _record(self, request: Request, route: Route | None, status: int, code: str, started: float) -> None:
        endpoint = "none" if route is None else route.endpoint
        microseconds = int((self._clock.elapsed() - started) * 1e6)
        outcome = RequestOutcome(request.log_id, endpoint, status, code, microseconds, request.peer())
        self._auditor.record(request.context, outcome)
        if _LOGGER.isEnabledFor(logging.INFO):
            # The log must not contain the query string, headers or body, and of the path only known words.
            path = self._path_words.redact(request.path)
            fields = (request.log_id, request.method, path, status, microseconds / 1000)
            _LOGGER.info("log_id=%s method=%s path=%a status=%d duration_ms=%.3f", *fields)


async def whole_message(receive: Receive) -> Message:
    """Return the body in one message, cut if it is too long."""
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body", False) and len(body) <= MAX_BODY_BYTES:
        message = await receive()
        body += message.get("body", b"")
    return {**message, "body": body}


async def _receive_nothing() -> Message:
    return {"type": "http.disconnect"}
