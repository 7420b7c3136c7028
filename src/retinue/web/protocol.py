"""uvicorn's HTTP protocol with limits, our own refusals, and a fast path.

Each connection of every listener has one. A request whose head is cached is answered by the fast path without being
parsed. All others take the ASGI path, which gives the same bytes. Upgrades are not granted. On shutdown requests that
have begun to arrive are still answered.
"""

import asyncio
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from retinue.errors import HeadTooLarge, NotHttp, Refusal
from retinue.web import heads
from retinue.web.admission import Admission
from retinue.web.eviction import Awaited, Wait
from retinue.web.fast_path import FastPath
from retinue.web.limits import ClientTimer, Limits
from retinue.web.pipeline import Backlog, Pipeline, ReadProgress, ResponseWriter
from retinue.web.replies import CACHE_HEAD, DISCONNECT, Served, encode_reply
from retinue.web.uvicorn_internals import Cycle

GRACE_SECONDS = 0.2
REQUESTS_PER_ADMISSION_CHECK = 64  # one turn of the event loop may read from thousands of connections


class Protocol(HttpToolsProtocol):
    """One connection of a listener."""

    def __init__(
        self,
        *arguments: Any,
        application: Served,
        limits: Limits,
        admission: Admission,
        fast_path: FastPath | None = None,
        **named: Any,
    ) -> None:
        super().__init__(*arguments, **named)
        self._application = application
        self._admission = admission
        self._fast_path, self._host = fast_path, ""
        self._timer = ClientTimer(self.loop, self, limits)
        self._max_head_bytes = limits.head_bytes
        self._backlog = Backlog()
        self._piece = b""  # the piece being parsed, if a request begins with it
        self._pipeline = Pipeline(self.pipeline)  # `cycle` is the request that was read last
        self._progress = ReadProgress(limits.head_bytes)
        self._last_refusal: Refusal | None = None  # if set, all later bytes are dropped unread
        self._is_stopping = self._is_half_closed = False

    # --- the connection ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time for the first request."""
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._writer = ResponseWriter(transport)
        self._timer.start()

    def connection_lost(self, exc: Exception | None) -> None:
        """Free the connection's place and end its requests."""
        self._admission.leave(self)
        self._timer.clear()
        self._backlog.clear()
        for scope in self._pipeline.disconnect():
            self._application.gone(scope)
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # what asyncio expects; uvicorn's is always None
        """Return whether responses are still to be sent on a half-closed connection."""
        if self._fast_path is not None:
            self._fast_path.flush()
        is_answering = bool(self._backlog or self.pipeline) or not self._is_idle()
        # TLS has no half-closed connections, and an incomplete request has no answer.
        self._is_half_closed = is_answering + self._pipeline.count(self._progress) > 0 and self.scheme == "http"
        return self._is_half_closed

    @property
    def is_reading_paused(self) -> bool:
        """Whether reading is paused, because requests wait for their answers."""
        return self.flow.read_paused

    def close(self) -> None:
        """Close the connection."""
        self.transport.close()

    def shutdown(self) -> None:
        """Answer requests that have begun to arrive, and close."""
        self._is_stopping = True
        if self._is_idle():
            self.loop.call_later(GRACE_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def wait(self) -> Wait | None:
        """Return what the server waits for; None while it is answering."""
        is_unread = self in self.connections and self.flow.write_paused  # no connection before a handshake's end
        if self._pipeline.is_answering and not is_unread:
            return None
        timer = self._timer
        has_asked = timer.fast_answer_at or self.scope is not None
        awaited = Awaited.NEXT_REQUEST if has_asked else Awaited.FIRST_REQUEST
        awaited = Awaited.REST if is_unread or self._progress.is_in_request else awaited
        return Wait(awaited, max(timer.waiting_since, timer.fast_answer_at))

    # --- choosing the path ------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Answer a packet on the fast path, or parse it."""
        if not self.server_state.total_requests % REQUESTS_PER_ADMISSION_CHECK:
            self._admission.look_again()
        if self._backlog:
            self._backlog.add(data)
            return
        fast_path = self._fast_path
        if fast_path is not None:
            if not self._progress.is_in_request and self._answer_fast(fast_path, data):
                return
            if fast_path.waiting:  # one may be for this client, which must get its answers in order
                fast_path.flush()
        self._backlog.add(data)
        self._parse()

    def _answer_fast(self, fast_path: FastPath, data: bytes) -> bool:
        """Answer on the fast path; return whether it could."""
        answer = fast_path.answer_to(data, self._host, self.server_state.default_headers) if self._is_free() else None
        if answer is None:
            return False
        fast_path.send(self.transport, answer, self.loop)
        self.server_state.total_requests += 1
        self._timer.note_fast_answer()
        if self.timeout_keep_alive_task is None:
            self._timer.clear()
            self._set_keep_alive(self.timeout_keep_alive)
        return True

    def _is_free(self) -> bool:
        is_reading = not self._is_stopping and self._last_refusal is None
        return is_reading and self._is_idle() and not self.flow.write_paused

    def _extensions(self, cycle: Cycle) -> dict[str, Any]:

        def disconnect() -> None:
            cycle.disconnected = True  # otherwise uvicorn logs that the answer is incomplete
            cycle.transport.close()

        extensions: dict[str, Any] = {DISCONNECT: {"call": disconnect}}
        is_plain = self.scope["http_version"] == "1.1" and cycle.keep_alive and not self.expect_100_continue
        if self._fast_path is not None and self._piece and is_plain:
            extensions[CACHE_HEAD] = {"call": partial(self._fast_path.cache_head, self._piece, self.scope["headers"])}
        return extensions

    # --- parsing ----------------------------------------------------------------------------------------------------

    def _parse(self) -> None:
        """Parse the backlog until a complete request waits for its turn."""
        self._unset_keepalive_if_required()
        while self._backlog and not self.pipeline:
            piece = self._backlog.take()
            if self._last_refusal is None:
                self._parse_piece(piece)
        if self._backlog:
            self.flow.pause_reading()

    def _parse_piece(self, data: bytes) -> None:
        self._piece = b"" if self._progress.is_in_request else data
        self._progress.take(data)
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
            self._check_progress(data)
        self._piece = b""  # thousands of idle connections would each hold one

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._timer.note_wait()
        self._timer.clear()  # of the previous request, whose end came in the same packet
        self._progress.begin()
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Check the head and start the ASGI call."""
        # `HeadTooLarge` stops the parser and is handled in `_parse_piece`.
        self._progress.end_head(self.parser.get_method(), self.url, self.headers)
        if self.parser.should_upgrade():
            return  # the head is parsed again without the upgrade
        self.headers = []  # the scope has the list; trailers must not be added to it
        super().on_headers_complete()
        self.cycle.transport = self._writer  # type: ignore[assignment]  # it has all methods that a cycle calls
        if self._is_stopping:
            self.cycle.keep_alive = False
        self.scope["extensions"] = self._extensions(self.cycle)

    def on_body(self, body: bytes) -> None:
        """Add to the body."""
        self._progress.settle()
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End the request."""
        if not self.parser.should_upgrade():
            self._progress.end()
            super().on_message_complete()

    def _put_back_without_upgrade(self, rest: bytes) -> None:
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self.send_400_response("")
            return
        self.parser = httptools.HttpRequestParser(self)
        self._backlog.put_back(heads.without_upgrade(method, self.url, version, self.headers) + rest)

    def _check_progress(self, data: bytes) -> None:
        """Apply the limits of time and length after a packet."""
        if not self._progress.is_in_request:
            self._progress.clear()
            if self._is_idle() and self.timeout_keep_alive_task is None:
                self._timer.start()  # the packet had only empty lines
            else:
                self._timer.clear()
            return
        self._timer.start()
        if self._progress.is_too_long(data, self.parser.get_method(), self.url):
            if self._progress.is_in_head:
                self._refuse_rest(HeadTooLarge(str(self._max_head_bytes)))
            else:
                self.transport.close()  # endless chunk headers: the request may have been answered already

    # --- after an answer --------------------------------------------------------------------------------------------

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._pipeline.answering = cycle
        super()._start_asgi_task(cycle, app)

    def on_response_complete(self) -> None:
        """Continue with the next request, or end the connection."""
        self._writer.flush()
        if self._is_half_closed and not self._pipeline.count(self._progress) and not self._backlog:
            self.transport.close()
        if self.flow.read_paused:
            self._timer.restart()
        self._timer.note_wait()
        super().on_response_complete()
        if self._last_refusal is not None and self._is_idle():
            self._end_with(self._last_refusal)
        if (self._backlog or self.pipeline) and not self.transport.is_closing():
            self.flow.pause_reading()
            self.loop.call_soon(self._parse_on)

    def _parse_on(self) -> None:
        if self.pipeline or self.transport.is_closing():
            return
        self._parse()
        if not self._backlog and not self.pipeline:
            self.flow.resume_reading()
            if self._is_half_closed and self._is_idle():
                self.transport.close()

    def timeout_keep_alive_handler(self) -> None:
        """Close the idle connection, unless the fast path answered since: it leaves the timer as it is."""
        left = self._timer.fast_answer_at + self.timeout_keep_alive - self.loop.time()
        if left > 0:
            self._set_keep_alive(left)
        else:
            super().timeout_keep_alive_handler()

    def _set_keep_alive(self, seconds: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(seconds, self.timeout_keep_alive_handler)

    def _is_idle(self) -> bool:
        """Whether no request waits for its answer."""
        return self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]

    def _close_if_idle(self) -> None:
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()

    # --- refusals of the connection itself --------------------------------------------------------------------------

    def send_400_response(self, msg: str) -> None:
        """Refuse bytes that are not HTTP, and close: the rest cannot be parsed."""
        _ = msg  # uvicorn's own message
        if not self._is_idle() and self.cycle.more_body:
            before: Any = self._pipeline.drop(self.cycle)
            self.cycle = before
        self._refuse_rest(NotHttp())

    def _refuse_rest(self, refusal: Refusal) -> None:
        """Refuse all further bytes. Earlier requests get their answers first."""
        self._last_refusal = refusal
        self._timer.clear()
        if self._is_idle():
            self._end_with(refusal)

    def _end_with(self, refusal: Refusal) -> None:
        """Answer, and close later: closing while the client is still sending could lose the answer."""
        self._last_refusal = refusal
        if self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        reply = self._application.refuse({"client": self.client}, refusal)
        self.transport.write(encode_reply(reply, self.server_state.default_headers))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._timer.linger()
