"""Collecting many lists at once: asks, writes down, asks again, until everything is there or the day's calls are spent.

Knows no output format and no screen.
"""

import asyncio
import math
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Literal, Protocol, TypeVar

from msgspec import Struct

from retinue.client import AccountUnavailable, AsyncClient, BrokenList, ClientError, GaveUp, QuotaSpent, Refused
from retinue.client.clients import Outside
from retinue.client.counts import is_likely_cap
from retinue.client.responses import Page
from retinue.collect.journal import InfoRead, Journal, PageRead, Record, Unavailable
from retinue.collect.progress import DAY_SECONDS, Place, Pool, Progress, Standing

_AFTER_MIDNIGHT_SECONDS = 5
_MAX_FAILED_COUNTS = 3  # in a row: then user info is not asked for counts any more
_ABOUT_THE_NAME = ("invalid_params", "invalid_param")  # of one account; all else is refused to the client itself

_T = TypeVar("_T")


class Plan(Struct, frozen=True):
    """What to collect, in this order, and how many calls of each pool may be answered a day.

    `concurrency` is how many lists are read at a time.
    """

    wanted: Sequence[Place]
    calls_per_day: Mapping[Pool, int]
    concurrency: int = 16
    quota: Literal["stop", "wait"] = "stop"


class Outcome(Struct):
    """How it ended: `failed` has why a place could not be read to its end, `resets_at` when to go on with a pool.

    `stopped` has why everything ended early: the service was not there any more, or refused the client itself.
    """

    failed: dict[Place, str]
    resets_at: dict[Pool, int]
    stopped: str = ""


class Watching(Protocol):
    """Somebody who wants to know how it goes."""

    def changed(self) -> None:
        """An answer was written down."""
        ...

    def waits(self, seconds: float, reason: str) -> None:
        """One of the lists waits for so long."""
        ...


class Unwatched:
    """Nobody does."""

    def changed(self) -> None:
        """Nothing."""

    def waits(self, _seconds: float, _reason: str) -> None:
        """Nothing."""


class Collector:
    """Collects into a journal."""

    def __init__(
        self,
        client: AsyncClient,
        journal: Journal,
        progress: Progress,
        outside: Outside,
        watching: Watching = Unwatched(),  # noqa: B008 - it has no state
    ) -> None:
        self._client = client
        self._journal = journal
        self._progress = progress
        self._outside = outside
        self._watching = watching
        self._asking = Counter[Pool]()
        self._counting: set[str] = set()  # accounts whose counts were asked for in this run
        self._failed_counts = 0  # in a row
        self._counts_from: float = 0  # the second before which counts cannot be had
        self._settled = defaultdict[Pool, asyncio.Event](asyncio.Event)  # when the next call comes to its end

    async def run(self, plan: Plan) -> Outcome:
        """Collect what is not there yet.

        Raises `Refused` and `GaveUp` where there is no token from the start.
        """
        outcome = Outcome({}, {})
        # With its user info an account's counts come anyway.
        self._counting = {place.name for place in plan.wanted if place.list == "info"}
        waiting = self._progress.waiting(plan.wanted)
        if waiting:  # a count that is missing is no reason to fail
            await self._client.log_in()
        try:
            await self._work_on(plan, iter([*self._progress.uncounted(plan.wanted), *waiting]), outcome)
        except (GaveUp, Refused) as error:
            outcome.stopped = str(error)
        return outcome

    async def _work_on(self, plan: Plan, waiting: Iterator[Place], outcome: Outcome) -> None:
        """Several places at a time."""
        tasks = [asyncio.create_task(self._work(plan, waiting, outcome)) for _ in range(plan.concurrency)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(self, plan: Plan, waiting: Iterator[Place], outcome: Outcome) -> None:
        for place in waiting:
            if place.pool in outcome.resets_at:
                continue
            try:
                await self._collect(plan, place)
            except AccountUnavailable as error:
                now = self._outside.clock.now()
                self._write(Unavailable(*place, now, error.reason, error.message, error.log_id))
            except (QuotaSpent, _CallsSpent) as spent:
                outcome.resets_at[place.pool] = spent.resets_at
            except Refused as error:
                if error.code not in _ABOUT_THE_NAME:
                    raise
                outcome.failed[place] = str(error)
            except BrokenList as error:
                outcome.failed[place] = str(error)
            except GaveUp as error:
                outcome.failed[place] = str(error)
                await self._client.log_in(anew=True)  # or is it not about this place?

    async def _collect(self, plan: Plan, place: Place) -> None:
        if place.list == "info":
            found = await self._within_calls(plan, place.pool, lambda: self._client.raw_user_info(place.name))
            body = found.body.decode()
            self._write(InfoRead(place.name, found.answered_at, found.log_id, found.sha256, body))
            return
        standing = self._progress.standings.get(place, Standing())
        rows = await self._read(plan, place, standing) if standing.state == "incomplete" else standing.rows
        if self._may_count(plan, place.name, rows):
            await self._count(plan, place.name)

    async def _read(self, plan: Plan, place: Place, standing: Standing) -> int:
        """Read a list to its end. Returns its number of rows."""
        ask = self._client.following if place.list == "following" else self._client.followers
        listing = ask(place.name, cursor=standing.cursor, newest=standing.newest)
        before = standing.rows
        while not listing.is_over:
            page = await self._within_calls(plan, place.pool, listing.next_page)
            assert page is not None, place
            read = PageRead(*place, before, page.bound, page.answered_at, page.log_id, page.sha256, page.body.decode())
            before += len(page.rows)
            listing.collected.clear()  # it is all written down
            self._write(read, page)
        return before

    def _may_count(self, plan: Plan, name: str, rows: int) -> bool:
        """Return whether to spend a call for user info on the counts of an account, one of whose lists has ended.

        A quarter of the day's calls is kept for lists that end where services are known to cut them.
        """
        calls = plan.calls_per_day["info"]
        remaining = calls - self._calls_today("info") - self._asking["info"]
        is_affordable = remaining > (0 if is_likely_cap(rows) else calls // 4)
        is_known = name in self._counting or name in self._progress.counts
        return self._outside.clock.now() >= self._counts_from and is_affordable and not is_known

    async def _count(self, plan: Plan, name: str) -> None:
        """Ask for the counts of an account's lists. If they cannot be had, they stay unknown and no list waits."""
        self._counting.add(name)
        try:
            found = await self._within_calls(plan, "info", lambda: self._client.raw_counts(name))
        except AccountUnavailable:
            self._failed_counts = 0
            return
        except ClientError as error:
            self._note_failed_count(error)
            return
        self._failed_counts = 0
        body = found.body.decode()
        self._write(InfoRead(name, found.answered_at, found.log_id, found.sha256, body, only_counts=True))

    def _note_failed_count(self, error: ClientError) -> None:
        """Stop asking for counts until a spent quota resets, after a refusal, or after several failures in a row."""
        self._failed_counts += 1
        is_refused = isinstance(error, Refused) and error.code not in _ABOUT_THE_NAME
        if isinstance(error, QuotaSpent):
            self._counts_from = error.resets_at
        elif is_refused or self._failed_counts >= _MAX_FAILED_COUNTS:
            self._counts_from = math.inf

    def _write(self, record: Record, page: Page | None = None) -> None:
        self._journal.add(record)
        self._progress.take(record, page)
        self._watching.changed()

    async def _within_calls(self, plan: Plan, pool: Pool, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask, if one more answer is allowed today."""
        while self._calls_today(pool) + self._asking[pool] >= plan.calls_per_day[pool]:
            if self._calls_today(pool) >= plan.calls_per_day[pool]:
                await self._next_day(plan)
            else:  # of the calls that are on their way some may come back without an answer that counts
                await self._settled[pool].wait()
        self._asking[pool] += 1
        try:
            return await ask()
        finally:
            self._asking[pool] -= 1
            if settled := self._settled.pop(pool, None):
                settled.set()

    async def _next_day(self, plan: Plan) -> None:
        """Wait for it, if that is wanted."""
        now = self._outside.clock.now()
        resets_at = now - now % DAY_SECONDS + DAY_SECONDS
        if plan.quota == "stop":
            raise _CallsSpent(resets_at)
        seconds = resets_at - now + _AFTER_MIDNIGHT_SECONDS
        self._watching.waits(seconds, "the day's calls are spent")
        await self._outside.sleep(seconds)

    def _calls_today(self, pool: Pool) -> int:
        return self._progress.calls_on(self._outside.clock.now() // DAY_SECONDS, pool)


class _CallsSpent(Exception):
    """As many calls were answered today as were allowed."""

    def __init__(self, resets_at: int) -> None:
        super().__init__(resets_at)
        self.resets_at = resets_at
