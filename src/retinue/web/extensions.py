"""What ASGI has no message for: closing a connection, whatever was answered. An extension of the scope.

`protocol.py` puts it there for each request that goes the ASGI way. Knows of uvicorn what its cycles have.
"""

from typing import Any

from retinue.web.replies import Scope

_DISCONNECT = "retinue.disconnect"


def extensions_of(cycle: Any) -> dict[str, Any]:
    """The extensions of a scope, for one request and its answer."""

    def call() -> None:
        cycle.disconnected = True  # so nobody misses the rest of the answer
        cycle.transport.close()

    return {_DISCONNECT: {"call": call}}


def disconnect(scope: Scope) -> None:
    """Close the connection that a request came on; what was sent before still goes out."""
    scope["extensions"][_DISCONNECT]["call"]()
