"""Writing the follow graph: one writer at a time, in transactions short enough for others to get their turn."""

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

# The promise is 200 ms; the rest is room for the commit itself and for a slow disk.
TRANSACTION_SECONDS = 0.12

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class SqliteGraphWriter:
    """A `GraphWriter` on one connection. Blocks while it works: for processes that have nothing else to do."""

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
        """Create or change accounts; a verdict for each record."""
        return self._in_short_transactions(records, lambda record: self._changes.bring(record, now))

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        """Store follows in the given order; a verdict for each."""
        return self._in_short_transactions(records, lambda record: self._changes.add_follow(record, seen_at))

    async def refused(self, names: Sequence[str]) -> list[str]:
        """Those names that no account can have, and those of accounts that were erased."""
        with self._one_state():
            return [name for name in names if self._changes.is_refused(name)]

    async def account_ids(self, names: Sequence[str]) -> list[int]:
        """Return the account id for each name; create missing accounts."""
        return self._in_short_transactions(names, self._changes.account_id_of)

    async def load(self, follows: SortedFollows, on_share: OnShare) -> LoadedFollows:
        """Store many follows, in one transaction."""
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
        """The keys of the accounts that names in an imported row mean now."""
        with self._one_state():
            return [self._changes.key_of(name) for name in names]

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        """Return for each key why `apply` rejects its erasure as one by username, or None."""
        with self._one_state():
            return [self._changes.not_a_key(key) for key in keys]

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        """Unfollow everybody whom an account followed at a second, but for those named; returns how many."""
        with self._one_state():
            missing = self._changes.missing(follower, followees, at)
        verdicts = self._in_short_transactions(missing, lambda pair: self._changes.end(pair, at))
        return sum(verdict is Verdict.ACCEPTED for verdict in verdicts)

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        """Apply events in the given order; a decision for each. They survive a power loss when it returns."""
        with self._waiting_for_disk():
            return self._in_short_transactions(events, lambda event: self._changes.apply(event, received_at))

    async def run_maintenance(self) -> bool:
        """Do a short piece of what is left to do in the background; whether there is more."""
        with files.translated():
            is_maintained = self._changes.is_maintained()
        return not is_maintained and self._transaction(lambda: self._changes.run_maintenance(self._is_time_left()))

    async def compact(self) -> None:
        """Finish what is left to do, then leave no byte in the files of what was erased."""
        while await self.run_maintenance():
            pass
        with files.translated():
            compact(self._connection)
        self._work.forget()

    async def settle(self) -> None:
        """Make everything written so far survive a power loss: one more commit waits for the disk."""
        with self._waiting_for_disk():
            self._transaction(lambda: False)
        with files.translated():
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")

    def bulk(self) -> "SqliteGraphWriter":
        """Return the loader of many follows at once: this writer."""
        return self

    def close(self) -> None:
        """Give the file back."""
        self._connection.close()

    @contextmanager
    def _waiting_for_disk(self) -> Iterator[None]:
        """Have each commit in the block wait until the disk has it and all earlier ones."""
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
        """Store items until they or the time run out."""
        is_time_left = self._is_time_left()
        verdicts.append(store(first))
        while is_time_left():
            item = next(waiting, None)
            if item is None:
                return False
            verdicts.append(store(item))
        return True

    def _transaction(self, work: Callable[[], bool]) -> bool:
        """Do some work in one transaction; nothing of it is remembered where that fails."""
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
        """For looking at several things before anything is changed."""
        with files.translated(), files.one_state(self._connection):
            self._work.begin()
            yield

    def _is_time_left(self) -> Callable[[], bool]:
        deadline = self._clock.elapsed() + TRANSACTION_SECONDS
        return lambda: self._clock.elapsed() < deadline
