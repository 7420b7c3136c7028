"""Every invariant of a keyspace, verified without changes.

Writers may work meanwhile, so a fault counts only if it is still there a moment later.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator

from retinue.errors import StoreUnavailable
from retinue.store.cassandra.parts import PartDirectory, wrong_pointers
from retinue.store.cassandra.retry import Backoff, RetryingSession
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.source import CassandraSource
from retinue.store.check.invariants import UNCHECKED, facts, invariants, listed, shown

_AGAIN_AFTER_SECONDS = 0.5


class CassandraChecker:
    """A `Checker`. Reads are repeated while nodes may recover."""

    def __init__(self, session: Session, backoff: Backoff) -> None:
        self._session = session
        self._backoff = backoff

    async def problems(self) -> AsyncIterator[str]:
        try:
            first = [[*listed(problems, shown)] for problems in self._invariants()]
        except StoreUnavailable as error:  # of the directory of parts
            yield f"{self._session.location}: {UNCHECKED} {error.detail}"
            return
        if any(first):
            await asyncio.sleep(_AGAIN_AFTER_SECONDS)
            again = [[*listed(problems, shown)] for problems in self._invariants()]
            for before, now in zip(first, again, strict=True):
                is_whole = not any(map(_is_end, before))
                for problem in now:
                    if problem in before or not is_whole or _is_end(problem):
                        yield f"{self._session.location}: {problem}"

    async def facts(self) -> dict[str, int]:
        source, _ = self._source()
        return {
            **facts(source),
            "clients": len(self._session.rows("SELECT id FROM client")),
            "tokens": sum(1 for _ in self._session.stream("SELECT digest FROM access_token")),
        }

    def close(self) -> None:
        self._session.close()

    def _invariants(self) -> Iterator[Iterable[str]]:
        source, wrong = self._source()
        yield from invariants(source)
        yield wrong

    def _source(self) -> tuple[CassandraSource, Iterable[str]]:
        """Return the keyspace, and the sentences about its pointers."""
        session, parts = RetryingSession(self._session, self._backoff), PartDirectory()
        parts.load(session)
        return CassandraSource(session, parts), wrong_pointers(parts, session)


def _is_end(problem: str) -> bool:
    return problem.startswith(UNCHECKED)
