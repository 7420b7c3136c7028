"""Extensions of the ASGI scope: disconnect, and let the fast path cache a head.

`protocol.py` adds them to the scope of each request; an application calls them.
"""

from collections.abc import Callable
from typing import Any

from retinue.model import Direction
from retinue.web.replies import Scope
from retinue.web.uvicorn_internals import Cycle

_DISCONNECT = "retinue.disconnect"
_CACHE_HEAD = "retinue.cache_head"

CacheHead = Callable[[Direction], None]


def extensions_of(cycle: Cycle, cache_head: CacheHead | None) -> dict[str, Any]:
    """Return the extensions of one request.

    `cache_head` is None if its head must not be cached.
    """

    def close() -> None:
        cycle.disconnected = True  # otherwise uvicorn logs that the answer is incomplete
        cycle.transport.close()

    extensions: dict[str, Any] = {_DISCONNECT: {"call": close}}
    if cache_head is not None:
        extensions[_CACHE_HEAD] = {"call": cache_head}
    return extensions


def disconnect(scope: Scope) -> None:
    """Close the connection of a request; bytes sent before still go out."""
    scope["extensions"][_DISCONNECT]["call"]()


def cache_head(scope: Scope, direction: Direction) -> None:
    """Let the fast path, if any, answer later requests with this head."""
    extension = scope.get("extensions", {}).get(_CACHE_HEAD)
    if extension is not None:
        extension["call"](direction)
