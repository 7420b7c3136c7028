"""uvicorn's HTTP protocol, with our words where it answers by itself, and a short way for the hot requests.

Our words: bytes that are not HTTP, too many connections. The short way: a complete, ordinary request to a path that
is answered at once gets its answer right where its last byte was read, without the task, events and messages of an
ASGI cycle. Anything unusual goes the ASGI way; both give the same bytes. Life cycle, limits, timeouts and shutdown
stay uvicorn's.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from retinue.web.asgi import CLOSE, Application, Message, Reply
from retinue.wire import MAX_BODY_BYTES


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol for the listener that serves an `Application`."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._application: Application = self.config.app  # type: ignore[assignment]  # what `public_server` gave it
        # The body so far of a request on the short way; None while there is none.
        self._short_body: bytearray | None = None

    def on_headers_complete(self) -> None:
        """Choose the way."""
        if self.url in self._application.at_once_targets and self.is_ordinary():
            self._short_body = bytearray()
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        if self._short_body is None:
            super().on_body(body)
            return
        self._short_body += body
        if len(self._short_body) > MAX_BODY_BYTES:
            self._leave_short_way()

    def on_message_complete(self) -> None:
        """Answer, on the short way."""
        if self._short_body is None:
            super().on_message_complete()
            return
        body, self._short_body = bytes(self._short_body), None
        self._write(_at_once(self._application, {**self.scope, "method": "POST", "path": self.url.decode()}, body))
        self._wait_for_next()

    def shutdown(self) -> None:
        """The server stops: what has begun to arrive is still answered, and uvicorn knows how to wait for it."""
        if self._short_body is not None:
            self._leave_short_way()
        super().shutdown()

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are not HTTP, and close: what follows them cannot be told apart."""
        _ = msg  # uvicorn's own sentence
        self._short_body = None
        self._write(self._application.not_http())

    def is_ordinary(self) -> bool:
        """Whether the request is a POST on a connection that stays, and all before it is answered and read."""
        limit = self.limit_concurrency
        is_free: bool = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr]
        return (
            is_free
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and self.parser.should_keep_alive()
            and not self.parser.should_upgrade()
            and not self.expect_100_continue
            and not self.flow.write_paused
            and (limit is None or (len(self.connections) < limit and len(self.tasks) < limit))
        )

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        # With too many connections uvicorn hands in its own plain-text application instead of ours.
        refuse: Any = self._application.overloaded
        super()._start_asgi_task(cycle, app if app is self.app else refuse)

    def _leave_short_way(self) -> None:
        body, self._short_body = bytes(self._short_body or b""), None
        super().on_headers_complete()
        super().on_body(body)

    def _write(self, reply: Reply) -> None:
        fields = [*self.server_state.default_headers, *reply.headers]
        lines = b"".join([b"%b: %b\r\n" % field for field in fields])
        self.transport.write(b"%b%b\r\n%b" % (STATUS_LINE[reply.status], lines, reply.body))
        if CLOSE in reply.headers:
            self.transport.close()

    def _wait_for_next(self) -> None:
        """What uvicorn does when a cycle has ended: count, and give the client so long for its next request."""
        self.server_state.total_requests += 1
        self._unset_keepalive_if_required()
        if not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )


def _at_once(application: Application, scope: Any, body: bytes) -> Reply:
    """Run the application to its reply in one step."""

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        application.reply(scope, receive).send(None)
    except StopIteration as end:
        reply: Reply = end.value
        return reply
    raise RuntimeError("a handler that waits cannot answer at once")
