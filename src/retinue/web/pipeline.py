"""The requests of one connection that are being answered, or wait for that. Knows uvicorn's cycles and their queue."""

from collections import deque
from collections.abc import Iterator
from typing import Any

from retinue.web.reading import Reading
from retinue.web.replies import Scope


class Pipeline:
    """`answering` is the request that was begun last; `waiting` is uvicorn's queue, the next one at its right end."""

    __slots__ = ("_waiting", "answering")

    def __init__(self, waiting: deque[Any]) -> None:
        self._waiting = waiting
        self.answering: Any = None

    @property
    def is_answering(self) -> bool:
        """Whether a whole request is being answered."""
        cycle = self.answering
        return cycle is not None and not (cycle.response_complete or cycle.more_body)

    def count(self, reading: Reading) -> int:
        """Return how many whole requests wait; the last may still be on its way."""
        return len(self._waiting) - reading.is_in_body

    def disconnect(self) -> Iterator[Scope]:
        """End all; return the scopes of those that were not begun."""
        if self.answering is not None:
            self.answering.disconnected = True  # uvicorn marks the request that was read last
        while self._waiting:
            yield dict(self._waiting.pop()[0].scope)

    def drop(self, cycle: Any) -> Any:
        """Forget the request that is being read; return the one before it if that is there."""
        if self._waiting:  # it has not begun
            self._waiting.popleft()
            return self._waiting[0][0] if self._waiting else self.answering
        cycle.disconnected = True
        cycle.message_event.set()
        return None
