"""What went through a relay, counted from the answers as they pass: requests, refusals, rows.

It looks at bytes that somebody else sends on, and never changes them. What it cannot read it does not count.
"""

from collections import Counter
from http import HTTPStatus
from typing import Any

import httptools
import msgspec
from msgspec import Struct

_LONGEST_BODY = 4 * 1024 * 1024


class Traffic:
    """The counts of one run."""

    def __init__(self) -> None:
        self.requests = 0
        self.refusals = 0
        self.rows = 0
        self.distrusted = 0  # connections that were given up because of our certificate
        self.blocked: Counter[str] = Counter()  # by host

    def add(self, status: int, rows: int) -> None:
        """Count an answer."""
        self.requests += 1
        self.refusals += status >= HTTPStatus.BAD_REQUEST
        self.rows += rows

    def __str__(self) -> str:
        """The counts in a sentence, with what is worth knowing besides."""
        said = f"{self.requests} requests, {self.refusals} refusals, {self.rows} rows"
        if self.blocked:
            said += "; blocked: " + ", ".join(f"{host} ({count})" for host, count in sorted(self.blocked.items()))
        if self.distrusted:
            said += f"; {self.distrusted} connections were given up during TLS: was the certificate not trusted?"
        return said


class _Lists(Struct):
    user_following: list[msgspec.Raw] = []
    user_followers: list[msgspec.Raw] = []


class _Page(Struct):
    data: _Lists


_decoder = msgspec.json.Decoder(_Page)


class AnswerCounter:
    """Counts the answers on one connection."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._body = bytearray()
        self._parser: Any = httptools.HttpResponseParser(self)

    def see(self, data: bytes) -> None:
        """Take the next bytes that the server sent."""
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._parser = None  # no HTTP any more

    def on_message_begin(self) -> None:
        """For the parser: an answer begins."""
        self._body.clear()

    def on_body(self, body: bytes) -> None:
        """For the parser: a piece of the answer's body."""
        if len(self._body) <= _LONGEST_BODY:
            self._body += body

    def on_message_complete(self) -> None:
        """For the parser: the answer is whole."""
        status = self._parser.get_status_code()
        if status >= HTTPStatus.OK:  # what is below only announces an answer
            self._traffic.add(status, _rows(self._body))


def _rows(body: bytes | bytearray) -> int:
    try:
        lists = _decoder.decode(body).data
    except msgspec.DecodeError:
        return 0
    return len(lists.user_following) + len(lists.user_followers)
