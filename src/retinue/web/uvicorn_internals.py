"""The internals of uvicorn that we use, in one list. uvicorn does not promise them; a test fails if they change.

`protocol.py` extends `HttpToolsProtocol`, and depends on the order of steps of its methods. `pyproject.toml` caps the
version.
"""

from asyncio import Event
from collections import deque
from typing import Any, Protocol


class Cycle(Protocol):
    """uvicorn's `RequestResponseCycle`: one request and its response."""

    scope: Any
    message_event: Event  # set if a part of the body arrives or the client disconnects
    keep_alive: bool
    more_body: bool  # the request is not complete
    response_complete: bool
    disconnected: bool
    transport: Any  # it calls `write`, `close` and `is_closing`; `protocol.py` puts its own there


Queue = deque[Any]  # pipelined requests as pairs of cycle and application; the next one at the right end

# Attributes of a connection, dotted if they are attributes of a part of it.
ATTRIBUTES = (
    "client",
    "connections",
    "cycle",
    "expect_100_continue",
    "flow.pause_reading",
    "flow.read_paused",
    "flow.resume_reading",
    "flow.write_paused",
    "headers",
    "loop",
    "parser",
    "pipeline",
    "scheme",
    "scope",
    "server_state.default_headers",
    "server_state.total_requests",
    "timeout_keep_alive",
    "timeout_keep_alive_task",
    "transport",
    "url",
)

# Methods of a connection that we extend, replace or call.
METHODS = (
    "_start_asgi_task",
    "_unset_keepalive_if_required",
    "connection_lost",
    "connection_made",
    "data_received",
    "eof_received",
    "on_body",
    "on_headers_complete",
    "on_message_begin",
    "on_message_complete",
    "on_response_complete",
    "send_400_response",
    "shutdown",
    "timeout_keep_alive_handler",
)
