"""Random stories, step by step, for a store and the model.

After each step both must show the same.

Few accounts, few names and a clock that begins at second 5, so that everything collides and lists are full at times.
"""

import asyncio
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    FollowRecord,
    PageRequest,
    Row,
)
from retinue.store.contract import GraphReader, GraphWriter
from support.backends import BackendFactory
from support.frozen_clock import FrozenClock
from support.model_store import ModelGraph
from support.stories import ACCOUNTS, ALL_NAMES, FIELDS, FOLLOWS, KEYS, NAMES, USERNAMES, Told, below, pages

T = TypeVar("T")
BEGIN = 5


# How far from now; some of it in the future.
AGES = st.integers(-2, 12)
SOME_NAMES = st.sampled_from((*KEYS, *NAMES, "@BOB"))


EVENTS = st.lists(st.builds(Told, FOLLOWS | ACCOUNTS, AGES), min_size=1, max_size=8)
RECORDS = st.builds(AccountRecord, key=st.none() | st.sampled_from(KEYS), username=USERNAMES, **FIELDS).filter(
    lambda record: record.key is not None or record.username is not None
)
SOMETIMES = st.none() | st.none() | AGES
ROWS = st.lists(
    st.tuples(SOME_NAMES, SOME_NAMES, st.none() | AGES, SOMETIMES, st.tuples(SOMETIMES, SOMETIMES)),
    min_size=1,
    max_size=8,
)
DIRECTIONS = st.sampled_from(Direction)


# Without explaining what could vary in a failure, which takes minutes for stories.
PHASES = tuple(phase for phase in settings().phases if phase is not Phase.explain)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a store's method."""
    return asyncio.run(coroutine)


class Walk(NamedTuple):
    """A client on its way down a list: where it goes on, what it saw, and what must come exactly once."""

    request: PageRequest
    seen: list[tuple[int, int]]
    untouched: set[tuple[int, int]]


class Story(RuleBasedStateMachine):
    """Two writers that take turns and a reader, beside the model."""

    def __init__(self, new_backend: BackendFactory) -> None:
        super().__init__()
        self.backend = new_backend()
        self.clock = FrozenClock(BEGIN)
        self.writers = [self.backend.open_writer(self.clock) for _ in range(2)]
        self.graph = self.backend.open_graph(self.clock)
        self.model = ModelGraph()
        self.ids: dict[int, int] = {}
        self.walk: Walk | None = None
        self.turn = 0

    @property
    def now(self) -> int:
        """This second."""
        return self.clock.now()

    @rule(told=EVENTS)
    def events(self, told: list[Told]) -> None:
        """A batch of events."""
        self.both("apply", [one.at(self.now) for one in told], self.now)

    @rule(told=EVENTS, delay=st.integers(1, 5))
    def events_that_come_again(self, told: list[Told], delay: int) -> None:
        """A batch of events that is delivered twice."""
        batch = [one.at(self.now) for one in told]
        self.both("apply", batch, self.now)
        self.clock.advance(delay)
        self.both("apply", batch[::-1], self.now)

    @rule(records=st.lists(RECORDS, min_size=1, max_size=4))
    def accounts(self, records: list[AccountRecord]) -> None:
        """Rows of an accounts file."""
        self.both("add_accounts", records, self.now)

    @rule(rows=ROWS, seen=st.none() | st.integers(0, 6))
    def rows(self, rows: list[Any], seen: int | None) -> None:
        """Rows of a follows file, maybe with ends and positions, or of a list as it was seen."""
        self.both("add_follows", [self.row(*row) for row in rows], self.ago(seen))

    def row(
        self, follower: str, followee: str, age: int | None, end: int | None, places: tuple[int | None, int | None]
    ) -> FollowRecord:
        """Add a row of a follows file, which ends after it begins."""
        at, ended_at = self.ago(age), self.ago(end)
        if at is None or ended_at is None or not at < ended_at <= self.now:
            ended_at = None
        return FollowRecord(follower, followee, at, self.now, ended_at, *map(self.ago, places))

    def ago(self, age: int | None) -> int | None:
        """The second so long ago."""
        return None if age is None else max(1, self.now - age)

    @rule(follower=SOME_NAMES, spared=st.lists(SOME_NAMES, max_size=3), age=st.integers(0, 4))
    def missing(self, follower: str, spared: list[str], age: int) -> None:
        """A whole list was seen."""
        self.both("end_missing", follower, spared, max(1, self.now - age))

    @rule(said=st.lists(SOME_NAMES, min_size=1, max_size=3))
    def keys(self, said: list[str]) -> None:
        """Names in a file mean the same accounts as in the model, and events must not use the same names."""
        self.both("keys_of", said)
        self.both("not_keys", said)

    @precondition(lambda self: len(self.model.erased_keys) < 2)
    @rule(key=st.sampled_from(KEYS), is_late=st.booleans())
    def erase(self, key: str, is_late: bool) -> None:
        """Erase an account."""
        self.both("apply", [ErasureEvent(key, self.now - is_late)], self.now)

    @rule()
    def run_maintenance(self) -> None:
        """Some background work; all of it where it gives back seconds, which the model does at once."""
        is_more = run(self.writer.run_maintenance())
        while is_more and self.model.has_ghosts():
            is_more = run(self.writer.run_maintenance())
        self.forget_the_erased()

    @precondition(lambda self: self.turn % 8 == 0)
    @rule()
    def compact(self) -> None:
        """Do all background work and rewrite the file."""
        run(self.writer.compact())
        self.forget_the_erased()

    @rule(number=st.integers(0, 1))
    def reopen_writer(self, number: int) -> None:
        """A writer is closed, another comes."""
        self.writers[number].close()
        self.writers[number] = self.backend.open_writer(self.clock)

    @rule()
    def reopen_reader(self) -> None:
        """The reader is closed, another comes."""
        self.graph.close()
        self.graph = self.backend.open_graph(self.clock)

    @precondition(lambda self: self.walk is None and self.model.people)
    @rule(data=st.data(), direction=DIRECTIONS, limit=st.integers(1, 3), age=st.none() | st.integers(0, 12))
    def begin_walk(self, data: st.DataObject, direction: Direction, limit: int, age: int | None) -> None:
        """A client asks for the first page of a list."""
        owner = data.draw(st.sampled_from(sorted(self.model.people)))
        as_of = None if age is None else max(1, self.now - age)
        request = PageRequest(owner, direction, self.now, limit, as_of)
        self.walk = Walk(request, [], set(self.model.visible(request)))
        self.go_on()

    @precondition(lambda self: self.walk is not None)
    @rule()
    def go_on(self) -> None:
        """The client asks for the next page; at the end everything that did not change came exactly once."""
        assert self.walk is not None
        request, seen, untouched = self.walk
        page = [entry for entry in self.model.visible(request) if entry[0] <= request.bound]
        seen += page[: request.limit]
        self.walk = Walk(below(request, run(self.model.read(request))), seen, untouched)
        if len(page) <= request.limit:
            assert all(seen.count(entry) == 1 for entry in untouched)
            self.walk = None

    @invariant()
    def both_show_the_same(self) -> None:
        """Names, lists in both directions, today's and earlier ones, in pages of every size, and profiles."""
        self.clock.advance(1)
        self.turn += 1
        run(self.compare())
        if self.walk is not None:
            self.walk.untouched.intersection_update(self.model.visible(self.walk.request))

    def teardown(self) -> None:
        """Check that the store is sound after any story."""
        self.graph.close()
        for writer in self.writers:
            writer.close()
        problems = self.backend.problems()
        self.backend.close()
        assert problems == []

    @property
    def writer(self) -> GraphWriter:
        """Return the writer whose turn it is."""
        return self.writers[self.turn % 2]

    def both(self, method: str, *arguments: Any) -> None:
        """Tell both; their verdicts must agree."""
        expected = run(getattr(self.model, method)(*arguments))
        assert expected == run(getattr(self.writer, method)(*arguments))

    def forget_the_erased(self) -> None:
        """When the store is tidy nothing is left of them, not even an id."""
        run(self.model.run_maintenance())
        self.ids = {one: other for one, other in self.ids.items() if one in self.model.people}

    async def compare(self) -> None:
        """Ask both everything."""
        for name in ALL_NAMES:
            expected, found = await self.model.find_account(name), await self.graph.find_account(name)
            assert (expected and expected.visibility, name) == (found and found.visibility, name)
            if expected and found:
                assert self.ids.setdefault(expected.id, found.id) == found.id
        for account, stored in self.ids.items():
            assert await self.model.profile(account) == await self.graph.profile(stored)
            if account in self.model.people:
                for direction in Direction:
                    await self.compare_list(account, stored, direction)

    async def compare_list(self, account: int, stored: int, direction: Direction) -> None:
        """The list of today, and those of some seconds before."""
        limit = self.turn % 3 + 1
        for as_of in (None, 1 + self.turn % self.now, self.now - self.turn % 7):
            expected = await pages(self.model, PageRequest(account, direction, self.now, limit, as_of))
            assert expected == await pages(self.graph, PageRequest(stored, direction, self.now, limit, as_of))


def test_every_store_agrees_with_the_model(new_backend: BackendFactory) -> None:
    """In thousands of steps, whatever happens in whatever order."""
    run_state_machine_as_test(
        lambda: Story(new_backend),  # type: ignore[arg-type]  # whatever makes a machine will do
        settings=settings(max_examples=new_backend.times(60), stateful_step_count=60, phases=PHASES),
    )


# The same events in another order

NOW = 1000


def sets_of(keys: Sequence[str], usernames: Sequence[str]) -> st.SearchStrategy[list[Event]]:
    """Return sets of events of accounts with some keys, which claim some usernames."""
    key = st.sampled_from(keys)
    records = st.builds(AccountRecord, key=key, username=st.none() | st.sampled_from(usernames), **FIELDS)
    follows = st.builds(FollowEvent, key, key, st.just(0), st.booleans())
    accounts = st.builds(AccountEvent, records, st.just(0))
    events = follows | follows | accounts | st.builds(ErasureEvent, key, st.just(0))
    told = st.builds(Told, events, st.integers(0, 9))
    return st.lists(told.map(lambda one: one.at(NOW)), min_size=1, max_size=30)


# Accounts that an import has made known, so that their keys may be others' usernames; and events alone, of keys that
# no other account has as username.
IMPORTED = [AccountRecord(f"user{number}", key) for number, key in enumerate(KEYS)]
BIRTHS: list[Event] = [AccountEvent(AccountRecord(key=key), 1) for key in KEYS[:4]]
SOURCES = {
    "imported": (IMPORTED, [], sets_of(KEYS, NAMES)),
    "events alone": ([], BIRTHS, sets_of(KEYS[:4], ("bob", "cy", "Ærø", "ærø", "x" * 65))),
}
SHOWN_NAMES = sorted({*ALL_NAMES, *(record.username or "" for record in IMPORTED)})


@contextmanager
def told_to_a_store(
    new_backend: BackendFactory,
    imported: Sequence[AccountRecord],
    batches: Sequence[Sequence[Event]],
    *,
    is_tidied: bool,
) -> Iterator[GraphReader[Row]]:
    """A store that was told events in batches."""
    clock, backend = FrozenClock(), new_backend()
    writer = backend.open_writer(clock)
    run(writer.add_accounts(imported, 1))
    for batch in batches:
        run(writer.apply(batch, NOW))
        while is_tidied and run(writer.run_maintenance()):
            pass
    graph = backend.open_graph(clock)
    yield graph
    graph.close()
    writer.close()
    assert backend.problems() == []
    backend.close()


async def all_of(graph: GraphReader[Row]) -> dict[str, Any]:
    """All that a store shows, but for positions and what hangs on them."""
    found: dict[str, Any] = {}
    for name in SHOWN_NAMES:
        account = await graph.find_account(name)
        if account is not None:
            lists = [
                sorted(map(repr, (await graph.read(PageRequest(account.id, direction, NOW, 100, as_of))).rows))
                for direction in Direction
                for as_of in (None, *range(NOW - 11, NOW + 1))
            ]
            found[name] = account.visibility, await graph.profile(account.id), lists
    return found


@pytest.mark.parametrize("source", SOURCES)
def test_order_repetition_and_batches_do_not_change_lists(new_backend: BackendFactory, source: str) -> None:
    """Rows, true times, usernames, profiles and counts depend on the set of the events alone."""
    imported, births, sets = SOURCES[source]

    @settings(max_examples=new_backend.times(100))
    @given(data=st.data(), told=sets)
    def holds(data: st.DataObject, told: list[Event]) -> None:
        events = [*births, *told]
        model = ModelGraph()
        run(model.add_accounts(imported, 1))
        run(model.apply(events, NOW))
        expected = run(all_of(model))
        for is_tidied in (False, True):
            again = data.draw(st.lists(st.sampled_from(events), max_size=10))
            shuffled = data.draw(st.permutations([*events, *again]))
            size = data.draw(st.integers(1, 10))
            batches = [shuffled[first : first + size] for first in range(0, len(shuffled), size)]
            with told_to_a_store(new_backend, imported, batches, is_tidied=is_tidied) as graph:
                assert expected == run(all_of(graph))

    holds()
