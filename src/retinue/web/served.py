"""An application as a connection needs it, for answers that need no ASGI call."""

from typing import Protocol

from retinue.errors import Refusal
from retinue.web.replies import Reply, Scope


class Served(Protocol):
    """An application that answers and records also requests that never reach it."""

    def refuse(self, scope: Scope, refusal: Refusal) -> Reply:
        """Return the reply to a request that is refused before it is read; the scope may lack what is unknown."""
        ...

    def gone(self, scope: Scope) -> None:
        """Record a request whose client went away before it was answered."""
        ...


class Inline(Protocol):
    """An application that answers some requests in one step, without a task."""

    @property
    def at_once_targets(self) -> frozenset[bytes]:
        """The targets of these requests, as they stand in the request line."""
        ...

    def reply_at_once(self, scope: Scope, body: bytes) -> Reply:
        """Return the reply to a whole request to one of these targets."""
        ...
