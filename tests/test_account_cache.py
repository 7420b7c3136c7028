"""The accounts that a reader caches while other tasks of its process refresh the same cache."""

import asyncio
from collections.abc import Sequence

from retinue.model import AccountEvent, AccountRecord, Row
from retinue.store.layout.tables import ACCOUNT, Key, NumberRows, Table
from retinue.store.reading.account_cache import AccountCache
from support.dict_engine import DictBackend, DictEngine
from support.frozen_clock import FrozenClock


class SlowSource:
    """An `AsyncSource` that holds back what it has read of accounts until it is told to go on."""

    def __init__(self, engine: DictEngine) -> None:
        self._engine = engine
        self.may_go_on = asyncio.Event()

    async def get(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the values of keys."""
        values = self._engine.get(table, keys)
        if table is ACCOUNT:
            await self.may_go_on.wait()
        return values

    async def scan(self, table: Table, low: int, high: int, *, reverse: bool = False, limit: int = -1) -> NumberRows:
        """Return the rows from one key to another."""
        return self._engine.scan(table, low, high, reverse=reverse, limit=limit)


async def renamed(backend: DictBackend, display_name: str, at: int) -> None:
    """Give the only account another display name."""
    writer = backend.open_writer(FrozenClock())
    await writer.apply([AccountEvent(AccountRecord(key="k", display_name=display_name), at)], at)


def test_a_row_that_was_read_before_a_change_is_not_cached_after_it() -> None:
    """Nor is a name's account: the refresh of another task, which noticed the change, has come between."""

    async def hold() -> None:
        backend, clock = DictBackend(), FrozenClock()
        await renamed(backend, "before", 1)
        source = SlowSource(backend.open_engine())
        cache = AccountCache(source, clock, Row)
        await cache.refresh()
        reading = asyncio.create_task(cache.rows([1]))
        finding = asyncio.create_task(cache.account("k"))
        await asyncio.sleep(0)
        await renamed(backend, "after", 2)
        clock.advance(1)
        await cache.refresh()
        source.may_go_on.set()
        assert await reading == [Row("before", "k")]
        assert await finding is not None
        assert await cache.rows([1]) == [Row("after", "k")]

    asyncio.run(hold())


def test_rows_of_a_refreshed_cache_are_whole() -> None:
    """A task has its rows though another one's refresh forgets them meanwhile."""

    async def hold() -> None:
        backend, clock = DictBackend(), FrozenClock()
        await renamed(backend, "before", 1)
        source = SlowSource(backend.open_engine())
        source.may_go_on.set()
        cache = AccountCache(source, clock, Row)
        await cache.refresh()
        await cache.rows([1])
        await backend.open_writer(clock).apply([AccountEvent(AccountRecord(key="other"), 1)], 1)
        source.may_go_on.clear()
        reading = asyncio.create_task(cache.rows([1, 2]))
        await asyncio.sleep(0)
        await renamed(backend, "after", 2)
        clock.advance(1)
        await cache.refresh()
        source.may_go_on.set()
        assert await reading == [Row("before", "k"), Row("", "other")]

    asyncio.run(hold())
