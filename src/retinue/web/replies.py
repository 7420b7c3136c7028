"""Responses, as ASGI messages or as bytes."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from msgspec import Struct

from retinue import errors
from retinue.quota.counters import QuotaStatus
from retinue.wire import rendering

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

QuotaState = QuotaStatus | errors.RateLimitExceeded | errors.QuotaExceeded

# Extensions of the ASGI scope, each with a function as its `call`.
DISCONNECT = "retinue.disconnect"  # closes the connection after the bytes already written are sent
CACHE_HEAD = "retinue.cache_head"  # lets the fast path answer later requests with this head, for lists in a direction

CLOSE = (b"connection", b"close")

# Close the connection after these errors: nothing can be answered, or the bytes were not read to the end of a request.
_ENDS_CONNECTION = (errors.AuditUnavailable, errors.Overloaded, errors.NotHttp, errors.HeadTooLarge)


class Reply(Struct, frozen=True, gc=False):
    """A complete response."""

    status: int
    headers: Headers
    body: bytes


class Served(Protocol):
    """An application that also answers and records requests that never reach it."""

    def refuse(self, scope: Scope, refusal: errors.Refusal) -> Reply:
        """Return the response to a request that is refused unread. The scope may be incomplete."""

    def gone(self, scope: Scope) -> None:
        """Record a request whose client disconnected before it was answered."""


def usual_headers(body: bytes, log_id: str, status: QuotaState | None) -> Headers:
    """Return the headers of every response of the public listener.

    The content type has no charset, because some clients compare it as a whole.
    """
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-tt-logid", log_id.encode()),
    ]
    if status is not None and status.limit is not None:
        headers += (
            (b"ratelimit-limit", b"%d" % status.limit),
            (b"ratelimit-remaining", b"%d" % (status.calls or 0)),
            (b"ratelimit-reset", b"%d" % status.reset),
        )
    return headers


def error_reply(refusal: errors.Refusal, log_id: str, *, is_oauth: bool = False) -> Reply:
    """Return the response to a refused request."""
    spec = rendering.spec_of(refusal)
    body = (rendering.oauth_error_body if is_oauth else rendering.error_body)(refusal, log_id)
    status = refusal if isinstance(refusal, QuotaState) else None
    return Reply(spec.status, [*usual_headers(body, log_id, status), *refusal_headers(refusal, spec)], body)


def refusal_headers(refusal: errors.Refusal, spec: rendering.ErrorSpec) -> Headers:
    """Return the headers of an error beside the usual ones."""
    headers = []
    retry_after = refusal.reset if isinstance(refusal, errors.RateLimitExceeded) else spec.retry_after
    if retry_after is not None:
        headers.append((b"retry-after", b"%d" % retry_after))
    if isinstance(refusal, errors.MethodNotAllowed):
        headers.append((b"allow", refusal.detail.encode()))
    if isinstance(refusal, _ENDS_CONNECTION):
        headers.append(CLOSE)
    return headers


def encode_reply(reply: Reply, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Return a response as HTTP/1.1, with the listener's headers first."""
    lines = b"".join([b"%b: %b\r\n" % field for field in (*default_headers, *reply.headers)])
    status = HTTPStatus(reply.status)
    return b"HTTP/1.1 %d %b\r\n%b\r\n%b" % (status, status.phrase.encode(), lines, reply.body)


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a response as ASGI messages."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
    await send({"type": "http.response.body", "body": reply.body})
