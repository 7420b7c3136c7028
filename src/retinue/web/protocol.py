"""uvicorn's HTTP protocol, with our words where it answers by itself, and two shorter ways for requests.

Our words: bytes that are not HTTP, a head that is too long, too many connections. The short way: a complete, ordinary
request gets its answer right where its last byte was read, without the task, events and messages of an ASGI cycle. The
hot way (`hot.py`): where such a request comes in one packet, and its head came before, it is not even parsed. Anything
unusual goes the ASGI way; all three give the same bytes. Beside that who is too slow is cut off, a wish to upgrade is
not granted, and a stop gives what is on its way a moment to arrive. All else stays uvicorn's.
"""

import asyncio
import logging
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from retinue.errors import HeadTooLarge
from retinue.requests import MAX_BODY_BYTES
from retinue.web import heads
from retinue.web.asgi import CLOSE, Application, Reply
from retinue.web.hang_up import extensions_of
from retinue.web.hot import Hot

READ_SECONDS = 30  # for a request, from its first byte to its last; for a connection, to send the first
GRACE_SECONDS = 0.2
MAX_HEAD_BYTES = 32 * 1024  # request line and headers; so much may also stand between chunks and behind the last one
LAST_WORDS_SECONDS = 2  # so long a client has to read why it is refused; what it still sends is dropped
END_OF_HEAD = b"\r\n\r\n"
OK = 200
_LOGGER = logging.getLogger("retinue.web")


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol for the listener that serves an `Application`."""

    def __init__(self, *arguments: Any, application: Application, hot: Hot | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._application = application
        self._hot = hot
        self._host = ""
        self._packet = b""  # what was just received, if it began a request
        self._answered_at = 0.0  # when the hot way was gone last, by the loop's clock
        # The body so far of a request on the short way; None while there is none.
        self._short_body: bytearray | None = None
        self._is_reading = self._is_in_head = False
        # Bytes since nothing was being read: the head at hand has at most so many, and none of the settled ones, which
        # belong to earlier requests, a finished head or a body.
        self._received = self._settled = 0
        self._is_head_refused = self._is_stopping = self._is_half_closed = False
        self._is_surplus = False  # it came when the limit was reached, and is refused until there is room
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._is_surplus = self._is_over_limit()
        self._set_deadline()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._clear_deadline()
        if self._short_body is not None:
            self._short_body = None
            self._application.gone(self._short_scope())
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # what asyncio expects; uvicorn's is always None
        """The client sends no more: it gets the answers to what it has sent, and then the connection ends."""
        if self._hot is not None:
            self._hot.flush()
        is_answering = bool(self.pipeline) or not self._is_idle()
        # TLS has no half of a connection.
        self._is_half_closed = is_answering + self._waiting() > 0 and self.scheme == "http"
        return self._is_half_closed

    def data_received(self, data: bytes) -> None:
        """Read on."""
        hot = self._hot
        if hot is not None:
            if not self._is_reading and self._answer_hot(hot, data):
                return
            if hot.waiting:  # maybe to this client, who must get its answers in order
                hot.flush()
        self._unset_keepalive_if_required()
        if self._is_head_refused:
            return
        self._packet = b"" if self._is_reading else data
        self._received += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._read_on_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HeadTooLarge):
                self._refuse_head()
            else:
                self.send_400_response("")
        else:
            self._watch(data)
        self._packet = b""  # thousands of connections may wait with it

    def on_message_begin(self) -> None:
        """A request begins."""
        self._is_reading = self._is_in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Choose the way."""
        self._is_in_head = False
        self._settled = self._received
        method = self.parser.get_method()
        if self._received > MAX_HEAD_BYTES and heads.length_of(method, self.url, self.headers) > MAX_HEAD_BYTES:
            raise HeadTooLarge  # stops the parser, and comes back to `data_received`
        if self.parser.should_upgrade():
            return  # the head will be read again without that wish
        self.headers = []  # the scope has them; what comes behind the body (trailers) are not headers
        self._is_surplus = self._is_surplus and self._is_over_limit()
        # uvicorn would refuse whoever asks first, also those who were there before.
        self.limit_concurrency = 0 if self._is_surplus else None
        if self.url in self._application.at_once_targets and self.is_ordinary():
            self._short_body = bytearray()
            return
        super().on_headers_complete()
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._settled = self._received
        if self._short_body is None:
            super().on_body(body)
            return
        self._short_body += body
        if len(self._short_body) > MAX_BODY_BYTES:
            self._leave_short_way()

    def on_message_complete(self) -> None:
        """Answer, on the short way."""
        if self.parser.should_upgrade():
            return
        self._is_reading = False
        self._settled = self._received
        if self._short_body is None:
            super().on_message_complete()
            return
        body, self._short_body = bytes(self._short_body), None
        reply = self._application.reply_at_once(self._short_scope(), body)
        if self._hot is not None and reply.status == OK:
            head, end, rest = self._packet.partition(END_OF_HEAD)
            if end and rest == body:  # the packet was this request, and nothing else
                self._hot.learn(head, self.url, list(self.scope["headers"]))
        self._write(reply)
        self._wait_for_next()

    def shutdown(self) -> None:
        """The server stops: what has begun to arrive is still answered, and what is just arriving too."""
        self._is_stopping = True
        if self._short_body is not None:
            self._leave_short_way()
        if self._is_idle():
            self.loop.call_later(GRACE_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP, and close: what follows them cannot be told apart."""
        _ = msg  # uvicorn's own sentence
        self._short_body = None
        if self._is_idle():
            self._write(self._application.not_http({"client": self.client}))
        elif self.cycle.more_body:  # it is the body of that request that is broken
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self._write(self._application.not_http({"client": self.client}))
        else:
            self.cycle.keep_alive = False  # the request before them gets its answer, and then nothing more

    def on_response_complete(self) -> None:
        """Go on to the next request, or to the last words."""
        if self._is_half_closed and not self._waiting():
            self.transport.close()
        if self.flow.read_paused and self._deadline is not None:  # reading goes on: the client has its time again
            self._clear_deadline()
            self._set_deadline()
        super().on_response_complete()
        if self._is_head_refused:
            self._say_last_words()

    def is_ordinary(self) -> bool:
        """Whether the request is a POST on a connection that stays, and all before it is answered and read."""
        return (
            self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.expect_100_continue
            and not heads.announces_too_much(self.scope["headers"])  # that is said before it comes
            and self._is_free()
        )

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless the hot way was gone since: it leaves this order as it is, and notes the time."""
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _answer_hot(self, hot: Hot, data: bytes) -> bool:
        """Answer a whole request whose head is known; whether that was one."""
        head, _, body = data.partition(END_OF_HEAD)
        known = hot.heads.get(head)
        if known is None or len(body) != known.body_bytes or not self._is_free():
            return False
        try:
            answer = hot.answer(known, body, self._host, self.server_state.default_headers)
        except Exception:
            _LOGGER.exception("the hot way failed; another one is gone")
            return False
        if answer is None:
            return False
        hot.send(self.transport, answer, self.loop)
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._clear_deadline()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )
        return True

    def _is_free(self) -> bool:
        """Whether an answer may be written at once: all before it is out, and the server is not at its limits."""
        return (
            self._is_idle()
            and not self._is_stopping
            and not self._is_head_refused
            and not self.flow.write_paused
            and not (self._is_surplus and self._is_over_limit())
        )

    def _waiting(self) -> int:
        """How many whole requests wait behind the one that is being answered."""
        return len(self.pipeline) - (self._is_reading and not self._is_in_head)  # without one that is broken off

    def _is_over_limit(self) -> bool:
        limit = self.config.limit_concurrency
        return limit is not None and len(self.connections) >= limit

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # With too many connections uvicorn hands in its own plain-text application instead of ours.
        refuse: Any = self._application.overloaded
        cycle.scope["extensions"] = extensions_of(cycle)
        super()._start_asgi_task(cycle, app if app is self.app else refuse)

    def _short_scope(self) -> dict[str, Any]:
        return {**self.scope, "method": "POST", "path": self.url.decode()}

    def _leave_short_way(self) -> None:
        body, self._short_body = bytes(self._short_body or b""), None
        super().on_headers_complete()
        super().on_body(body)

    def _read_on_without_upgrade(self, rest: bytes) -> None:
        """We stay with HTTP/1.1 whatever the client would like; the parser has stopped behind the head."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.send_400_response("")
            return
        self.parser = httptools.HttpRequestParser(self)
        self.data_received(heads.without_upgrade(method, self.url, version, self.headers) + rest)

    def _is_idle(self) -> bool:
        """Whether nothing waits for its answer."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _close_if_idle(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()

    def _watch(self, data: bytes) -> None:
        """After each packet: what has been begun must end, in time and within its length."""
        if not self._is_reading:
            self._received = self._settled = 0
            if self._is_idle() and self.timeout_keep_alive_task is None:
                self._set_deadline()  # there were nothing but empty lines
            else:
                self._clear_deadline()
            return
        self._set_deadline()
        if self._is_in_head and self._settled == self._received and self.url:
            # It began behind something else in this packet; its first line is the last such line there.
            begin = data.rfind(b"%b %b" % (self.parser.get_method(), self.url))
            self._settled -= len(data) - begin if begin >= 0 else 0
        if self._received - self._settled > MAX_HEAD_BYTES:
            if self._is_in_head:
                self._refuse_head()
            else:
                self.transport.close()  # chunks of nothing: the request may have been answered already

    def _refuse_head(self) -> None:
        """Read no more. The requests before it get their answers first."""
        self._is_head_refused = True
        self._clear_deadline()
        self._say_last_words()

    def _say_last_words(self) -> None:
        """Answer, and close in a while: closing while the client is still sending would take the answer from it."""
        if not self._is_idle() or self.transport.is_closing():
            return
        self.transport.write(self._bytes_of(self._application.head_too_large({"client": self.client}, MAX_HEAD_BYTES)))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline = self.loop.call_later(LAST_WORDS_SECONDS, self.transport.close)

    def _set_deadline(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(READ_SECONDS, self._cut_off)

    def _cut_off(self) -> None:
        """Close the connection, unless we paused reading: then restart the timer."""
        self._deadline = None
        if self.flow.read_paused:
            self._set_deadline()
        else:
            self.transport.close()

    def _clear_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _bytes_of(self, reply: Reply) -> bytes:
        fields = [*self.server_state.default_headers, *reply.headers]
        lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        return b"%b%b\r\n%b" % (STATUS_LINE[reply.status], lines, reply.body)

    def _write(self, reply: Reply) -> None:
        self.transport.write(self._bytes_of(reply))
        if CLOSE in reply.headers:
            self.transport.close()

    def _wait_for_next(self) -> None:
        """What uvicorn does when a cycle has ended."""
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        if self.transport.is_closing():
            return
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
