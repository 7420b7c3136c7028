"""Requests and answers of one connection, paired as they pass through the relay.

It reads bytes that others send on and never changes them. A connection that does not speak HTTP is not read further.
"""

from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import httptools
from msgspec import Struct

from retinue.intercept.traffic import Traffic
from retinue.wire.parsing import MAX_BODY_BYTES

_MAX_ANSWER_BYTES = 4 * 1024 * 1024


class _Request(Struct):
    """A request of which maybe only the first bytes have come."""

    target: bytes = b""
    body: bytes = b""


class Exchanges:
    """The exchanges on one connection, each given to `Traffic` when its answer is delivered."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._waiting: deque[_Request] = deque()
        self._requests = _Parser(httptools.HttpRequestParser, _RequestReader(self._waiting))
        self._reader = _AnswerReader(self._complete)
        self._answers = _Parser(httptools.HttpResponseParser, self._reader)
        self._reader.parser = self._answers

    def sent(self, data: bytes) -> None:
        """Take the next bytes from the client."""
        self._requests.feed(data)

    def delivered(self, data: bytes) -> None:
        """Take the next bytes that the client has got from the server."""
        self._answers.feed(data)

    def ended(self, *, by_client: bool) -> None:
        """Take the end of the connection."""
        if not self._waiting:
            return
        request = self._waiting[0]
        if by_client and self._reader.begun_status >= HTTPStatus.BAD_REQUEST:
            # Python's urllib reads the status of an error, and not its body.
            self._traffic.add(request.target, request.body, self._reader.begun_status, b"")
        else:
            self._traffic.add_unanswered(request.target, request.body, by_client=by_client)

    def _complete(self, status: int, body: bytes) -> None:
        request = self._waiting.popleft() if self._waiting else _Request()
        self._traffic.add(request.target, request.body, status, body)


class _Parser:
    """One of httptools' parsers, which stops at the first bytes that are not HTTP."""

    def __init__(self, kind: Callable[[Any], Any], reader: Any) -> None:
        self._parser = kind(reader)
        self._is_http = True

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        if self._is_http:
            try:
                self._parser.feed_data(data)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):  # another protocol follows
                self._is_http = False

    def status(self) -> int:
        """Return the status of the answer that was read last."""
        status: int = self._parser.get_status_code()
        return status


class _RequestReader:
    """Callbacks for httptools: requests are waiting for their answers from their first byte on."""

    def __init__(self, waiting: deque[_Request]) -> None:
        self._waiting = waiting
        self._request = _Request()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._request = _Request()
        self._waiting.append(self._request)

    def on_url(self, target: bytes) -> None:
        """Take a piece of the target."""
        self._request.target += target

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if len(self._request.body) <= MAX_BODY_BYTES:
            self._request.body += body


class _AnswerReader:
    """Callbacks for httptools: each answer is handed on when it is complete.

    `begun_status` is that of an answer whose head has come and whose end has not, else 0.
    """

    parser: _Parser

    def __init__(self, on_answer: Callable[[int, bytes], None]) -> None:
        self._on_answer = on_answer
        self._body = bytearray()
        self.begun_status = 0

    def on_message_begin(self) -> None:
        """Begin an answer."""
        self._body.clear()

    def on_headers_complete(self) -> None:
        """Note the status of an answer that has begun."""
        self.begun_status = self.parser.status()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        if len(self._body) <= _MAX_ANSWER_BYTES:
            self._body += body

    def on_message_complete(self) -> None:
        """Hand on the answer."""
        status, self.begun_status = self.begun_status, 0
        if status >= HTTPStatus.OK:  # a lower status only announces an answer
            self._on_answer(status, bytes(self._body))
