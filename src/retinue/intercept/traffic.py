"""Counts of one run: requests, refusals, rows and failed connections."""

from collections import Counter
from http import HTTPStatus

import msgspec
from msgspec import Struct

from retinue.clock import Clock
from retinue.intercept.list_log import Delivery, ListLog, list_query

_CERTIFICATE_ALERTS = ("CERTIFICATE", "UNKNOWN_CA")  # in OpenSSL's names of alerts


class Traffic:
    """The counts of one run, and its lists."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.requests = 0
        self.refusals = 0
        self.rows = 0
        self.broken = 0  # closed by the server before a complete response
        self.abandoned = 0  # closed by the client before a complete response
        self.distrusted = 0  # ended because of our certificate
        self.silent = 0  # closed by the client after TLS, without a request
        self.http2_only = 0  # clients that offer nothing older
        self.tls_errors: Counter[str] = Counter()  # by reason
        self.blocked: Counter[str] = Counter()  # by host
        self.lists = ListLog()

    @property
    def is_silent(self) -> bool:
        """Whether no connection reached the server."""
        failures = (self.broken, self.abandoned, self.distrusted, self.silent, self.http2_only, self.tls_errors.total())
        return not self.requests and not any(failures)

    def add(self, target: bytes, body: bytes, status: int, content: bytes) -> None:
        """Count a completely delivered response."""
        answer = _read(content)
        is_refusal = answer is not None and answer.is_refusal
        page = answer.data if answer is not None and status == HTTPStatus.OK and not is_refusal else None
        usernames = [] if page is None else [row.username for row in (*page.user_following, *page.user_followers)]
        self.requests += 1
        self.refusals += status >= HTTPStatus.BAD_REQUEST or is_refusal
        self.rows += len(usernames)
        trouble = f"a {status}" if page is None else ""
        has_more, cursor = (False, 0) if page is None else (page.has_more, page.cursor)
        self._record(target, body, Delivery(usernames, has_more, trouble, cursor))

    def add_unanswered(self, target: bytes, body: bytes, *, by_client: bool) -> None:
        """Count a connection that was closed before its response was complete."""
        self.abandoned += by_client
        self.broken += not by_client
        trouble = "an answer that was not waited for" if by_client else "a broken connection"
        self._record(target, body, Delivery([], has_more=True, trouble=trouble))

    def add_tls_failure(self, error: OSError) -> None:
        """Count a connection that failed in TLS or right after the handshake."""
        # Clients that distrust a certificate send an alert, or reset the connection without one.
        reason: str = getattr(error, "reason", None) or ""
        if not reason or any(alert in reason for alert in _CERTIFICATE_ALERTS):
            self.distrusted += 1
        else:
            self.tls_errors[reason] += 1

    def _record(self, target: bytes, body: bytes, delivery: Delivery) -> None:
        if key_and_query := list_query(target, body):
            self.lists.add(*key_and_query, delivery, self._clock.now())

    def __str__(self) -> str:
        """Return the counts as a sentence."""
        parts = [f"{self.requests} requests, {self.refusals} refusals, {self.rows} rows"]
        if self.blocked:
            parts.append("blocked: " + ", ".join(f"{host} ({count})" for host, count in sorted(self.blocked.items())))
        counted = {
            "broken off": self.broken,
            "given up by the command before the answer": self.abandoned,
            "did not trust the certificate": self.distrusted,
            "sent no request after TLS (was the certificate not trusted?)": self.silent,
            "spoke only HTTP/2 (let the client speak HTTP/1.1)": self.http2_only,
        }
        parts += [f"{count} {what}" for what, count in counted.items() if count]
        parts += [f"{count} failed in TLS ({reason})" for reason, count in sorted(self.tls_errors.items())]
        return "; ".join(parts)


class _Row(Struct, frozen=True):
    username: str = ""


class _Page(Struct, frozen=True):
    user_following: list[_Row] = []
    user_followers: list[_Row] = []
    has_more: bool = False
    cursor: int = 0


class _Error(Struct, frozen=True):
    code: str = ""


class _Answer(Struct, frozen=True):
    data: _Page = _Page()
    error: _Error | str = ""  # the token endpoint sends a code, also with status 200

    @property
    def is_refusal(self) -> bool:
        return bool(self.error) if isinstance(self.error, str) else self.error.code not in ("", "ok")


_decoder = msgspec.json.Decoder(_Answer)


def _read(content: bytes) -> _Answer | None:
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
