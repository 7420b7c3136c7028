"""Pair the requests and responses of a connection through the relay.

A connection that is not HTTP is not read further.
"""

from collections import deque
from http import HTTPStatus
from types import SimpleNamespace
from typing import TypeVar

import httptools
from msgspec import Struct

from retinue.intercept.traffic import Traffic
from retinue.wire.parsing import MAX_BODY_BYTES

_MAX_RESPONSE_BYTES = 4 * 1024 * 1024

_Parser = TypeVar("_Parser", httptools.HttpRequestParser, httptools.HttpResponseParser)


class _Request(Struct):
    """A request, maybe not yet complete."""

    target: bytes = b""
    body: bytes = b""


class Exchanges:
    """The exchanges of one connection, each counted when its response is delivered."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._waiting: deque[_Request] = deque()
        self._request = _Request()  # that is read
        self._body = bytearray()  # of the response that is read
        self._begun_status = 0  # of an incomplete response
        self._requests: httptools.HttpRequestParser | None = httptools.HttpRequestParser(
            SimpleNamespace(on_message_begin=self._begin_request, on_url=self._add_target, on_body=self._add_body)
        )
        self._responses: httptools.HttpResponseParser | None = httptools.HttpResponseParser(
            SimpleNamespace(
                on_message_begin=self._body.clear,
                on_headers_complete=self._note_status,
                on_body=self._add_response_body,
                on_message_complete=self._complete,
            )
        )

    def sent(self, data: bytes) -> None:
        """Parse the next bytes from the client."""
        self._requests = _fed(self._requests, data)

    def delivered(self, data: bytes) -> None:
        """Parse the next bytes that were delivered to the client."""
        self._responses = _fed(self._responses, data)

    def ended(self, *, by_client: bool) -> None:
        """Count an exchange that the end of the connection interrupts."""
        if not self._waiting:
            return
        request = self._waiting[0]
        if by_client and self._begun_status >= HTTPStatus.BAD_REQUEST:
            # Python's urllib does not read the body of an error.
            self._traffic.add(request.target, request.body, self._begun_status, b"")
        else:
            self._traffic.add_unanswered(request.target, request.body, by_client=by_client)

    def _begin_request(self) -> None:
        self._request = _Request()
        self._waiting.append(self._request)

    def _add_target(self, target: bytes) -> None:
        self._request.target += target

    def _add_body(self, body: bytes) -> None:
        if len(self._request.body) <= MAX_BODY_BYTES:
            self._request.body += body

    def _note_status(self) -> None:
        assert self._responses is not None
        self._begun_status = self._responses.get_status_code()

    def _add_response_body(self, body: bytes) -> None:
        if len(self._body) <= _MAX_RESPONSE_BYTES:
            self._body += body

    def _complete(self) -> None:
        status, self._begun_status = self._begun_status, 0
        if status >= HTTPStatus.OK:  # 1xx only announces a response
            request = self._waiting.popleft() if self._waiting else _Request()
            self._traffic.add(request.target, request.body, status, bytes(self._body))


def _fed(parser: _Parser | None, data: bytes) -> _Parser | None:
    """Return a parser after more bytes; None if another protocol follows."""
    try:
        if parser is not None:
            parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    return parser
