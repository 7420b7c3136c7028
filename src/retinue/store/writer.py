"""Writing a graph: one writer at a time, in short units of work."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from retinue.clock import Clock
from retinue.model import AccountRecord, Direction, Event, FollowRecord
from retinue.store.bulk import NO_ACCOUNT, LoadedFollows, OnShare, SortedFollows
from retinue.store.contract import Decision, NotAKey, Verdict
from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import RELOCATION, Engine
from retinue.store.load.bulk_load import GROUP_SIZE, BulkLoad, GroupedLoad
from retinue.store.load.groups import GroupChanges
from retinue.store.rules.changes import GraphChanges

# The promise to waiting writers is 200 ms; the rest is room for the commit itself and for a slow disk.
UNIT_SECONDS = 0.12
ACCOUNTS_AT_ONCE = 4_000  # in one unit, at most; of follows and events the engine says how many
_SLOWEST_PER_SECOND = 5_000  # records, which the first group is small enough for
_SMALLEST_GROUP = 100
_MAX_GROWTH = 2

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class GroupSize:
    """The number of records of the next unit of work.

    It follows from the time of earlier units.
    """

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._per_second: float = _SLOWEST_PER_SECOND

    def within(self, seconds: float) -> int:
        """Return how many records may be stored in this time."""
        return max(_SMALLEST_GROUP, min(self._largest, int(seconds * self._per_second)))

    def measure(self, records: int, limit: float, seconds: float) -> None:
        """Adapt to a unit of work with a time limit. A small, fast one tells little."""
        growth = min(_MAX_GROWTH, limit / seconds) if seconds else _MAX_GROWTH
        if growth < 1 or records >= self.within(limit):
            self._per_second = records * growth / limit


class EngineGraphWriter:
    """A `GraphWriter` and `BulkWriter` on an engine. Its calls block."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._rows = Rows(engine)
        self._changes = GraphChanges(self._rows)
        self._groups = GroupChanges(self._rows, self._changes)
        self._account_groups = GroupSize(ACCOUNTS_AT_ONCE)
        self._follow_groups = GroupSize(engine.group_size)
        self._event_groups = GroupSize(engine.group_size)
        self._end_groups = GroupSize(engine.group_size)

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        return self._in_groups(records, lambda group: self._groups.add_accounts(group, now), self._account_groups)

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        return self._in_groups(records, lambda group: self._groups.add_follows(group, seen_at), self._follow_groups)

    async def keys_of(self, names: Sequence[str]) -> list[str | None]:
        with self._unit():
            return [self._changes.key_of(name) for name in names]

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        with self._unit():
            return [self._changes.not_a_key(key) for key in keys]

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        with self._unit():
            missing = self._changes.missing(follower, followees, at)
        verdicts = self._in_groups(
            missing, lambda pairs: [self._changes.end(pair, at) for pair in pairs], self._end_groups
        )
        return sum(verdict is Verdict.ACCEPTED for verdict in verdicts)

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        return self._in_groups(
            events,
            lambda group: self._groups.apply(group, received_at, self._is_time_left()),
            self._event_groups,
            is_durable=True,
        )

    async def run_maintenance(self) -> bool:
        if not self._engine.has_rows(RELOCATION):
            return False
        with self._unit():
            if self._changes.relocator.is_done():
                return False
            is_more = self._changes.relocator.work(self._is_time_left())
            self._commit()
            return is_more

    async def compact(self) -> None:
        while await self.run_maintenance():
            pass
        self._engine.compact()

    async def settle(self) -> None:
        self._engine.settle()

    async def refused(self, names: Sequence[str]) -> list[str]:
        with self._unit():
            self._changes.resolver.prefetch(names)
            return [name for name in names if self._changes.is_refused(name)]

    async def account_ids(self, names: Sequence[str]) -> list[int]:
        return self._in_groups(names, self._account_ids, self._account_groups)

    def _account_ids(self, names: Sequence[str]) -> list[int]:
        self._changes.resolver.prefetch(names)
        self._changes.create_named((name,) for name in names)
        return [NO_ACCOUNT if self._changes.is_refused(name) else self._changes.account_of(name) for name in names]

    async def load(self, follows: SortedFollows, on_share: OnShare) -> LoadedFollows:
        if not self._engine.has_bulk:
            return self._load_in_groups(follows, on_share)
        while True:
            while await self.run_maintenance():
                pass
            with self._unit():
                if self._changes.relocator.is_done():
                    loaded = BulkLoad(self._engine, follows, on_share).run()
                    self._engine.commit(())
                    self._changes.forget()
                    return loaded

    def _load_in_groups(self, follows: SortedFollows, on_share: OnShare) -> LoadedFollows:
        load = GroupedLoad(self._rows, follows)
        total, done = max(1, int(follows.owners(Direction.FOLLOWING)[1].sum())), 0
        for group in follows.groups(GROUP_SIZE):
            with self._unit():
                load.place(group)
                self._engine.commit(self._rows.take_changes())
                self._changes.forget()
            done += len(group.rows)
            on_share(done / total)
        return load.loaded()

    def close(self) -> None:
        self._engine.close()

    @contextmanager
    def _unit(self, *, is_durable: bool = False) -> Iterator[None]:
        """Run one unit of work. After a failure, nothing of it stays cached."""
        try:
            with self._engine.exclusive(is_durable=is_durable) as is_changed:
                if is_changed:
                    self._rows.forget()
                    self._changes.forget()
                yield
        except BaseException:
            self._rows.forget()  # the engine tells the next unit to forget the rest
            raise

    def _commit(self) -> None:
        self._changes.flush()
        self._engine.commit(self._rows.take_changes())
        self._changes.committed()

    def _in_groups(
        self,
        items: Sequence[_Item],
        store: Callable[[Sequence[_Item]], Sequence[_Result]],
        size: GroupSize,
        *,
        is_durable: bool = False,
    ) -> list[_Result]:
        results: list[_Result] = []
        while len(results) < len(items):
            done = len(results)
            with self._unit(is_durable=is_durable):
                limit, begun = self._engine.group_seconds(), self._clock.elapsed()
                results += store(items[done : done + size.within(limit)])
                self._commit()
            size.measure(len(results) - done, limit, self._clock.elapsed() - begun)
        return results

    def _is_time_left(self) -> Callable[[], bool]:
        deadline = self._clock.elapsed() + UNIT_SECONDS
        return lambda: self._clock.elapsed() < deadline
