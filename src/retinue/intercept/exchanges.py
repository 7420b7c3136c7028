"""Pair the requests and responses of a connection through the relay.

A connection that is not HTTP is not read further.
"""

from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from msgspec import Struct

from retinue.intercept.traffic import Traffic
from retinue.wire.parsing import MAX_BODY_BYTES

_MAX_RESPONSE_BYTES = 4 * 1024 * 1024


class _Request(Struct):
    """A request, maybe not yet complete."""

    target: bytes = b""
    body: bytes = b""


class Exchanges:
    """The exchanges of one connection, each counted when its response is delivered."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._waiting: deque[_Request] = deque()
        self._requests = _Parser(httptools.HttpRequestParser, _RequestReader(self._waiting))
        self._reader = _ResponseReader(self._complete)
        self._responses = _Parser(httptools.HttpResponseParser, self._reader)
        self._reader.parser = self._responses

    def sent(self, data: bytes) -> None:
        """Parse the next bytes from the client."""
        self._requests.feed(data)

    def delivered(self, data: bytes) -> None:
        """Parse the next bytes that were delivered to the client."""
        self._responses.feed(data)

    def ended(self, *, by_client: bool) -> None:
        """Count an exchange that the end of the connection interrupts."""
        if not self._waiting:
            return
        request = self._waiting[0]
        if by_client and self._reader.begun_status >= HTTPStatus.BAD_REQUEST:
            # Python's urllib does not read the body of an error.
            self._traffic.add(request.target, request.body, self._reader.begun_status, b"")
        else:
            self._traffic.add_unanswered(request.target, request.body, by_client=by_client)

    def _complete(self, status: int, body: bytes) -> None:
        request = self._waiting.popleft() if self._waiting else _Request()
        self._traffic.add(request.target, request.body, status, body)


class _Parser:
    """An httptools parser that stops at bytes that are not HTTP."""

    def __init__(self, kind: Callable[[Any], Any], reader: Any) -> None:
        self._parser = kind(reader)
        self._is_http = True

    def feed(self, data: bytes) -> None:
        """Parse the next bytes."""
        if self._is_http:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # another protocol follows
                self._is_http = False

    def status(self) -> int:
        """Return the status of the last response."""
        status: int = self._parser.get_status_code()
        return status


class _RequestReader:
    """Callbacks for httptools."""

    def __init__(self, waiting: deque[_Request]) -> None:
        self._waiting = waiting
        self._request = _Request()

    def on_message_begin(self) -> None:
        """Start a request."""
        self._request = _Request()
        self._waiting.append(self._request)

    def on_url(self, target: bytes) -> None:
        """Append to the target."""
        self._request.target += target

    def on_body(self, body: bytes) -> None:
        """Append to the body."""
        if len(self._request.body) <= MAX_BODY_BYTES:
            self._request.body += body


class _ResponseReader:
    """Callbacks for httptools; `begun_status` is 0 without an incomplete response."""

    parser: _Parser

    def __init__(self, on_response: Callable[[int, bytes], None]) -> None:
        self._on_response = on_response
        self._body = bytearray()
        self.begun_status = 0

    def on_message_begin(self) -> None:
        """Start a response."""
        self._body.clear()

    def on_headers_complete(self) -> None:
        """Store the status."""
        self.begun_status = self.parser.status()

    def on_body(self, body: bytes) -> None:
        """Append to the body."""
        if len(self._body) <= _MAX_RESPONSE_BYTES:
            self._body += body

    def on_message_complete(self) -> None:
        """Report the response."""
        status, self.begun_status = self.begun_status, 0
        if status >= HTTPStatus.OK:  # 1xx only announces a response
            self._on_response(status, bytes(self._body))
