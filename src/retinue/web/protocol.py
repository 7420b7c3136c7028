"""uvicorn's HTTP protocol as all listeners speak it: with limits, our own refusals, and two shorter ways for requests.

Our refusals: bytes that are not HTTP, a head that is too long. The short way: a complete, ordinary request gets its
answer right where its last byte was read, without the task, events and messages of an ASGI cycle. The fast path
(`fast_path.py`): if its head came before, it is not parsed. Anything unusual goes the ASGI way. All three give the same
bytes. Slow clients are cut off, upgrades are not granted, and a stop lets arrive what is on its way.
"""

import asyncio
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from retinue.errors import HeadTooLarge, NotHttp, Refusal
from retinue.web import heads
from retinue.web.admission import Admission
from retinue.web.arrived import Arrived
from retinue.web.deadline import Deadline
from retinue.web.eviction import Awaited, Wait
from retinue.web.extensions import extensions_of
from retinue.web.fast_path import FastPath
from retinue.web.limits import Limits
from retinue.web.pipeline import Pipeline
from retinue.web.reading import Reading
from retinue.web.replies import CLOSE, encode_reply
from retinue.web.served import Inline, Served

GRACE_SECONDS = 0.2
OK = 200
REQUESTS_BETWEEN_LOOKS = 64  # one turn of the event loop may read from thousands of connections


class Protocol(HttpToolsProtocol):
    """One connection of a listener. `inline` and `fast_path` are the shorter ways to an answer."""

    def __init__(
        self,
        *arguments: Any,
        application: Served,
        limits: Limits,
        admission: Admission,
        inline: Inline | None = None,
        fast_path: FastPath | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._application = application
        self._limits = limits
        self._admission = admission
        self._waiting_since = self.loop.time()  # for the client
        self._inline, self._fast_path, self._host = inline, fast_path, ""
        self._arrived = Arrived()
        self._piece = b""  # what is being parsed, if it began a request
        self._answered_at = 0.0  # when the fast path was gone last, by the loop's clock
        self._short_body: bytearray | None = None  # so far, of a request on the short way
        self._pipeline = Pipeline(self.pipeline)  # `cycle` is the request that was read last
        self._reading = Reading(limits.head_bytes)
        self._last_refusal: Refusal | None = None  # what follows cannot be read; it is dropped
        self._is_stopping = self._is_half_closed = False
        self._deadline = Deadline(self.loop)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client is there."""
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._await_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._admission.leave(self)
        self._deadline.clear()
        self._arrived.clear()
        if self._short_body is not None:
            self._short_body = None
            self._application.gone(self._short_scope())
        for scope in self._pipeline.disconnect():
            self._application.gone(scope)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # what asyncio expects; uvicorn's is always None
        """The client sends no more: it gets the answers to what it has sent, and then the connection ends."""
        if self._fast_path is not None:
            self._fast_path.flush()
        is_answering = bool(self._arrived or self.pipeline) or not self._is_idle()
        # TLS has no half of a connection, and what is broken off has no answer.
        self._is_half_closed = is_answering + self._pipeline.count(self._reading) > 0 and self.scheme == "http"
        return self._is_half_closed

    def data_received(self, data: bytes) -> None:
        """Read on."""
        if not self.server_state.total_requests % REQUESTS_BETWEEN_LOOKS:
            self._admission.look_again()
        if self._arrived:
            self._arrived.add(data)
            return
        fast_path = self._fast_path
        if fast_path is not None:
            if not self._reading.is_in_request and self._answer_fast_path(fast_path, data):
                return
            if fast_path.waiting:  # maybe to this client, who must get its answers in order
                fast_path.flush()
        self._arrived.add(data)
        self._parse()

    def _parse(self) -> None:
        """Parse what has arrived, as long as no whole request waits behind the one that is being answered."""
        self._unset_keepalive_if_required()
        while self._arrived and not self.pipeline:
            piece = self._arrived.take()
            if self._last_refusal is None:
                self._parse_piece(piece)
        if self._arrived:
            self.flow.pause_reading()

    def _parse_piece(self, data: bytes) -> None:
        self._piece = b"" if self._reading.is_in_request else data
        self._reading.take(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._put_back_without_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if isinstance(error.__context__, HeadTooLarge):
                self._refuse_rest(error.__context__)
            else:
                self.send_400_response("")
        else:
            self._watch(data)
        self._piece = b""  # thousands of connections may wait with it

    def on_message_begin(self) -> None:
        """A request begins."""
        self._waiting_since = self.loop.time()
        self._deadline.clear()  # of the request before, whose end came in the same packet
        self._reading.begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Choose the way."""
        # `HeadTooLarge` stops the parser, and comes back to `data_received`.
        self._reading.end_head(self.parser.get_method(), self.url, self.headers)
        if self.parser.should_upgrade():
            return  # the head will be read again without that wish
        self.headers = []  # the scope has them; what comes behind the body (trailers) are not headers
        if self._inline is not None and self.url in self._inline.at_once_targets and self.is_ordinary():
            self._short_body = bytearray()
            return
        super().on_headers_complete()
        if self._is_stopping:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._reading.settle()
        if self._short_body is None:
            super().on_body(body)
            return
        self._short_body += body
        if len(self._short_body) > self._limits.body_bytes:
            self._leave_short_way()

    def on_message_complete(self) -> None:
        """Answer, on the short way."""
        if self.parser.should_upgrade():
            return
        self._reading.end()
        if self._short_body is None or self._inline is None:
            super().on_message_complete()
            return
        body, self._short_body = bytes(self._short_body), None
        reply = self._inline.reply_at_once(self._short_scope(), body)
        if self._fast_path is not None and reply.status == OK:
            self._fast_path.learn_from(self._piece, body, self.url, list(self.scope["headers"]))
        self.transport.write(encode_reply(reply, self.server_state.default_headers))
        if CLOSE in reply.headers:
            self.transport.close()
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
        if not self._is_idle() and self.cycle.more_body:
            self.cycle = self._pipeline.drop(self.cycle)
        self._refuse_rest(NotHttp())

    def on_response_complete(self) -> None:
        """Go on to the next request, or to the last words."""
        if self._is_half_closed and not self._pipeline.count(self._reading) and not self._arrived:
            self.transport.close()
        if self.flow.read_paused and self._deadline.is_set:  # reading goes on: the client has its time again
            self._deadline.reset(self._limits.read_seconds, self._cut_off)
        self._waiting_since = self.loop.time()
        super().on_response_complete()
        if self._last_refusal is not None and self._is_idle():
            self._end_with(self._last_refusal)
        if (self._arrived or self.pipeline) and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_on)

    def is_ordinary(self) -> bool:
        """Whether the request is a POST on a connection that stays, and all before it is answered and read."""
        is_usual = self.parser.get_method() == b"POST" and self.parser.get_http_version() == "1.1"
        is_usual = is_usual and self.parser.should_keep_alive() and not self.expect_100_continue
        is_short = not heads.announces_too_much(self.scope["headers"], self._limits.body_bytes)
        return is_usual and is_short and self._is_free()

    def wait(self) -> Wait | None:
        """Return what the server waits for; None while it is answering."""
        is_unread = self in self.connections and self.flow.write_paused  # no connection before a handshake's end
        if self._pipeline.is_answering and not is_unread:
            return None
        has_asked = self._answered_at or self.scope is not None
        awaited = Awaited.NEXT_REQUEST if has_asked else Awaited.FIRST_REQUEST
        awaited = Awaited.REST if is_unread or self._reading.is_in_request else awaited
        return Wait(awaited, max(self._waiting_since, self._answered_at))

    def timeout_keep_alive_handler(self) -> None:
        """Close, unless the fast path was gone since: it leaves this order as it is, and notes the time."""
        left = self._answered_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def _answer_fast_path(self, fast_path: FastPath, data: bytes) -> bool:
        """Answer a whole request whose head is known; whether that was one."""
        answer = fast_path.answer_to(data, self._host, self.server_state.default_headers) if self._is_free() else None
        if answer is None:
            return False
        fast_path.send(self.transport, answer, self.loop)
        self.server_state.total_requests += 1
        self._answered_at = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._deadline.clear()
            self._keep_alive()
        return True

    def _is_free(self) -> bool:
        """Whether an answer may be written at once: all before it is out, and the server is not at its limits."""
        is_reading = not self._is_stopping and self._last_refusal is None
        return is_reading and self._is_idle() and not self.flow.write_paused

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.scope["extensions"] = extensions_of(cycle)
        self._pipeline.answering = cycle
        super()._start_asgi_task(cycle, app)

    def _short_scope(self) -> dict[str, Any]:
        return {**self.scope, "method": "POST", "path": self.url.decode()}

    def _leave_short_way(self) -> None:
        body, self._short_body = bytes(self._short_body or b""), None
        super().on_headers_complete()
        super().on_body(body)

    def _parse_on(self) -> None:
        """After an answer: go on with what has arrived behind its request."""
        if self.pipeline or self.transport.is_closing():
            return
        self._parse()
        if not self._arrived and not self.pipeline:
            self.flow.resume_reading()
            if self._is_half_closed and self._is_idle():
                self.transport.close()

    def _put_back_without_upgrade(self, rest: bytes) -> None:
        """We stay with HTTP/1.1 whatever the client would like; the parser has stopped behind the head."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.send_400_response("")
            return
        self.parser = httptools.HttpRequestParser(self)
        self._arrived.put_back(heads.without_upgrade(method, self.url, version, self.headers) + rest)

    def _is_idle(self) -> bool:
        """Whether nothing waits for its answer."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _close_if_idle(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()

    def _watch(self, data: bytes) -> None:
        """After each packet: what has been begun must end, in time and within its length."""
        if not self._reading.is_in_request:
            self._reading.clear()
            if self._is_idle() and self.timeout_keep_alive_task is None:
                self._await_request()  # there were nothing but empty lines
            else:
                self._deadline.clear()
            return
        self._await_request()
        if self._reading.is_too_long(data, self.parser.get_method(), self.url):
            if self._reading.is_in_head:
                self._refuse_rest(HeadTooLarge(str(self._limits.head_bytes)))
            else:
                self.transport.close()  # chunks of nothing: the request may have been answered already

    def _refuse_rest(self, refusal: Refusal) -> None:
        """Read no more. The requests before it get their answers first."""
        self._last_refusal = refusal
        self._deadline.clear()
        if self._is_idle():
            self._end_with(refusal)

    def _end_with(self, refusal: Refusal) -> None:
        """Answer, and close in a while: closing while the client is still sending would take the answer from it."""
        self._last_refusal = refusal
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        reply = self._application.refuse({"client": self.client}, refusal)
        self.transport.write(encode_reply(reply, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._deadline.reset(self._limits.linger_seconds, self.transport.close)

    def _await_request(self) -> None:
        self._deadline.set(self._limits.read_seconds, self._cut_off)

    def _cut_off(self) -> None:
        """Close the connection, unless we paused reading: then restart the timer."""
        if self.flow.read_paused:
            self._await_request()
        else:
            self.transport.close()

    def _wait_for_next(self) -> None:
        """What uvicorn does when a cycle has ended."""
        self.server_state.total_requests += 1
        self._waiting_since = self.loop.time()
        self._unset_keepalive_if_required()
        if not self.transport.is_closing():
            self._keep_alive()

    def _keep_alive(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
