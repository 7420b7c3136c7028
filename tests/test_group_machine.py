"""Random stories of whole groups, for a store, its slow twin and the model.

A group mixes records of all kinds, thousands of them in a thorough run. The store gets groups, the twin the same
records one by one. After each step both must have the same verdicts as the model, and show the same but for positions,
which depend on the order in which follows were placed.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from retinue.model import (
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    FollowRecord,
    PageRequest,
    Visibility,
)
from retinue.store.check import lists
from retinue.store.contract import GraphReader
from retinue.store.layout import slots
from retinue.store.load import groups, loader
from support.backends import FolderBackend
from support.dict_engine import DictBackend
from support.frozen_clock import FrozenClock, TickingClock
from support.model_store import ModelGraph
from support.thorough import examples, is_thorough

T = TypeVar("T")
NEVER = 1 << 40
LIMIT = 100
FEW, MANY = 400, 4_000  # records of the largest group
SPELLINGS = ("New", "new", "@new", "u", "U", "@U", "ñew", "Ñew", "x" * 58, "3 ")
SHARES = st.sampled_from([0.15, 1, 0.005])  # of the largest group
SEEDS = st.integers(0, 1 << 32)  # of whole groups: Hypothesis draws too few values to fill one


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a store's method."""
    return asyncio.run(coroutine)


class Mixture:
    """The names and times from which the records of a group are drawn."""

    def __init__(self, seed: int, accounts: int, now: int, seconds: int) -> None:
        self.random = Random(seed)
        self.accounts, self.now, self.seconds = accounts, now, seconds
        self.share_of_hub = self.random.choice([0, 0.3, 0.9])
        self.hub_follows = self.random.random() < 0.5
        self.share_of_new = self.random.choice([0, 0.02, 0.5])
        self.share_of_unfollows = self.random.choice([0, 0.02, 0.3])

    def key(self) -> str:
        """A known key."""
        return f"k{self.random.randrange(self.accounts)}"

    def name(self) -> str:
        """A known key, sometimes a known name, or one of many spellings of new ones."""
        random = self.random
        if random.random() < self.share_of_new:
            spelling = random.choice(SPELLINGS) if random.random() < 0.3 else "plain"
            return f"{spelling}{random.randrange(self.accounts)}"
        return self.key() if random.random() < 0.98 else f"u{random.randrange(self.accounts)}"

    def pair(self) -> tuple[str, str]:
        """Return a follower and a followee. In many pairs one of them is a hub."""
        one, other = self.name(), self.name()
        if self.random.random() < self.share_of_hub:
            one = "k0"
        return (one, other) if self.hub_follows else (other, one)

    def second(self) -> int:
        """A second, mostly in the past."""
        ahead = self.random.choice([0, 0, 0, 3])
        return max(1, self.now + ahead - self.random.randrange(self.seconds))

    def event(self) -> Event:
        """Mostly a follow; sometimes an unfollow or a change of an account."""
        at = self.second()
        if self.random.random() < 0.98:
            return FollowEvent(*self.pair(), at, self.random.random() >= self.share_of_unfollows)
        return AccountEvent(self.account(self.key()), at)

    def row(self) -> FollowRecord:
        """A row of a follows file: with or without a time, an end and positions."""
        random = self.random
        at = None if random.random() < 0.3 else self.second()
        end = min(self.now, at + random.randrange(9)) if at and random.random() < 0.1 else None
        places = [self.second() if random.random() < 0.1 else random.choice([None, at]) for _ in Direction]
        ended_at = end if end and at and at < end else None
        return FollowRecord(*self.pair(), at, self.now, ended_at, *places)

    def account(self, key: str | None) -> AccountRecord:
        """A change of an account: a rename, maybe to another account's name, a visibility, a profile."""
        random = self.random
        spelled = f"{random.choice('uuUkñÑ')}{random.randrange(self.accounts)}"
        return AccountRecord(
            None if key and random.random() < 0.4 else spelled,
            key,
            random.choice([None, "Ann", "Ben"]),
            random.choice([None, None, *Visibility]),
            bio_description=random.choice([None, "", "x"]),
            likes_count=random.choice([None, 0, 3]),
        )

    def account_row(self) -> AccountRecord:
        """A row of an accounts file."""
        if self.random.random() < self.share_of_new:
            number = self.random.randrange(self.accounts, 20 * self.accounts)
            return AccountRecord(f"U{number}", f"k{number}", "Cy", likes_count=1)
        return self.account(self.random.choice([None, self.key()]))


class Setting(NamedTuple):
    """When follows begin: a list of more of them than seconds is crowded."""

    begin: int
    seconds: int


SETTINGS = {
    "spread": Setting(1_600_000_000, 20_000),
    "crowded": Setting(1_600_000_000, 4),
    "without earlier slots": Setting(5, 20),
    "at the earliest second of groups": Setting(loader.EARLIEST - 2, 4),
}


class GroupStory(RuleBasedStateMachine):
    """A store with two writers, its twin, and the model."""

    def __init__(self, make: Callable[[], Any], setting: Setting, patch: pytest.MonkeyPatch) -> None:
        super().__init__()
        self.patch = patch
        self.now, self.seconds = setting.begin + setting.seconds, setting.seconds
        self.backends = [make(), make()]
        self.clock = TickingClock(0.01)
        self.quick = [self.backends[0].open_writer(self.clock) for _ in range(2)]
        self.slow = self.backends[1].open_writer(FrozenClock())
        self.model = ModelGraph()
        self.turn = 0

    @initialize(
        accounts=st.sampled_from([60, 8, 300]),
        smallest=st.sampled_from([1, 32]),
        longer=st.sampled_from([(1, 10), (50, 10_000)]),
        shortest_run=st.sampled_from([3, slots.MIN_RUN]),
    )
    def begin(self, accounts: int, smallest: int, longer: tuple[int, int], shortest_run: int) -> None:
        """Choose how many accounts there are, and what makes a group, a hub and a run."""
        self.accounts, self.smallest = accounts, smallest
        for module in (slots, loader, lists):
            self.patch.setattr(module, "MIN_RUN", shortest_run)
        for name, number in zip(("MUCH_LONGER", "ALWAYS_REWRITTEN"), longer, strict=True):
            self.patch.setattr(loader, name, number)
        known = [AccountRecord(f"u{number}", f"k{number}") for number in range(accounts)]
        self.tell("add_accounts", known, 1)

    def size(self, share: float) -> int:
        """Return the size of a group."""
        return max(1, round(share * (MANY if is_thorough() else FEW)))

    @rule(seed=SEEDS, share=SHARES, is_repeated=st.booleans())
    def events(self, seed: int, share: float, is_repeated: bool) -> None:
        """Events of follows and accounts, some of them again, in another order."""
        mixture = self.mixture(seed)
        events = [mixture.event() for _ in range(self.size(share))]
        if mixture.random.random() < 0.2 and 4 * len(self.model.erased_keys) < self.accounts:
            events.insert(mixture.random.randrange(len(events)), ErasureEvent(mixture.key(), self.now))
        self.tell("apply", events, self.now)
        if is_repeated:
            self.now += 1
            mixture.random.shuffle(events)
            self.tell("apply", events, self.now)

    @rule(seed=SEEDS, share=SHARES, seen=st.none() | st.none() | st.integers(-1, 9))
    def rows(self, seed: int, share: float, seen: int | None) -> None:
        """Rows of a follows file, maybe of lists as they were seen."""
        mixture = self.mixture(seed)
        seen_at = None if seen is None else max(1, self.now - seen)
        self.tell("add_follows", [mixture.row() for _ in range(self.size(share))], seen_at)

    @rule(seed=SEEDS, share=SHARES)
    def account_rows(self, seed: int, share: float) -> None:
        """Rows of an accounts file."""
        mixture = self.mixture(seed)
        self.tell("add_accounts", [mixture.account_row() for _ in range(self.size(share))], self.now)

    @rule(seed=SEEDS, age=st.integers(0, 5))
    def missing(self, seed: int, age: int) -> None:
        """A whole list was seen, in which many are missing."""
        mixture = self.mixture(seed)
        spared = [mixture.name() for _ in range(self.accounts)]
        self.tell("end_missing", mixture.name(), spared, max(1, self.now - age))

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        """Time passes."""
        self.now += seconds

    @rule()
    def maintain(self) -> None:
        """Some background work; all of it where it frees slots, which the model does at once."""
        while run(self.quick[self.turn % 2].run_maintenance()) and self.model.has_ghosts():
            pass
        while run(self.slow.run_maintenance()):
            pass
        run(self.model.run_maintenance())

    @rule()
    def reopen(self) -> None:
        """Another writer, which has cached nothing."""
        self.quick[0].close()
        self.quick[0] = self.backends[0].open_writer(self.clock)

    @invariant()
    def all_show_the_same(self) -> None:
        """Some accounts, with their lists of today and of an earlier second."""
        self.turn += 1
        folded = sorted({*self.model.claims, "nobody"})
        run(self.compare(Random(self.turn).sample(folded, min(len(folded), 8))))

    def teardown(self) -> None:
        """Compare everything, also after all background work, and check the stores."""
        run(self.compare(sorted(self.model.claims)))
        self.maintain()
        while run(self.quick[0].run_maintenance()):
            pass
        run(self.compare(sorted(self.model.claims)))
        for writer in (*self.quick, self.slow):
            writer.close()
        problems = [backend.problems() for backend in self.backends]
        for backend in self.backends:
            backend.close()
        assert problems == [[], []]

    def mixture(self, seed: int) -> Mixture:
        """Return what a group is drawn from."""
        return Mixture(seed, self.accounts, self.now, self.seconds)

    def tell(self, method: str, *arguments: Any) -> None:
        """Tell all three; their verdicts must agree."""
        expected = run(getattr(self.model, method)(*arguments))
        self.patch.setattr(groups, "MIN_GROUP", NEVER)
        assert expected == run(getattr(self.slow, method)(*arguments))
        self.patch.setattr(groups, "MIN_GROUP", self.smallest)
        assert expected == run(getattr(self.quick[self.turn % 2], method)(*arguments))

    async def compare(self, folded: Sequence[str]) -> None:
        """Ask all three about accounts."""
        as_of = max(1, self.now - self.turn % self.seconds)
        graphs = [backend.open_graph(FrozenClock()) for backend in self.backends]
        for name in folded:
            expected = await shown(self.model, name, as_of)
            for graph in graphs:
                assert expected == await shown(graph, name, as_of)
        for graph in graphs:
            graph.close()


async def shown(graph: GraphReader[Any], folded: str, as_of: int) -> Any:
    """All that a store shows of an account, but for positions."""
    account = await graph.find_account(folded)
    if account is None:
        return None
    both = [
        await rows_of(graph, PageRequest(account.id, direction, 0xFFFFFFFF, LIMIT, second))
        for direction in Direction
        for second in (None, as_of)
    ]
    return account.visibility, await graph.profile(account.id), both


async def rows_of(graph: GraphReader[Any], request: PageRequest) -> Counter[Any]:
    """All rows of a list."""
    rows: Counter[Any] = Counter()
    has_more, bound = True, request.bound
    while has_more:
        page = await graph.read(PageRequest(request.account_id, request.direction, bound, LIMIT, request.as_of))
        rows.update((row.username, row.display_name) for row in page.rows)
        has_more, bound = page.has_more, page.oldest - 1
    return rows


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize(("make", "count"), [(DictBackend, 10), (FolderBackend, 2)])
def test_groups_agree_with_single_records_and_the_model(
    make: Callable[[], Any], count: int, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every sequence of groups gives the lists of the model."""
    run_state_machine_as_test(
        lambda: GroupStory(make, SETTINGS[setting], monkeypatch),  # type: ignore[arg-type]  # makes a machine
        settings=settings(max_examples=examples(count), stateful_step_count=12),
    )
