"""A service with the contract's paths whose answers a test writes, for answers that Retinue never gives."""

import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

LOG_ID = "20260101000000AAAAAAAAAAAAAAAAAAAA"
TOKEN_PATH = "/v2/oauth/token/"


class Said(NamedTuple):
    """An answer."""

    body: bytes
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()


Answering = Callable[[str, dict[str, Any]], Said]  # the path, and the JSON that was sent
TOKEN = Said(b'{"access_token":"clt.good","expires_in":7200,"token_type":"Bearer"}')


def enveloped(data: Any, code: str = "ok", message: str = "", status: int = 200) -> Said:
    """An answer in the contract's form."""
    return Said(
        json.dumps({"data": data, "error": {"code": code, "message": message, "log_id": LOG_ID}}).encode(), status
    )


def page(rows: list[Any], cursor: int = 1, *, has_more: bool = False) -> Said:
    """A page of following."""
    return enveloped({"user_following": rows, "cursor": cursor, "has_more": has_more})


@contextmanager
def scripted(
    answer: Answering, token: Callable[[], Said] = lambda: TOKEN, tls: ssl.SSLContext | None = None
) -> Iterator[str]:
    """A service on a free port; its URL."""

    class Handler(BaseHTTPRequestHandler):
        """Answers as the test says."""

        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            """Any request of a client is a POST."""
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            said = token() if self.path == TOKEN_PATH else answer(self.path, json.loads(sent))
            self.send_response(said.status)
            for name, value in (*said.headers, ("Content-Length", str(len(said.body)))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(said.body)

        def log_message(self, *_: object) -> None:
            """Write no log."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients hang up as they like
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
