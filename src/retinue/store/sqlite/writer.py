"""Writes to the follow graph, in short transactions. Other writers get their turn in between."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from retinue.clock import Clock
from retinue.model import AccountRecord, Event, FollowRecord
from retinue.store.bulk import LoadedFollows, OnShare, SortedFollows
from retinue.store.contract import Decision, NotAKey, Verdict
from retinue.store.sqlite import files
from retinue.store.sqlite.bulk_load import BulkLoad
from retinue.store.sqlite.compaction import compact
from retinue.store.sqlite.unit_of_work import SqliteUnitOfWork

# The promise is 200 ms; the rest allows for the commit and a slow disk.
TRANSACTION_SECONDS = 0.12

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class SqliteGraphWriter:
    """A `GraphWriter` on one connection. It blocks while it works."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._clock = clock
        with ExitStack() as opened:
            self._connection = files.open_for_writing(path, files.GRAPH)
            opened.callback(self._connection.close)
            with files.translated():
                self._connection.execute(f"PRAGMA cache_size = -{2 * files.CACHE_KIB}")
                self._work = SqliteUnitOfWork(self._connection)
                self._wait_for_disk(False)
            opened.pop_all()
        self._changes = self._work.changes

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        return self._in_short_transactions(records, lambda record: self._changes.bring(record, now))

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        return self._in_short_transactions(records, lambda record: self._changes.add_follow(record, seen_at))

    async def refused(self, names: Sequence[str]) -> list[str]:
        with self._one_state():
            return [name for name in names if self._changes.is_refused(name)]

    async def account_ids(self, names: Sequence[str]) -> list[int]:
        return self._in_short_transactions(names, self._changes.account_id_of)

    async def load(self, follows: SortedFollows, on_share: OnShare) -> LoadedFollows:
        while True:
            while await self.run_maintenance():
                pass
            try:
                with files.transaction(self._connection):
                    if self._changes.is_maintained():
                        return BulkLoad(self._connection, follows, on_share).run()
            finally:
                self._work.forget()

    async def keys_of(self, names: Sequence[str]) -> list[str | None]:
        with self._one_state():
            return [self._changes.key_of(name) for name in names]

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        with self._one_state():
            return [self._changes.not_a_key(key) for key in keys]

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        with self._one_state():
            missing = self._changes.missing(follower, followees, at)
        verdicts = self._in_short_transactions(missing, lambda pair: self._changes.end(pair, at))
        return sum(verdict is Verdict.ACCEPTED for verdict in verdicts)

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        with self._waiting_for_disk():
            return self._in_short_transactions(events, lambda event: self._changes.apply(event, received_at))

    async def run_maintenance(self) -> bool:
        with files.translated():
            is_maintained = self._changes.is_maintained()
        return not is_maintained and self._transaction(lambda: self._changes.run_maintenance(self._is_time_left()))

    async def compact(self) -> None:
        while await self.run_maintenance():
            pass
        with files.translated():
            compact(self._connection)
        self._work.forget()

    async def settle(self) -> None:
        with self._waiting_for_disk():
            self._transaction(lambda: False)
        with files.translated():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def bulk(self) -> "SqliteGraphWriter":
        return self

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _waiting_for_disk(self) -> Iterator[None]:
        """Make each commit in the block durable, with all earlier ones."""
        self._wait_for_disk(True)
        try:
            yield
        finally:
            self._wait_for_disk(False)

    def _wait_for_disk(self, wanted: bool) -> None:
        self._must_wait = wanted
        self._connection.execute(f"PRAGMA synchronous = {'FULL' if wanted else 'NORMAL'}")

    def _in_short_transactions(self, items: Iterable[_Item], store: Callable[[_Item], _Result]) -> list[_Result]:
        verdicts: list[_Result] = []
        waiting = iter(items)
        for item in waiting:
            self._transaction(lambda first=item: self._store_some(first, waiting, store, verdicts))  # type: ignore[misc]
        return verdicts

    def _store_some(
        self, first: _Item, waiting: Iterator[_Item], store: Callable[[_Item], _Result], verdicts: list[_Result]
    ) -> bool:
        """Store items until the time runs out. Return whether items remain."""
        is_time_left = self._is_time_left()
        verdicts.append(store(first))
        while is_time_left():
            item = next(waiting, None)
            if item is None:
                return False
            verdicts.append(store(item))
        return True

    def _transaction(self, work: Callable[[], bool]) -> bool:
        """Work in one transaction. A failure clears the caches."""
        try:
            with files.transaction(self._connection):
                self._work.begin()
                result = work()
                self._work.flush()
                if self._must_wait:
                    files.touch(self._connection, files.GRAPH)
        except BaseException:
            self._work.forget()
            raise
        return result

    @contextmanager
    def _one_state(self) -> Iterator[None]:
        with files.translated(), files.one_state(self._connection):
            self._work.begin()
            yield

    def _is_time_left(self) -> Callable[[], bool]:
        deadline = self._clock.elapsed() + TRANSACTION_SECONDS
        return lambda: self._clock.elapsed() < deadline
