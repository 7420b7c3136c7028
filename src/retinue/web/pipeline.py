"""The requests of one connection that are being answered or wait for that."""

from collections.abc import Iterator

from retinue.web.reading import ReadProgress
from retinue.web.replies import Scope
from retinue.web.uvicorn_internals import Cycle, Queue


class Pipeline:
    """`answering` is the cycle started last; `waiting` is uvicorn's queue."""

    __slots__ = ("_waiting", "answering")

    def __init__(self, waiting: Queue) -> None:
        self._waiting = waiting
        self.answering: Cycle | None = None

    @property
    def is_answering(self) -> bool:
        """Whether a complete request is being answered."""
        cycle = self.answering
        return cycle is not None and not (cycle.response_complete or cycle.more_body)

    def count(self, progress: ReadProgress) -> int:
        """Return how many complete requests wait."""
        return len(self._waiting) - progress.is_in_body

    def disconnect(self) -> Iterator[Scope]:
        """End all requests; yield the scopes of those not started."""
        if self.answering is not None:
            self.answering.disconnected = True  # uvicorn marks the request that was read last
        while self._waiting:
            yield dict(self._waiting.pop()[0].scope)

    def drop(self, cycle: Cycle) -> Cycle | None:
        """Drop the request that is being read; return the one before it, if any."""
        if self._waiting:  # it has not started
            self._waiting.popleft()
            return self._waiting[0][0] if self._waiting else self.answering
        cycle.disconnected = True
        cycle.message_event.set()
        return None
