"""Open stores of each kind, and the model that stores are compared with."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

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
    PageRows,
    Profile,
    Row,
    Visibility,
)
from retinue.store.contract import Decision, GraphReader, GraphWriter, Verdict
from support.backends import CLUSTER, Backend, BackendFactory, backend_factory
from support.frozen_clock import FrozenClock
from support.model_store import ModelGraph

T = TypeVar("T")
NOW = 1_700_000_000
FOLLOWING, FOLLOWERS = Direction.FOLLOWING, Direction.FOLLOWERS
PUBLIC, FOLLOWING_HIDDEN, PRIVATE, WITHHELD = Visibility
A, U, D = Verdict.ACCEPTED, Verdict.UPDATED, Verdict.DUPLICATE
S, E = Verdict.SELF_FOLLOW, Verdict.ERASED


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a store's method."""
    return asyncio.run(coroutine)


class OpenStore:
    """A store opened for reading and writing, with its calls made short.

    After what may change names or visibility, readers get the second that they have to take notice.
    """

    def __init__(
        self, writer: GraphWriter, graph: GraphReader[Row], clock: FrozenClock, again: "Callable[[], OpenStore]"
    ) -> None:
        self.writer = writer
        self.graph = graph
        self.clock = clock
        self.again = again

    def follow(self, *rows: tuple[str, str, int | None], now: int = NOW, seen_at: int | None = None) -> list[Verdict]:
        """Store follows."""
        return run(self.writer.add_follows([FollowRecord(a, b, at, now) for a, b, at in rows], seen_at))

    def accounts(self, *records: AccountRecord, now: int = NOW) -> list[Verdict]:
        """Create or change accounts."""
        return self._noticed(run(self.writer.add_accounts(records, now)))

    def apply(self, *events: Event, now: int = NOW) -> list[Decision]:
        """Apply events."""
        return self._noticed(run(self.writer.apply(events, now)))

    def erase(self, *keys: str) -> list[Decision]:
        """Erase accounts."""
        return self.apply(*(ErasureEvent(key, NOW) for key in keys))

    def run_maintenance(self) -> None:
        """Do all that is left to do in the background."""
        self._noticed([run(self.writer.run_maintenance())])
        while run(self.writer.run_maintenance()):
            pass

    def page_rows(self, name: str, request: Callable[[int], PageRequest]) -> PageRows[Row]:
        """Return a page of an account's list."""
        return run(self.graph.read(request(self.id(name))))

    def rows(self, name: str, direction: Direction = FOLLOWING, as_of: int | None = None) -> list[Row]:
        """All rows of a list."""
        return list(self.page_rows(name, lambda owner: PageRequest(owner, direction, NOW, 1000, as_of)).rows)

    def names(self, name: str, direction: Direction = FOLLOWING, as_of: int | None = None) -> list[str]:
        """All usernames of a list."""
        return [row.username for row in self.rows(name, direction, as_of)]

    def positions(self, name: str, direction: Direction = FOLLOWING, as_of: int | None = None) -> list[int]:
        """All positions of a list, newest first, read one by one."""
        owner, found, bound = self.id(name), [], NOW
        while (one := run(self.graph.read(PageRequest(owner, direction, bound, 1, as_of)))).rows:
            found.append(one.oldest)
            bound = one.oldest - 1
        return found

    def id(self, name: str) -> int:
        """Return the id of the account with a username."""
        account = run(self.graph.find_account(names.fold(name)))
        assert account is not None, name
        return account.id

    def knows(self, name: str) -> bool:
        """Return whether an account has a username."""
        return run(self.graph.find_account(names.fold(name))) is not None

    def profile(self, name: str) -> Profile:
        """Return an account's profile."""
        profile = run(self.graph.profile(self.id(name)))
        assert profile is not None
        return profile

    def counts(self, name: str) -> tuple[int, int]:
        """Return how many accounts an account follows, and how many follow it."""
        profile = self.profile(name)
        return profile.following_count, profile.follower_count

    def _noticed(self, result: T) -> T:
        self.clock.advance(1)
        return result


def model_of(request: pytest.FixtureRequest, clock: FrozenClock) -> OpenStore:
    """The plain-dict model."""
    model = ModelGraph()
    opened = OpenStore(model, model, clock, lambda: opened)
    return opened


def backend_of(new_backend: BackendFactory, request: pytest.FixtureRequest, clock: FrozenClock) -> OpenStore:
    """A real store; whatever is opened is closed when the test is over, and then it must be sound."""
    backend = new_backend()
    request.addfinalizer(lambda: _close(backend))

    def opened() -> OpenStore:
        writer, graph = backend.open_writer(clock), backend.open_graph(clock)
        request.addfinalizer(writer.close)
        request.addfinalizer(graph.close)
        return OpenStore(writer, graph, clock, opened)

    return opened()


def _close(backend: Backend) -> None:
    problems = backend.problems()
    backend.close()
    assert problems == []


@pytest.fixture(params=["model", "folder", CLUSTER])
def store(request: pytest.FixtureRequest, clock: FrozenClock) -> OpenStore:
    """An empty store of each kind."""
    if request.param == "model":
        return model_of(request, clock)
    return backend_of(backend_factory(request.param, request), request, clock)


def followed(follower: str, followee: str, at: int) -> FollowEvent:
    """Return a follow."""
    return FollowEvent(follower, followee, at)


def unfollowed(follower: str, followee: str, at: int) -> FollowEvent:
    """Return an unfollow."""
    return FollowEvent(follower, followee, at, is_follow=False)


def said(key: str, at: int, **fields: Any) -> AccountEvent:
    """An account was created or changed."""
    return AccountEvent(AccountRecord(key=key, **fields), at)
