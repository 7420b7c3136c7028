"""Groups of records and events are stored like single ones: the slow twin is the same writer, one by one."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from retinue import names
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
from retinue.store.load import groups, loader
from support.backends import Backend, BackendFactory, FolderBackend
from support.frozen_clock import FrozenClock
from support.thorough import examples

NOW = 1_700_000_000
BEGIN = 1_600_000_000
NEVER = 1 << 40
SPELLINGS = ("New", "new", "@new", "u", "U", "ñew", "Ñew", "x" * 58)
SEEDS = st.integers(0, 1 << 32)  # of whole groups: Hypothesis draws too few values to fill one


def name_of(random: Random, accounts: int) -> str:
    """A known key, or one of many spellings, or a new name."""
    if random.random() < 0.9:
        return f"k{random.randrange(accounts)}" if random.random() < 0.7 else "k0"
    if random.random() < 0.5:
        return f"plain{random.randrange(300)}"
    return f"{random.choice(SPELLINGS)}{random.randrange(30)}"


def event_of(random: Random, accounts: int, seconds: int) -> Event:
    """Mostly a follow; sometimes an unfollow, a change of an account or an erasure."""
    at, kind = BEGIN + random.randrange(seconds), random.random()
    if kind < 0.98:
        return FollowEvent(name_of(random, accounts), name_of(random, accounts), at, random.random() < 0.93)
    if kind < 0.995:
        visibility = random.choice(list(Visibility))
        return AccountEvent(AccountRecord(key=f"k{random.randrange(accounts)}", visibility=visibility), at)
    return ErasureEvent(f"k{random.randrange(accounts)}", at)


def row_of(random: Random, accounts: int, seconds: int) -> FollowRecord:
    """A row of a file: with or without a time, an end and positions, also in the future."""
    at = random.choice([None, BEGIN + random.randrange(seconds), BEGIN + random.randrange(seconds), NOW, NOW + 5])
    end = BEGIN + 2 * seconds if at and at < NOW and random.random() < 0.05 else None
    position = BEGIN + random.randrange(seconds) if random.random() < 0.05 else None
    return FollowRecord(name_of(random, accounts), name_of(random, accounts), at, NOW, end, position)


def account_of(random: Random) -> AccountRecord:
    """A row of an accounts file: few keys and few names, in several spellings."""
    key = None if random.random() < 0.4 else random.choice("kuK") + str(random.randrange(60))
    spelled = random.choice(["u", "U", "k", "ñ", "Ñ", "@u"]) + str(random.randrange(random.choice([10, 60])))
    username = None if key and random.random() < 0.15 else spelled
    return AccountRecord(
        username,
        key,
        random.choice([None, "Ann", "Ben"]),
        random.choice([None, None, *Visibility]),
        bio_description=random.choice([None, "", "x"]),
        likes_count=random.choice([None, 0, 3]),
    )


async def shown(graph: Any, folded: Sequence[str]) -> dict[str, Any]:
    """All that a store shows of accounts, but for positions and what hangs on them."""
    found = {}
    for name in folded:
        account = await graph.find_account(name)
        if account is not None:
            lists = [
                await rows_of(graph, PageRequest(account.id, direction, NOW, 100, as_of))
                for direction in Direction
                for as_of in (None, BEGIN + 100, BEGIN + 900)
            ]
            found[name] = account.visibility, await graph.profile(account.id), lists
    return found


async def rows_of(graph: Any, request: PageRequest) -> list[str]:
    """All rows of a list, by name."""
    rows: list[str] = []
    has_more, bound = True, request.bound
    while has_more:
        page = await graph.read(PageRequest(request.account_id, request.direction, bound, 100, request.as_of))
        rows += [repr(row) for row in page.rows]
        has_more, bound = page.has_more, page.oldest - 1
    return sorted(rows)


EMBEDDED = BackendFactory(FolderBackend)  # two stores at once, which a cluster under test does not have


class Twin:
    """An empty store, to be filled in groups or one by one."""

    def __init__(self, backend: Backend, patch: pytest.MonkeyPatch, smallest: int) -> None:
        self.backend, self.patch, self.smallest = backend, patch, smallest
        self.clock = FrozenClock(NOW)
        self.writer = backend.open_writer(self.clock)

    def do(self, method: str, *arguments: Any) -> Any:
        """Call the writer, with groups from a smallest size on."""
        self.patch.setattr(groups, "MIN_GROUP", self.smallest)
        return asyncio.run(getattr(self.writer, method)(*arguments))

    def content(self, folded: Sequence[str]) -> Any:
        """Return what the store shows and what `check` finds."""
        with closing(self.backend.open_graph(self.clock)) as graph:
            found = asyncio.run(shown(graph, folded))
        return found, self.backend.problems()


def folded_names(accounts: int) -> list[str]:
    """Every username that a test can make."""
    spelled = [f"{spelling}{number}" for spelling in SPELLINGS for number in range(30)]
    known = [f"{letter}{number}" for letter in "uk" for number in range(accounts)]
    return sorted({*map(names.fold, spelled), *known, *(f"plain{number}" for number in range(300))})


@contextmanager
def both(patch: pytest.MonkeyPatch) -> Iterator[tuple[Twin, Twin]]:
    """Two stores: one that is told one by one, and one in groups."""
    with closing(EMBEDDED()) as first, closing(EMBEDDED()) as second:
        slow, quick = Twin(first, patch, NEVER), Twin(second, patch, 1)
        with closing(slow.writer), closing(quick.writer):
            yield slow, quick


@pytest.mark.parametrize("kind", ["events", "rows", "seen rows"])
def test_groups_of_any_mixture_equal_single_ones(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Verdicts, lists of today and of earlier seconds, profiles and counts, crowded or not."""

    @settings(max_examples=examples(12), deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=SEEDS)
    def holds(seed: int) -> None:
        random = Random(seed)
        accounts, seconds = random.choice([30, 200]), random.choice([5, 200, 20_000])
        monkeypatch.setattr(loader, "MUCH_LONGER", random.choice([1, 50]))
        monkeypatch.setattr(loader, "ALWAYS_REWRITTEN", random.choice([10, 10_000]))
        with both(monkeypatch) as (slow, quick):
            records = [AccountRecord(f"u{number}", f"k{number}") for number in range(accounts)]
            assert slow.do("add_accounts", records, 1) == quick.do("add_accounts", records, 1)
            for _ in range(3):
                make: Any = event_of if kind == "events" else row_of
                batch = [make(random, accounts, seconds) for _ in range(random.choice([10, 300, 900]))]
                method, more = ("apply", (NOW,)) if kind == "events" else ("add_follows", ())
                if kind == "seen rows":
                    more = (BEGIN + random.choice([0, seconds // 2, seconds, 3 * seconds, NOW]),)
                assert slow.do(method, batch, *more) == quick.do(method, batch, *more)
                while random.random() < 0.5:
                    slow.do("run_maintenance"), quick.do("run_maintenance")
            names = folded_names(accounts)
            found, problems = slow.content(names)
            assert quick.content(names) == (found, problems)
            assert problems == []

    holds()


def test_groups_of_accounts_equal_single_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verdicts, names and profiles, with keys that are others' names and erased accounts between."""

    @settings(max_examples=examples(40), deadline=None, suppress_health_check=list(HealthCheck))
    @given(seed=SEEDS)
    def holds(seed: int) -> None:
        random = Random(seed)
        with both(monkeypatch) as (slow, quick):
            for second in range(4):
                records = [account_of(random) for _ in range(random.choice([3, 40, 100]))]
                assert slow.do("add_accounts", records, second + 1) == quick.do("add_accounts", records, second + 1)
                if random.random() < 0.1:
                    erasure = [ErasureEvent("k3", NOW)]
                    assert slow.do("apply", erasure, NOW) == quick.do("apply", erasure, NOW)
            names = [f"{letter}{number}" for letter in "ukñ" for number in range(60)]
            found, problems = slow.content(names)
            assert quick.content(names) == (found, problems)
            assert problems == []

    holds()
