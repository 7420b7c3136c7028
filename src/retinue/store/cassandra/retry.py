"""Repeating statements after transient failures.

Every statement here may run twice: reads change nothing, and writes carry their own timestamps.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from retinue.store.cassandra.session import BATCHES_AT_ONCE, Session, TransientFailure
from retinue.store.cassandra.statements import Row, Statement, batched

# A writer gives up after this time, also if its lease can still be renewed.
PATIENCE_SECONDS = 20.0
FIRST_DELAY_SECONDS = 0.05
MAX_DELAY_SECONDS = 2.0

# Written together, and repeated together if one fails.
_REPEATED_BATCHES = 8 * BATCHES_AT_ONCE

_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Backoff:
    """Delays between attempts.

    `elapsed` and `pause` are in seconds; `jitter` returns a random number from 0 to 1.
    """

    elapsed: Callable[[], float]
    pause: Callable[[float], object]
    jitter: Callable[[], float]

    def repeat(self, attempt: Callable[[], _Result], seconds: float = PATIENCE_SECONDS) -> _Result:
        """Return the result of an attempt, repeated for some seconds."""
        deadline, delay = self.elapsed() + seconds, FIRST_DELAY_SECONDS
        while True:
            try:
                return attempt()
            except TransientFailure:
                wait = delay * (1 + self.jitter()) / 2
                if self.elapsed() + wait >= deadline:
                    raise
            self.pause(wait)
            delay = min(2 * delay, MAX_DELAY_SECONDS)


class RetryingSession:
    """A session that repeats failed statements.

    `before_each` runs before each attempt and may raise an error.
    """

    def __init__(self, session: Session, backoff: Backoff, before_each: Callable[[], object] = lambda: None) -> None:
        self._session = session
        self._backoff = backoff
        self._before_each = before_each

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Row]:
        return self._repeat(lambda: self._session.rows(query, values))

    def rows_of_all(self, statements: Iterable[Statement]) -> list[list[Row]]:
        waiting = list(statements)
        return self._repeat(lambda: self._session.rows_of_all(waiting))

    def stream(self, query: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """Run one long read. It is not repeated, since the caller has its beginning."""
        return self._session.stream(query, values)

    def write_all(self, statements: Iterable[Statement]) -> None:
        waiting = batched(statements)
        while piece := list(islice(waiting, _REPEATED_BATCHES)):
            self._backoff.repeat(lambda piece=piece: self._session.write_batches(piece, self._before_each))  # type: ignore[misc]

    def _repeat(self, attempt: Callable[[], _Result]) -> _Result:
        def run() -> _Result:
            self._before_each()
            return attempt()

        return self._backoff.repeat(run)


Reads = Session | RetryingSession  # for blocking reads
