"""Collect many lists concurrently into a journal."""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Literal, TypeVar

from msgspec import Struct

from retinue.client import AccountUnavailable, AsyncClient, BrokenList, ClientError, DailyQuotaExceeded, GaveUp, Refused
from retinue.client.clients import Runtime
from retinue.client.paginator import is_likely_cap
from retinue.client.responses import ListPage, RawUserInfo
from retinue.client.transport import OnWait
from retinue.collect.journal import InfoRecord, Journal, JournalRecord, PageRecord, UnavailableRecord
from retinue.collect.progress import DAY_SECONDS, Item, ListProgress, Pool, Progress

_AFTER_MIDNIGHT_SECONDS = 5
_MAX_FAILED_COUNTS = 3  # in a row, after which no counts are requested
_USERNAME_ERRORS = ("invalid_params", "invalid_param")  # all other errors concern the client itself

_T = TypeVar("_T")


class CollectPlan(Struct, frozen=True):
    """The items to collect, in order, and the limits: answered calls a day and concurrent lists.

    `quota`: whether to stop when the day's calls are spent, or to wait.
    """

    items: Sequence[Item]
    calls_per_day: Mapping[Pool, int]
    concurrency: int = 16
    quota: Literal["raise", "wait"] = "raise"


class CollectResult(Struct):
    """Reasons of failures and of an early end, and quota resets."""

    failed: dict[Item, str]
    resets_at: dict[Pool, int]
    stopped: str = ""


class Collector:
    """Collects items into a journal. `on_progress` is called after each recorded response."""

    def __init__(
        self,
        client: AsyncClient,
        journal: Journal,
        progress: Progress,
        runtime: Runtime,
        on_progress: Callable[[], None] = lambda: None,
        on_wait: OnWait = lambda *_: None,
    ) -> None:
        self._client = client
        self._journal = journal
        self._progress = progress
        self._runtime = runtime
        self._on_progress = on_progress
        self._on_wait = on_wait
        self._in_flight = Counter[Pool]()
        self._counting: set[str] = set()  # accounts whose counts this run requested
        self._failed_counts = 0  # in a row
        self._counts_from: float = 0  # the second before which counts are not available
        self._settled = defaultdict[Pool, asyncio.Event](asyncio.Event)  # set when the next call ends

    async def run(self, plan: CollectPlan) -> CollectResult:
        """Collect the incomplete items. Raises `Refused` and `GaveUp` if the first token cannot be fetched."""
        result = CollectResult({}, {})
        # User info includes the counts.
        self._counting = {item.name for item in plan.items if item.list == "info"}
        incomplete = self._progress.incomplete(plan.items)
        if incomplete:  # a missing count is no reason to fail
            await self._client.log_in()
        try:
            await self._run_workers(plan, iter([*self._progress.uncounted(plan.items), *incomplete]), result)
        except (GaveUp, Refused) as error:
            result.stopped = str(error)
        return result

    async def _run_workers(self, plan: CollectPlan, queue: Iterator[Item], result: CollectResult) -> None:
        tasks = [asyncio.create_task(self._work(plan, queue, result)) for _ in range(plan.concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, plan: CollectPlan, queue: Iterator[Item], result: CollectResult) -> None:
        for item in queue:
            if item.pool in result.resets_at:
                continue
            try:
                await self._collect(plan, item)
            except AccountUnavailable as error:
                now = self._runtime.clock.now()
                self._write(UnavailableRecord(*item, now, error.reason, error.message, error.log_id))
            except (DailyQuotaExceeded, _CallsSpent) as spent:
                result.resets_at[item.pool] = spent.resets_at
            except Refused as error:
                if error.code not in _USERNAME_ERRORS:
                    raise
                result.failed[item] = str(error)
            except BrokenList as error:
                result.failed[item] = str(error)
            except GaveUp as error:
                result.failed[item] = str(error)
                await self._client.log_in(renew=True)  # raises if the whole service is unreachable

    async def _collect(self, plan: CollectPlan, item: Item) -> None:
        if item.list == "info":
            info = await self._within_calls(plan, item.pool, lambda: self._client.raw_user_info(item.name))
            self._write_info(item.name, info)
            return
        progress = self._progress.of(item)
        rows = await self._read(plan, item, progress) if progress.state == "incomplete" else progress.rows
        if self._may_count(plan, item.name, rows):
            await self._count(plan, item.name)

    async def _read(self, plan: CollectPlan, item: Item, progress: ListProgress) -> int:
        """Read a list to its end; return its number of rows."""
        open_list = self._client.following if item.list == "following" else self._client.followers
        listing = open_list(item.name, cursor=progress.cursor, newest=progress.newest)
        before = progress.rows
        while not listing.is_over:
            page = await self._within_calls(plan, item.pool, listing.next_page)
            assert page is not None, item
            read = PageRecord(*item, before, page.bound, page.answered_at, page.log_id, page.sha256, page.body.decode())
            before += len(page.rows)
            listing.collected.clear()  # the journal has them
            self._write(read, page)
        return before

    def _may_count(self, plan: CollectPlan, name: str, rows: int) -> bool:
        # A quarter of the day's calls is reserved for lists that end at a likely cap.
        calls = plan.calls_per_day["info"]
        remaining = calls - self._calls_today("info") - self._in_flight["info"]
        is_affordable = remaining > (0 if is_likely_cap(rows) else calls // 4)
        is_known = name in self._counting or name in self._progress.counts
        return self._runtime.clock.now() >= self._counts_from and is_affordable and not is_known

    async def _count(self, plan: CollectPlan, name: str) -> None:
        self._counting.add(name)
        try:
            info = await self._within_calls(plan, "info", lambda: self._client.raw_user_info(name, only_counts=True))
        except AccountUnavailable:
            self._failed_counts = 0
            return
        except ClientError as error:
            self._note_failed_count(error)
            return
        self._failed_counts = 0
        self._write_info(name, info, only_counts=True)

    def _note_failed_count(self, error: ClientError) -> None:
        """Pause or stop requesting counts after a failure."""
        self._failed_counts += 1
        is_refused = isinstance(error, Refused) and error.code not in _USERNAME_ERRORS
        if isinstance(error, DailyQuotaExceeded):
            self._counts_from = error.resets_at
        elif is_refused or self._failed_counts >= _MAX_FAILED_COUNTS:
            self._counts_from = math.inf

    def _write_info(self, name: str, info: RawUserInfo, *, only_counts: bool = False) -> None:
        body = info.body.decode()
        self._write(InfoRecord(name, info.answered_at, info.log_id, info.sha256, body, only_counts))

    def _write(self, record: JournalRecord, page: ListPage | None = None) -> None:
        self._journal.add(record)
        self._progress.add(record, page)
        self._on_progress()

    async def _within_calls(self, plan: CollectPlan, pool: Pool, call: Callable[[], Awaitable[_T]]) -> _T:
        """Make a call once the day's limit allows it."""
        while self._calls_today(pool) + self._in_flight[pool] >= plan.calls_per_day[pool]:
            if self._calls_today(pool) >= plan.calls_per_day[pool]:
                await self._next_day(plan)
            else:  # a call in flight may end without counting
                await self._settled[pool].wait()
        self._in_flight[pool] += 1
        try:
            return await call()
        finally:
            self._in_flight[pool] -= 1
            if settled := self._settled.pop(pool, None):
                settled.set()

    async def _next_day(self, plan: CollectPlan) -> None:
        now = self._runtime.clock.now()
        resets_at = now - now % DAY_SECONDS + DAY_SECONDS
        if plan.quota == "raise":
            raise _CallsSpent(resets_at)
        seconds = resets_at - now + _AFTER_MIDNIGHT_SECONDS
        self._on_wait(seconds, "the day's calls are spent")
        await self._runtime.sleep(seconds)

    def _calls_today(self, pool: Pool) -> int:
        return self._progress.calls_today(self._runtime.clock.now(), pool)


class _CallsSpent(Exception):
    """The day's limit of calls is reached."""

    def __init__(self, resets_at: int) -> None:
        super().__init__(resets_at)
        self.resets_at = resets_at
