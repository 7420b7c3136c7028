"""uvicorn's HTTP protocol with our words where it answers by itself: bytes that are not HTTP, too many connections.

Only those two places are overridden; life cycle, limits and shutdown stay uvicorn's.
"""

from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from retinue.web.asgi import Application, entity_headers


def protocol_class(application: Application) -> type[HttpToolsProtocol]:
    """The protocol class of the listener that serves an application."""

    class Protocol(HttpToolsProtocol):
        """uvicorn's protocol, answering in the contract's error form."""

        def send_400_response(self, msg: str) -> None:
            """Answer bytes that are not HTTP, and close: what follows them cannot be told apart."""
            _ = msg  # uvicorn's own sentence
            status, headers, body = application.not_http()
            fields = [*self.server_state.default_headers, *entity_headers(body), *headers]
            lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
            self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
            self.transport.close()

        def _start_asgi_task(self, cycle: Any, app: Any) -> None:
            # With too many connections uvicorn hands in its own plain-text application instead of ours.
            refuse: Any = application.overloaded
            super()._start_asgi_task(cycle, app if app is self.app else refuse)

    return Protocol
