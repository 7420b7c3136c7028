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
        self.http2_only = 0  # connections of clients that offer nothing older
        self.blocked: Counter[str] = Counter()  # by host

    def add(self, *, is_refusal: bool, rows: int) -> None:
        """Count an answer."""
        self.requests += 1
        self.refusals += is_refusal
        self.rows += rows

    def __str__(self) -> str:
        """The counts in a sentence, with what is worth knowing besides."""
        said = f"{self.requests} requests, {self.refusals} refusals, {self.rows} rows"
        if self.blocked:
            said += "; blocked: " + ", ".join(f"{host} ({count})" for host, count in sorted(self.blocked.items()))
        if self.distrusted:
            said += f"; {self.distrusted} connections were given up during TLS: was the certificate not trusted?"
        if self.http2_only:
            said += f"; {self.http2_only} connections came from a client that speaks only HTTP/2: let it speak HTTP/1.1"
        return said


class _Lists(Struct, frozen=True):
    user_following: list[msgspec.Raw] = []
    user_followers: list[msgspec.Raw] = []


class _Error(Struct, frozen=True):
    code: str = ""


class _Answer(Struct, frozen=True):
    data: _Lists = _Lists()
    error: _Error | str = ""  # of the token endpoint: a word, also with status 200

    @property
    def is_refusal(self) -> bool:
        return bool(self.error) if isinstance(self.error, str) else self.error.code not in ("", "ok")


_decoder = msgspec.json.Decoder(_Answer)


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
            answer = _read(self._body)
            rows = len(answer.data.user_following) + len(answer.data.user_followers)
            self._traffic.add(is_refusal=status >= HTTPStatus.BAD_REQUEST or answer.is_refusal, rows=rows)


def _read(body: bytes | bytearray) -> _Answer:
    """What counts in a body; nothing where it is no answer of the service."""
    try:
        return _decoder.decode(body)
    except msgspec.DecodeError:
        return _Answer()
