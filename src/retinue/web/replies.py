"""Responses, as ASGI messages or as bytes."""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from msgspec import Struct

from retinue import errors
from retinue.wire import rendering

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CLOSE = (b"connection", b"close")

# Close the connection after these errors: it is over the limit, or the bytes were not read to the end of a request.
_ENDS_CONNECTION = (errors.Overloaded, errors.NotHttp, errors.HeadTooLarge)


class Reply(Struct, frozen=True, gc=False):
    """A complete response."""

    status: int
    headers: Headers
    body: bytes


class Served(Protocol):
    """An application that also answers and records requests that never reach it."""

    def refuse(self, scope: Scope, refusal: errors.Refusal) -> Reply:
        """Return the response to a request that is refused unread.

        The scope may be incomplete.
        """
        ...

    def gone(self, scope: Scope) -> None:
        """Record a request whose client disconnected before it was answered."""
        ...


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
