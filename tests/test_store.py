"""The store's contract, the same suite for every store and for the model that stores are compared with."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from msgspec.structs import replace

from retinue import names
from retinue.model import (
    TOKEN_SECONDS,
    AccountEvent,
    AccountRecord,
    Client,
    ClientChange,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    FollowRecord,
    Grant,
    Meter,
    Profile,
    Quota,
    Rate,
    Row,
    Secrets,
    Slice,
    Stretch,
    Visibility,
)
from retinue.store.base import Decision, GraphReader, GraphWriter, NotAKey, Verdict
from retinue.store.client_rows import CLOCK_SKEW_SECONDS
from support.backends import CLUSTER, Begin, Site, begin_of
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

    def tidy(self) -> None:
        """Do all that is left to do in the background."""
        self._noticed([run(self.writer.tidy())])
        while run(self.writer.tidy()):
            pass

    def slice(self, name: str, stretch: Callable[[int], Stretch]) -> Slice[Row]:
        """A stretch of somebody's list."""
        return run(self.graph.read(stretch(self.id(name))))

    def rows(self, name: str, direction: Direction = FOLLOWING, as_of: int | None = None) -> list[Row]:
        """All rows of a list."""
        return list(self.slice(name, lambda owner: Stretch(owner, direction, NOW, 1000, as_of)).rows)

    def names(self, name: str, direction: Direction = FOLLOWING, as_of: int | None = None) -> list[str]:
        """All usernames of a list."""
        return [row.username for row in self.rows(name, direction, as_of)]

    def positions(self, name: str, direction: Direction = FOLLOWING, as_of: int | None = None) -> list[int]:
        """All positions of a list, newest first, read one by one."""
        owner, found, bound = self.id(name), [], NOW
        while (one := run(self.graph.read(Stretch(owner, direction, bound, 1, as_of)))).rows:
            found.append(one.oldest)
            bound = one.oldest - 1
        return found

    def id(self, name: str) -> int:
        """The id of whoever has a username."""
        account = run(self.graph.find_account(names.fold(name)))
        assert account is not None, name
        return account.id

    def knows(self, name: str) -> bool:
        """Whether somebody has a username."""
        return run(self.graph.find_account(names.fold(name))) is not None

    def profile(self, name: str) -> Profile:
        """Somebody's profile."""
        profile = run(self.graph.profile(self.id(name)))
        assert profile is not None
        return profile

    def counts(self, name: str) -> tuple[int, int]:
        """How many somebody follows, and how many follow somebody."""
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


def site_of(begin: Begin, request: pytest.FixtureRequest, clock: FrozenClock) -> OpenStore:
    """A real store; whatever is opened is closed when the test is over, and then it must be sound."""
    site = begin()
    request.addfinalizer(lambda: _close(site))

    def opened() -> OpenStore:
        writer, graph = site.open_writer(clock), site.open_graph(clock)
        request.addfinalizer(writer.close)
        request.addfinalizer(graph.close)
        return OpenStore(writer, graph, clock, opened)

    return opened()


def _close(site: Site) -> None:
    problems = site.problems()
    site.close()
    assert problems == []


@pytest.fixture(params=["model", "folder", CLUSTER])
def store(request: pytest.FixtureRequest, clock: FrozenClock) -> OpenStore:
    """An empty store of each kind."""
    if request.param == "model":
        return model_of(request, clock)
    return site_of(begin_of(request.param, request), request, clock)


def followed(follower: str, followee: str, at: int) -> FollowEvent:
    """Somebody followed."""
    return FollowEvent(follower, followee, at)


def unfollowed(follower: str, followee: str, at: int) -> FollowEvent:
    """Somebody unfollowed."""
    return FollowEvent(follower, followee, at, is_follow=False)


def said(key: str, at: int, **fields: Any) -> AccountEvent:
    """An account was created or changed."""
    return AccountEvent(AccountRecord(key=key, **fields), at)


# Lists and their seconds


@pytest.mark.parametrize("direction", Direction)
def test_lists_are_newest_first_up_to_the_bound(store: OpenStore, direction: Direction) -> None:
    """The bound is inclusive and the limit cuts, with has_more telling whether anything is left."""
    pairs = [("a", "b", 100), ("a", "d", 300), ("a", "c", 200)]
    store.follow(*((a, b, at) if direction is FOLLOWING else (b, a, at) for a, b, at in pairs))

    assert store.names("a", direction) == ["d", "c", "b"]
    for bound, limit, expected, oldest, has_more in (
        (300, 3, ["d", "c", "b"], 100, False),
        (300, 2, ["d", "c"], 200, True),
        (299, 2, ["c", "b"], 100, False),
        (100, 1, ["b"], 100, False),
        (99, 1, [], 0, False),
    ):
        found = store.slice("a", lambda owner, b=bound, n=limit: Stretch(owner, direction, b, n))  # type: ignore[misc]
        assert (expected, oldest, has_more) == ([row.username for row in found.rows], found.oldest, found.has_more)


def test_both_lists_tell_the_same_follows(store: OpenStore) -> None:
    """Whoever is in one's following list has the other in the followers list, and nobody else."""
    people = ["a", "b", "c", "d"]
    pairs = {("a", "b"), ("b", "a"), ("a", "c"), ("d", "c"), ("b", "c"), ("c", "d")}
    store.follow(*((a, b, 100) for a, b in sorted(pairs)))

    assert pairs == {(a, b) for a in people for b in store.names(a)}
    assert pairs == {(a, b) for b in people for a in store.names(b, FOLLOWERS)}


def test_a_follow_may_stand_on_two_seconds(store: OpenStore) -> None:
    """Each list has seconds of its own; the true second is one."""
    store.follow(("a", "x", 100), ("a", "b", 100), ("c", "b", 99), ("c", "x", 99))

    assert (store.positions("a"), store.names("a")) == ([100, 99], ["x", "b"])
    assert (store.positions("b", FOLLOWERS), store.names("b", FOLLOWERS)) == ([100, 99], ["a", "c"])
    assert (store.positions("x", FOLLOWERS), store.names("x", FOLLOWERS)) == ([100, 99], ["a", "c"])
    assert store.names("a", as_of=99) == []
    assert store.names("a", as_of=100) == ["x", "b"]


def test_rows_of_one_second_keep_the_order_of_storing(store: OpenStore) -> None:
    """The first row of a second is the newest; the next ones stand on the nearest free earlier seconds."""
    store.follow(("a", "x", 299), ("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("a", "y", 298))

    assert store.names("a") == ["b", "x", "c", "d", "y"]
    assert store.positions("a") == [300, 299, 298, 297, 296]


@pytest.mark.parametrize("direction", Direction)
def test_hundreds_of_follows_in_one_second_are_filed_backwards(store: OpenStore, direction: Direction) -> None:
    """Each has a second of its own, without a gap, in the order of storing."""
    others = [f"f{n}" for n in range(400)]
    store.follow(*(("a", one, 1000) if direction is FOLLOWING else (one, "a", 1000) for one in others))

    assert others == store.names("a", direction)
    assert list(range(1000, 600, -1)) == store.positions("a", direction)
    assert sorted(others) == sorted(store.names("a", direction, as_of=1000))
    assert store.names("a", direction, as_of=999) == []


def test_where_no_earlier_second_is_free_a_later_one_is_taken(store: OpenStore) -> None:
    """Seconds begin at 1."""
    store.follow(*(("a", f"f{n}", 2) for n in range(5)))

    assert store.positions("a") == [5, 4, 3, 2, 1]
    assert {"f0", "f1", "f2", "f3", "f4"} == set(store.names("a"))


@pytest.mark.parametrize("direction", Direction)
def test_a_list_without_a_free_second_takes_no_more(store: OpenStore, direction: Direction) -> None:
    """Where every second up to now is taken nothing is stored, in neither list, and nobody is created for it."""
    others = ["b", "c", "d", "e"]
    rows = [("a", one, 2) if direction is FOLLOWING else (one, "a", 2) for one in others]

    assert store.follow(*rows, now=3) == [A, A, A, Verdict.LIST_FULL]
    assert store.positions("a", direction) == [3, 2, 1]
    assert not store.knows("e")
    assert store.apply(FollowEvent(*rows[-1]), now=3) == [Verdict.LIST_FULL]
    assert not store.knows("e")
    assert store.follow(rows[-1], now=4) == [A]
    assert store.positions("a", direction) == [4, 3, 2, 1]


def test_follows_are_idempotent(store: OpenStore) -> None:
    """The same follow again or without a time is a duplicate; a later one is new, and changes no list."""
    assert store.follow(("a", "b", 100), ("a", "c", 100)) == [A, A]
    before = store.positions("a")

    assert store.follow(("a", "b", 100), ("a", "b", None), ("a", "c", 100)) == [D, D, D]
    assert store.follow(("a", "b", 500), ("a", "b", 500)) == [U, D]
    assert before == store.positions("a")
    assert store.names("a") == ["b", "c"]


def test_an_earlier_time_moves_a_follow_and_frees_its_second(store: OpenStore) -> None:
    """A follow that began earlier stands earlier; the second it leaves can be taken again."""
    store.follow(("a", "b", 300), ("a", "c", 300), ("a", "d", 300))

    assert store.follow(("a", "c", 100)) == [U]
    assert store.positions("a") == [300, 298, 100]
    assert store.names("a") == ["b", "d", "c"]
    store.follow(("a", "e", 300))
    assert store.positions("a") == [300, 299, 298, 100]
    assert store.names("a") == ["b", "e", "d", "c"]


def test_a_follow_that_moves_may_take_the_second_it_leaves(store: OpenStore) -> None:
    """What vanishes gives back its second before what is new looks for one."""
    store.follow(("a", "b", 3), ("a", "c", 3), ("a", "d", 3), now=3)
    assert store.positions("a") == [3, 2, 1]

    assert store.follow(("a", "c", 1), ("a", "b", 2), now=3) == [U, U]
    assert store.positions("a") == [3, 2, 1]
    assert store.names("a") == ["b", "c", "d"]


def test_a_time_in_the_future_or_none_counts_as_now(store: OpenStore) -> None:
    """A follow never begins later than it was received, wherever it comes from."""
    store.follow(("a", "b", NOW + 5000), ("a", "c", None), now=NOW - 10)
    assert store.positions("a") == [NOW - 10, NOW - 11]

    assert store.apply(followed("x", "y", NOW + 5), now=NOW - 10) == [A]
    assert store.names("x", as_of=NOW - 11) == []
    assert store.names("x", as_of=NOW - 10) == ["y"]
    assert store.apply(unfollowed("x", "y", NOW + 5), now=NOW - 5) == [A]
    assert store.names("x", as_of=NOW - 6) == ["y"]
    assert store.names("x", as_of=NOW - 5) == []


def test_nobody_follows_themselves(store: OpenStore) -> None:
    """Whatever the spelling; and the account is not made for that."""
    assert store.follow(("a", "a", 100), ("a", "@A", 100)) == [S, S]
    assert store.apply(followed("a", "a", 100), unfollowed("a", "a", 100)) == [S, S]
    assert not store.knows("a")

    store.accounts(AccountRecord("anna", key="17"))
    assert store.follow(("17", "Anna", 100)) == [S]


def test_a_list_that_nobody_owns_is_empty(store: OpenStore) -> None:
    """An unknown id has no rows and no profile."""
    for direction in Direction:
        assert run(store.graph.read(Stretch(12345, direction, NOW, 10))) == Slice([], 0, has_more=False)
    assert run(store.graph.profile(12345)) is None


# Follows that end


def test_an_unfollow_ends_a_follow_in_both_lists(store: OpenStore) -> None:
    """What has ended is no row today, and the list of its time still has it."""
    store.apply(followed("a", "b", 100), followed("a", "c", 150))

    assert store.apply(unfollowed("a", "b", 200)) == [A]
    assert store.names("a") == ["c"]
    assert store.names("b", FOLLOWERS) == []
    assert store.names("a", as_of=199) == ["c", "b"]
    assert store.names("b", FOLLOWERS, as_of=199) == ["a"]


@pytest.mark.parametrize("direction", Direction)
def test_an_interval_holds_its_start_and_not_its_end(store: OpenStore, direction: Direction) -> None:
    """As of T: start <= T < end, by true time."""
    owner, other = ("a", "b") if direction is FOLLOWING else ("b", "a")
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 200), followed("a", "b", 300))

    for second, expected in ((99, []), (100, [other]), (199, [other]), (200, []), (299, []), (300, [other])):
        assert expected == store.names(owner, direction, as_of=second)
    assert store.names(owner, direction, as_of=NOW) == store.names(owner, direction) == [other]


def test_a_list_of_the_past_is_paged_by_position(store: OpenStore) -> None:
    """The bound and the limit hold for positions, whatever the second asked for, and ended follows have theirs."""
    store.follow(*(("a", f"f{n}", 100) for n in range(4)))
    store.apply(unfollowed("a", "f1", 200), unfollowed("a", "f2", 300), followed("a", "f1", 400))

    assert store.names("a") == ["f1", "f0", "f3"]
    assert store.positions("a") == [400, 100, 97]
    assert store.names("a", as_of=200) == ["f0", "f2", "f3"]
    assert store.positions("a", as_of=200) == [100, 98, 97]
    assert store.positions("a", as_of=100) == [100, 99, 98, 97]
    found = store.slice("a", lambda owner: Stretch(owner, FOLLOWING, 99, 1, 200))
    assert found == Slice([Row("", "f2")], 98, has_more=True)


def test_a_new_follow_after_an_unfollow_stands_on_a_second_of_its_own(store: OpenStore) -> None:
    """It is another interval; the old one keeps its place in the past."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 200), followed("a", "b", 300))

    assert store.positions("a") == [300]
    assert store.positions("a", as_of=150) == [100]
    assert store.counts("a") == (1, 0)
    assert store.counts("b") == (0, 1)


def test_the_second_of_an_ended_follow_is_never_taken(store: OpenStore) -> None:
    """In neither list, and also not by the same pair."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 200))
    store.apply(followed("a", "c", 100), followed("d", "b", 100))
    assert store.positions("a") == [99]
    assert store.positions("b", FOLLOWERS) == [99]

    store.apply(followed("a", "b", 300), unfollowed("a", "b", 400), followed("a", "e", 300), followed("a", "f", 300))
    assert store.positions("a") == [299, 298, 99]
    assert store.positions("a", as_of=350) == [300, 299, 298, 99]


def test_an_unfollow_may_come_before_its_follow(store: OpenStore) -> None:
    """The order of arrival does not count."""
    assert store.apply(unfollowed("a", "b", 200)) == [A]
    assert store.names("a") == []

    assert store.apply(followed("a", "b", 100)) == [A]
    assert store.names("a") == []
    assert store.names("a", as_of=150) == ["b"]
    assert store.counts("a") == (0, 0)


def test_a_follow_that_changed_nothing_counts_when_an_unfollow_comes_before_it(store: OpenStore) -> None:
    """Of a pair's events none is forgotten: which of them matter is seen only when all are there."""
    assert store.apply(followed("a", "b", 100), followed("a", "b", 300), followed("a", "c", 300)) == [A, A, A]
    assert store.positions("a") == [300, 100]

    assert store.apply(unfollowed("a", "b", 200)) == [A]
    assert store.names("a") == ["c", "b"]
    assert store.positions("a") == [300, 299]
    assert store.positions("a", as_of=150) == [100]


def test_at_one_second_the_unfollow_comes_last(store: OpenStore) -> None:
    """A follow and an unfollow of one second leave nothing; its place is free again."""
    store.apply(followed("a", "b", 100))
    assert store.apply(unfollowed("a", "b", 100)) == [A]
    assert store.names("a") == store.names("a", as_of=100) == []

    store.apply(followed("a", "c", 100))
    assert store.positions("a") == [100]
    assert store.apply(followed("a", "b", 100)) == [D]
    assert store.apply(followed("a", "b", 90)) == [A]
    assert store.names("a", as_of=99) == ["b"]
    assert store.names("a", as_of=100) == ["c"]


def test_an_unfollow_that_splits_an_interval_leaves_the_first_in_its_place(store: OpenStore) -> None:
    """The true start is the same; only the second interval looks for a second."""
    store.follow(("a", "x", 100), ("a", "b", 100), ("a", "b", 300))
    assert store.positions("a") == [100, 99]

    store.apply(unfollowed("a", "b", 200))
    assert store.positions("a") == [300, 100]
    assert store.positions("a", as_of=150) == [100, 99]
    store.apply(unfollowed("a", "b", 250), unfollowed("a", "b", 400))
    assert store.positions("a", as_of=150) == [100, 99]
    assert store.positions("a", as_of=350) == [300, 100]


def test_an_ended_follow_may_turn_out_to_have_begun_earlier(store: OpenStore) -> None:
    """The start moves, the end stays, and the second it leaves is free."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 200), followed("a", "b", 50))

    assert store.positions("a", as_of=60) == store.positions("a", as_of=199) == [50]
    assert store.names("a", as_of=200) == []
    store.apply(followed("a", "c", 100))
    assert store.positions("a") == [100]


def test_an_unfollow_ends_a_follow_earlier_than_was_known(store: OpenStore) -> None:
    """The earliest unfollow after the start counts, and the later one has nothing to end."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 300), unfollowed("a", "b", 200))

    assert store.names("a", as_of=199) == ["b"]
    assert store.names("a", as_of=200) == []
    assert store.apply(unfollowed("a", "b", 200)) == [D]


def test_events_are_idempotent(store: OpenStore) -> None:
    """What is known already is a duplicate, in whatever order it comes again."""
    events: list[Event] = [
        followed("a", "b", 100),
        unfollowed("a", "b", 200),
        followed("a", "b", 300),
        said("b", 100, username="ben", display_name="Ben"),
        said("b", 200, visibility=FOLLOWING_HIDDEN),
    ]
    assert store.apply(*events) == [A] * 5

    assert store.apply(*reversed(events)) == [D] * 5
    assert store.apply(*events, now=NOW + 1) == [D] * 5
    assert store.names("a") == ["ben"]


def test_an_imported_row_is_a_follow_event(store: OpenStore) -> None:
    """With a time it says when; without one it is new only where the follow has ended."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 200))

    assert store.follow(("a", "b", None), now=300) == [A]
    assert store.follow(("a", "b", None), now=400) == [D]
    assert store.follow(("a", "b", 50)) == [U]
    assert store.positions("a") == [300]
    assert store.positions("a", as_of=100) == [50]


def test_a_row_from_the_future_is_one_without_a_time(store: OpenStore) -> None:
    """It counts from its receipt, once: the same row again says nothing new, although time has gone on."""
    assert store.follow(("a", "b", NOW + 1000)) == [A]
    assert store.follow(("a", "b", NOW + 1000), now=NOW + 5) == [D]
    assert store.positions("a") == [NOW]


def test_an_event_from_the_future_counts_once(store: OpenStore) -> None:
    """Also where it was no news when it came: it does not undo what happened since when it comes again."""
    early = followed("a", "b", NOW + 1000)
    assert store.apply(followed("a", "b", NOW), early) == [A, D]
    assert store.apply(unfollowed("a", "b", NOW + 1), now=NOW + 1) == [A]
    assert store.apply(early, now=NOW + 2) == [D]
    assert store.names("a") == []

    rename = said("a", NOW + 1000, username="anna")
    assert store.apply(said("a", NOW, username="anna"), rename) == [A, D]
    assert store.apply(said("a", NOW + 3, username="berta"), now=NOW + 3) == [A]
    assert store.apply(rename, now=NOW + 4) == [D]
    assert store.knows("berta")


def test_two_names_that_make_one_key_are_one_account(store: OpenStore) -> None:
    """A name that is too long for a key, and the hash that stands for it."""
    long = "x" * 100
    hashed = names.keys_of_name(long)[0]

    assert store.follow((long, hashed, 100), ("c", "d", 100)) == [S, A]
    assert not store.knows(long)


def test_a_new_key_is_meant_before_an_old_name(store: OpenStore) -> None:
    """A writer that has looked for a name looks again when an account comes whose key it is."""
    store.accounts(AccountRecord("2", "6", "x"))
    assert run(store.writer.keys_of(["2"])) == ["6"]

    store.accounts(AccountRecord(key="2"))
    assert run(store.writer.keys_of(["2"])) == ["2"]


def test_a_name_may_come_to_ever_new_accounts(store: OpenStore) -> None:
    """Without ids each account of a name needs a key of its own, also when those made of the name are taken."""
    hashed = names.keys_of_name("x")[1]
    assert store.accounts(AccountRecord("x")) == [A]
    store.apply(said("x", NOW + 1, username="y"), now=NOW + 1)
    assert store.accounts(AccountRecord("x"), now=NOW + 2) == [A]
    store.apply(said(hashed, NOW + 3, username="z"), now=NOW + 3)

    assert store.accounts(AccountRecord("x"), now=NOW + 4) == [A]
    assert 3 == len({store.id(name) for name in "xyz"})


def test_what_was_seen_stood_at_that_second(store: OpenStore) -> None:
    """Where by all that is known it did not, it begins anew there; otherwise only what the row says counts."""
    store.apply(unfollowed("a", "b", 200))

    assert store.follow(("a", "b", 100), ("a", "c", 250), seen_at=300) == [A, A]
    assert store.follow(("a", "b", 100), ("a", "c", 250), seen_at=300) == [D, D]
    assert store.names("a", as_of=150) == ["b"]
    assert store.names("a", as_of=250) == ["c"]
    assert store.names("a", as_of=300) == store.names("a") == ["b", "c"]
    assert store.positions("a") == [300, 250]
    assert store.apply(unfollowed("a", "c", 260)) == [A]
    assert store.names("a") == ["b"]
    assert store.follow(("a", "c", 250), seen_at=300) == [A]
    assert store.names("a", as_of=260) == []
    assert store.names("a", as_of=300) == ["b", "c"]


def test_whoever_is_missing_is_unfollowed(store: OpenStore) -> None:
    """Everybody whom the account followed at that second, but for those named, by name or key."""
    store.accounts(AccountRecord("ben", key="18"), AccountRecord("carla", visibility=PRIVATE))
    store.follow(("a", "ben", 100), ("a", "carla", 100), ("a", "d", 150), ("a", "late", 300), ("b", "d", 100))
    store.apply(followed("a", "gone", 100), unfollowed("a", "gone", 150))

    assert run(store.writer.end_missing("A", ["18", "nobody"], 200)) == 2
    assert store.names("a") == ["late", "ben"]
    assert store.names("a", as_of=199) == ["d", "ben"]
    assert store.counts("a") == (2, 0)
    assert store.names("d", FOLLOWERS) == ["b"]
    assert not store.knows("nobody")
    assert run(store.writer.end_missing("A", ["18", "nobody"], 200)) == 0
    assert run(store.writer.end_missing("nobody", [], 200)) == 0
    assert not store.knows("nobody")


def test_whoever_is_missing_may_have_come_back(store: OpenStore) -> None:
    """A follow known for later begins anew there."""
    store.apply(followed("a", "b", 100), followed("a", "b", 300))

    assert run(store.writer.end_missing("a", [], 200)) == 1
    assert store.positions("a") == [300]
    assert store.names("a", as_of=200) == []


# Who is who


def test_accounts_are_named_by_key_or_username(store: OpenStore) -> None:
    """A key wins over a username; unknown names become accounts."""
    store.accounts(AccountRecord("anna", key="17", display_name="Anna"), AccountRecord("17th", key="99"))
    store.follow(("17", "99", 100), ("ANNA", "new", 200))

    assert store.names("anna") == ["new", "17th"]
    assert not store.knows("17")


def events_of(other: str, key: str) -> list[Event]:
    """Return events of every kind that name an account in every place, some beside another account."""
    return [
        followed(key, other, 300),
        followed(other, key, 300),
        unfollowed(key, other, 300),
        unfollowed(other, key, 300),
        said(key, 300, username="new"),
        said(key, 300, visibility=PRIVATE),
        ErasureEvent(key, 300),
    ]


@pytest.mark.parametrize("is_former", [False, True])
@pytest.mark.parametrize("name", ["anna", "ANNA", "@anna", "@Anna"])
def test_an_event_that_names_an_account_by_username_is_rejected(store: OpenStore, name: str, is_former: bool) -> None:
    """In every place of every kind, in every spelling, and no account is created for it."""
    store.accounts(AccountRecord("anna", key="17"), AccountRecord("fan", key="18"))
    store.apply(followed("18", "17", 100))
    if is_former:
        store.apply(said("17", NOW + 1, username="annika"), now=NOW + 1)
    mistake = NotAKey(name, "17", is_current=not is_former)
    events = [*events_of("18", name), *events_of("new", name)]

    assert store.apply(*events) == [mistake] * len(events)
    assert run(store.writer.not_keys([name, "17", "new"])) == [mistake, None, None]
    assert not store.knows("new")
    assert store.names("fan") == ["annika" if is_former else "anna"]
    assert store.counts("fan") == (1, 0)


def test_a_username_that_is_also_a_key_is_the_key(store: OpenStore) -> None:
    """Also after the account is erased: the name means the erased account then."""
    store.accounts(AccountRecord("18", key="17"), AccountRecord("ben", key="18"))

    assert store.apply(followed("17", "18", 100), ErasureEvent("18", 200)) == [A, A]
    assert store.apply(followed("17", "18", 300)) == [E]
    assert store.knows("18")


@pytest.mark.parametrize("name", ["anna", "Anna", "@anna", "@ANNA"])
def test_an_event_does_not_bring_back_an_erased_username(store: OpenStore, name: str) -> None:
    """No event makes an account called so, and no imported row finds one afterwards."""
    store.accounts(AccountRecord("anna", key="1"), AccountRecord("fan", key="5"))
    store.apply(said("1", NOW, username="annika"), ErasureEvent("1", NOW))

    for erased_name in (name, "annika"):
        events = [event for event in events_of("5", erased_name) if not isinstance(event, ErasureEvent)]
        assert store.apply(*events) == [E] * len(events)
        assert store.follow(("7", erased_name, 100), (erased_name, "7", 100)) == [E, E]
        assert store.accounts(AccountRecord(erased_name)) == [E]
        assert not store.knows(erased_name)


def test_a_key_that_was_an_erased_username_comes_by_import(store: OpenStore) -> None:
    """After the import it is a key like any other."""
    store.accounts(AccountRecord("anna", key="1"), AccountRecord("fan", key="5"))
    store.erase("1")
    assert store.apply(followed("5", "anna", 100)) == [E]

    assert store.accounts(AccountRecord("zed", key="anna")) == [A]
    assert store.apply(followed("5", "anna", 100)) == [A]
    assert store.names("fan") == ["zed"]


def test_a_key_that_was_an_erased_username_can_be_erased_before_it_comes(store: OpenStore) -> None:
    """The key is remembered then, so that not even an import brings it."""
    store.accounts(AccountRecord("anna", key="1"))
    store.erase("1")

    assert store.erase("anna", "anna") == [A, D]
    assert store.accounts(AccountRecord("zed", key="anna")) == [E]


def test_an_erased_username_of_a_living_account_is_told_as_that_username(store: OpenStore) -> None:
    """The remedy is that account's key."""
    store.accounts(AccountRecord("anna", key="1"), AccountRecord("fan", key="5"))
    store.erase("1")
    store.accounts(AccountRecord("anna", key="2"))

    events = events_of("5", "anna")
    assert store.apply(*events) == [NotAKey("anna", "2", is_current=True)] * len(events)


def test_erasing_an_erased_key_again_names_the_account_that_is_called_so_now(store: OpenStore) -> None:
    """As long as it is; "known already" would say that the visible account is gone."""
    store.erase("anna")
    store.accounts(AccountRecord("anna", key="2"), AccountRecord("fan", key="5"))
    mistake = NotAKey("anna", "2", is_current=True)

    assert store.erase("anna") == [mistake]
    assert run(store.writer.not_keys(["anna"])) == [mistake]
    assert store.apply(followed("5", "anna", 100)) == [E]

    store.apply(said("2", NOW + 1, username="annika"), now=NOW + 1)
    assert store.erase("anna") == [D]
    assert run(store.writer.not_keys(["anna"])) == [None]


def test_a_key_with_an_at_is_not_taken_for_another_account(store: OpenStore) -> None:
    """An account may have its bare form as key and go by another name."""
    store.accounts(AccountRecord("annie", key="anna"))

    assert store.apply(ErasureEvent("@anna", 100)) == [NotAKey("@anna", "anna", is_current=False)]
    assert store.knows("annie")


@pytest.mark.parametrize("keys", [("ann", "Ann"), ("Ann", "ann"), ("ann", "@ann")])
def test_two_new_keys_that_are_one_name_do_not_follow_each_other(store: OpenStore, keys: tuple[str, str]) -> None:
    """They would be one account with one username."""
    assert store.apply(followed(*keys, 100), unfollowed(*keys, 100)) == [S, S]
    assert not store.knows("ann")


def test_an_account_known_by_key_alone_has_it_as_its_name(store: OpenStore) -> None:
    """Where it can be one; the claim is the weakest there is."""
    store.apply(followed("17", "no name", 100), said("18", 1, display_name="Eighteen"), unfollowed("19", "18", 5))
    assert store.names("17") == []
    assert store.counts("17") == (1, 0)
    assert store.knows("18")
    assert store.knows("19")

    store.apply(said("99", 1, username="17"))
    assert store.counts("17") == (0, 0)


def test_records_change_only_what_they_say(store: OpenStore) -> None:
    """A repeated record is a duplicate; a new display name reaches lists within a second."""
    store.follow(("fan", "anna", 100))
    assert store.accounts(*[AccountRecord("anna", display_name="Anna", likes_count=3)] * 2) == [U, D]
    assert store.rows("fan") == [Row("Anna", "anna")]

    assert store.accounts(AccountRecord("ANNA")) == [D]
    assert store.accounts(AccountRecord("anna", likes_count=4), now=NOW + 1) == [U]
    assert store.accounts(AccountRecord("anna", display_name="Anna 2"), now=NOW + 1) == [U]
    assert store.rows("fan") == [Row("Anna 2", "anna")]
    assert store.profile("anna").likes_count == 4


def test_of_each_field_the_latest_value_counts(store: OpenStore) -> None:
    """Field by field, whatever the order of arrival."""
    assert store.apply(said("1", 200, display_name="new", likes_count=5)) == [A]
    assert store.apply(said("1", 100, display_name="old", bio_url="http://x")) == [A]
    assert store.apply(said("1", 150, likes_count=900)) == [D]
    assert store.apply(said("1", 300, likes_count=4)) == [A]

    profile = store.profile("1")
    assert (profile.display_name, profile.likes_count, profile.bio_url) == ("new", 4, "http://x")


def test_at_one_second_the_larger_value_counts(store: OpenStore) -> None:
    """For each kind of field, in both orders."""
    small = said("1", 100, display_name="a", visibility=PUBLIC, is_verified=False, likes_count=9)
    large = said("1", 100, display_name="b", visibility=FOLLOWING_HIDDEN, is_verified=True, likes_count=10)
    others = [AccountEvent(AccountRecord(**(fields_of(event.record) | {"key": "2"})), 100) for event in (large, small)]

    assert store.apply(small, large, small) == [A, A, D]
    assert store.apply(*others) == [A, D]
    for name in ("1", "2"):
        profile = store.profile(name)
        assert (profile.display_name, profile.is_verified, profile.likes_count) == ("b", True, 10)
        account = run(store.graph.find_account(name))
        assert account is not None
        assert account.visibility is FOLLOWING_HIDDEN


def fields_of(record: AccountRecord) -> dict[str, Any]:
    """What a record says, as keywords."""
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_the_same_value_at_a_later_second_is_something_new(store: OpenStore) -> None:
    """It stands against events in between. A row of a file is a duplicate where no value changes."""
    assert store.apply(said("1", 100, display_name="a"), said("1", 300, display_name="a")) == [A, A]
    assert store.apply(said("1", 200, display_name="b")) == [D]

    assert store.accounts(AccountRecord(key="1", display_name="a"), now=500) == [D]
    assert store.apply(said("1", 400, display_name="b")) == [D]
    assert store.rows("1") == []
    assert store.profile("1").display_name == "a"


def test_a_row_of_a_file_is_an_event_at_the_time_of_import(store: OpenStore) -> None:
    """An event of an earlier second changes nothing of what it says, one of a later second does."""
    store.accounts(AccountRecord("anna", key="17", display_name="A", visibility=PRIVATE), now=200)

    assert store.apply(said("17", 100, username="old", display_name="old", visibility=PUBLIC)) == [A]
    assert store.profile("anna").display_name == "A"
    assert store.apply(said("17", 300, username="annika", display_name="new")) == [A]
    assert store.profile("annika").display_name == "new"
    account = run(store.graph.find_account("annika"))
    assert account is not None
    assert account.visibility is PRIVATE


def test_an_account_event_of_the_future_counts_as_now(store: OpenStore) -> None:
    """Nobody can claim a field for all time to come."""
    store.apply(said("1", NOW + 1000, display_name="tomorrow"), now=100)

    assert store.apply(said("1", 101, display_name="today")) == [A]
    assert store.profile("1").display_name == "today"


def test_a_profile_holds_every_field(store: OpenStore) -> None:
    """As said, and as long as nothing is said: empty."""
    fields = {"bio_description": "bio", "avatar_url": "http://a", "bio_url": "http://b", "is_verified": True}
    store.apply(said("1", 5, display_name="One", likes_count=2**40, video_count=7, **fields), said("2", 5))

    assert Profile("One", "bio", "http://a", "http://b", True, 2**40, 7, 0, 0) == store.profile("1")
    assert Profile("", "", "", "", False, 0, 0, 0, 0) == store.profile("2")


def test_a_rename_keeps_the_account(store: OpenStore) -> None:
    """A new username for a key reaches lookups at once and lists within a second; the old one is unknown."""
    store.accounts(AccountRecord("anna", key="17"), now=100)
    store.follow(("fan", "anna", 100), ("anna", "b", 100))
    assert store.names("fan") == ["anna"]

    assert store.accounts(AccountRecord("annika", key="17"), now=101) == [U]
    assert store.names("fan") == ["annika"]
    assert store.names("annika") == ["b"]
    assert not store.knows("anna")
    assert store.apply(said("17", 102, username="anne")) == [A]
    assert store.names("fan") == ["anne"]
    assert store.names("b", FOLLOWERS) == ["anne"]


def test_a_rename_that_comes_late_changes_nothing(store: OpenStore) -> None:
    """The latest claim of an account is its username, at one second the larger one."""
    store.apply(said("17", 200, username="anna"), said("17", 100, username="zoe"))
    assert store.knows("anna")
    assert not store.knows("zoe")

    store.apply(said("17", 200, username="bea"), said("17", 200, username="abe"))
    assert store.knows("bea")


def test_names_are_answered_as_claimed(store: OpenStore) -> None:
    """In lower case where they are plain; found in every spelling."""
    store.apply(followed("fan", "1", 5), followed("fan", "2", 4))
    store.apply(said("1", 10, username="Anna.B_1"), said("2", 10, username="Ærøskøbing"))

    assert store.names("fan") == ["anna.b_1", "Ærøskøbing"]
    assert store.knows("@ANNA.b_1")
    assert store.knows("ÆRØSKØBING")


def test_a_source_that_begins_to_give_ids_takes_over_its_accounts(store: OpenStore) -> None:
    """Accounts first known by name alone keep their follows when a source names their id."""
    store.follow(("anna", "ben", 100))
    assert store.accounts(AccountRecord("anna", key="17"), AccountRecord("ben", key="18", display_name="Ben")) == [U, U]

    store.follow(("17", "18", 100), ("17", "carla", 200))

    assert store.names("anna") == ["carla", "ben"]
    store.apply(followed("17", "18", 300), unfollowed("17", "18", 400))
    assert store.names("anna") == ["carla"]


@pytest.mark.parametrize("keys", [("1", "2"), ("2", "1")])
def test_a_name_known_from_follows_is_claimed_like_any_other(store: OpenStore, keys: tuple[str, str]) -> None:
    """Whether follows or accounts came first does not decide who has a name."""
    store.follow(("a", "zed", 100))
    store.accounts(*(AccountRecord("zed", key=key, display_name=key) for key in keys))
    store.follow(("b", "zed", 100))

    assert store.rows("b") == [Row("1", "zed")]


def test_ids_may_differ_in_case_alone(store: OpenStore) -> None:
    """Keys are compared as they are; only usernames are folded."""
    store.accounts(AccountRecord("zed", key="UCabc"), AccountRecord("yul", key="UCAbc"))

    assert store.follow(("UCabc", "UCAbc", 100)) == [A]
    assert store.names("zed") == ["yul"]


@pytest.mark.parametrize("keys", [("UCabc", "UCAbc"), ("UCAbc", "UCabc")])
def test_of_keys_that_are_one_name_the_second_comes_by_import(store: OpenStore, keys: tuple[str, str]) -> None:
    """An event must not bring it, since it looks like the first one's username; after the import it is a key."""
    first, second = keys
    assert store.apply(followed(first, "x", 100), followed(second, "x", 100)) == [
        A,
        NotAKey(second, first, is_current=True),
    ]
    assert store.names("x", FOLLOWERS) == ["ucabc"]

    store.accounts(AccountRecord("zed", key=second))
    assert store.apply(followed(second, "x", 100)) == [A]
    assert sorted(store.names("x", FOLLOWERS)) == ["ucabc", "zed"]


def test_an_id_that_was_first_seen_in_a_follow_is_found_again(store: OpenStore) -> None:
    """Also when it has capitals."""
    store.follow(("UCabc", "x", 100))
    store.accounts(AccountRecord("zed", key="UCabc"))

    assert store.names("zed") == ["x"]


def test_a_name_that_is_anothers_id_is_another_account(store: OpenStore) -> None:
    """A record without an id never renames an account that has one."""
    store.accounts(AccountRecord("alice", key="12345", display_name="Alice"))
    store.accounts(AccountRecord("12345", display_name="Someone else"))
    store.follow(("fan", "alice", 100))

    assert store.rows("fan") == [Row("Alice", "alice")]
    assert store.profile("12345").display_name == "Someone else"


# Who has a username


def test_a_username_belongs_to_its_latest_claim(store: OpenStore) -> None:
    """The loser has no username and is no row, until it claims that one again or another."""
    store.accounts(AccountRecord("anna", key="17"), now=100)
    store.follow(("fan", "17", 100), ("fan", "18", 200), ("17", "x", 100))
    assert store.accounts(AccountRecord("anna", key="18"), now=101) == [U]
    assert store.names("fan") == ["anna"]
    assert store.names("anna") == []

    assert store.accounts(AccountRecord("anna", key="17"), now=102) == [U]
    assert store.names("anna") == ["x"]
    assert store.names("fan") == ["anna"]
    assert store.accounts(AccountRecord("bea", key="18"), now=103) == [U]
    assert store.names("fan") == ["bea", "anna"]


@pytest.mark.parametrize("keys", [("17", "18"), ("18", "17")])
def test_two_claims_of_one_second_go_to_the_smaller_key(store: OpenStore, keys: tuple[str, str]) -> None:
    """Whatever the order in which they come; claimed again together, the name is with the same account after all."""
    records = [AccountRecord("anna", key=key, display_name=key) for key in keys]
    store.accounts(*records, now=100)
    store.follow(("fan", "17", 100), ("fan", "18", 200))
    assert store.rows("fan") == [Row("17", "anna")]

    assert store.accounts(*records, now=100) == [D, D]
    store.accounts(*records, now=101)
    assert store.rows("fan") == [Row("17", "anna")]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_a_name_that_was_left_is_not_won_by_an_older_claim(store: OpenStore, order: tuple[int, ...]) -> None:
    """The latest claim ever made to a name counts, also where whoever made it goes by another name now."""
    events = [said("17", 200, username="anna"), said("17", 300, username="annika"), said("18", 100, username="anna")]
    for number in order:
        store.apply(events[number])

    assert store.knows("annika")
    assert not store.knows("anna")
    assert not store.knows("18")
    assert store.apply(said("18", 201, username="anna")) == [A]
    assert store.knows("anna")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_who_gives_up_a_name_leaves_it_to_nobody(store: OpenStore, order: tuple[int, ...]) -> None:
    """A loser has no username until it claims another, or the same one later."""
    events = [said("17", 100, username="anna"), said("18", 200, username="anna"), said("18", 300, username="bea")]
    for number in order:
        store.apply(events[number])

    assert store.knows("bea")
    assert not store.knows("anna")
    store.apply(said("17", 250, username="anna"))
    assert store.knows("anna")


def test_a_late_claim_to_a_name_is_new_where_it_is_the_best_one(store: OpenStore) -> None:
    """It does not change what its account is called, but who else may be called so."""
    store.apply(said("17", 300, username="annika"), said("18", 100, username="anna"))
    assert store.knows("anna")

    assert store.apply(said("17", 200, username="anna")) == [A]
    assert not store.knows("anna")
    assert store.apply(said("17", 200, username="anna"), said("17", 150, username="anna")) == [D, D]


def test_whoever_lost_a_name_is_withheld(store: OpenStore) -> None:
    """It is no row in any list, today or of the past, is counted all the same, and its lists go on."""
    store.apply(said("17", 100, username="anna"), followed("fan", "17", 100), followed("17", "fan", 100))
    loser = store.id("anna")
    store.apply(said("18", 200, username="anna"))

    for direction in Direction:
        assert store.names("fan", direction) == store.names("fan", direction, as_of=150) == []
    assert store.counts("fan") == (1, 1)
    profile = run(store.graph.profile(loser))
    assert profile is not None
    assert (profile.following_count, profile.follower_count) == (1, 1)
    assert run(store.graph.read(Stretch(loser, FOLLOWING, NOW, 5))).rows == [Row("", "fan")]


# Who is a row


HIDING: list[tuple[str, Callable[[OpenStore], object], Callable[[OpenStore], object]]] = [
    (
        "private",
        lambda store: store.apply(said("c", 1000, visibility=PRIVATE)),
        lambda store: store.apply(said("c", 1001, visibility=FOLLOWING_HIDDEN)),
    ),
    (
        "withheld",
        lambda store: store.accounts(AccountRecord("c", visibility=WITHHELD), now=1000),
        lambda store: store.accounts(AccountRecord("c", visibility=PUBLIC), now=1001),
    ),
    (
        "nameless",
        lambda store: store.apply(said("thief", 1000, username="c")),
        lambda store: store.apply(said("c", 1001, username="c")),
    ),
]


@pytest.mark.parametrize(("hide", "show"), [case[1:] for case in HIDING], ids=[case[0] for case in HIDING])
@pytest.mark.parametrize("is_tidied", [False, True])
@pytest.mark.parametrize("direction", Direction)
def test_who_comes_back_stands_where_it_stood(
    store: OpenStore,
    direction: Direction,
    is_tidied: bool,
    hide: Callable[[OpenStore], object],
    show: Callable[[OpenStore], object],
) -> None:
    """Visibility is no part of a list: its places stay taken, today's and those of the past."""
    pairs = [("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("a", "e", 500)]
    pairs = [(a, b, at) if direction is FOLLOWING else (b, a, at) for a, b, at in pairs]
    owner, other = ("a", "c") if direction is FOLLOWING else ("c", "a")
    store.apply(*(followed(*pair) for pair in pairs))
    store.apply(unfollowed(owner, other, 400), followed(owner, other, 500))
    assert store.positions("a", direction) == [500, 499, 300, 298]

    hide(store)
    assert store.names("a", direction) == ["e", "b", "d"]
    if is_tidied:
        store.tidy()
    assert store.names("a", direction) == ["e", "b", "d"]
    assert store.names("a", direction, as_of=350) == ["b", "d"]
    assert store.counts("a") == ((4, 0) if direction is FOLLOWING else (0, 4))
    store.apply(followed(*(("a", "f", 500) if direction is FOLLOWING else ("f", "a", 500))))
    assert store.positions("a", direction) == [500, 498, 300, 298]

    show(store)
    assert store.names("a", direction) == ["e", "c", "f", "b", "d"]
    if is_tidied:
        store.tidy()
    assert store.names("a", direction) == ["e", "c", "f", "b", "d"]
    assert store.positions("a", direction) == [500, 499, 498, 300, 298]
    assert store.positions("a", direction, as_of=350) == [300, 299, 298]


@pytest.mark.parametrize("is_tidied", [False, True])
def test_what_happens_to_whoever_is_no_row_is_there_afterwards(store: OpenStore, is_tidied: bool) -> None:
    """Follows begin, move and end for hidden accounts as for all others."""
    store.apply(followed("a", "x", 300), followed("a", "y", 300), followed("a", "z", 300), followed("y", "x", 300))
    store.apply(*(said(key, 400, visibility=WITHHELD) for key in ("x", "y")))
    if is_tidied:
        store.tidy()
    store.apply(unfollowed("a", "x", 500), followed("a", "y", 200), followed("y", "z", 300), followed("b", "x", 1))
    assert store.names("a") == ["z"]
    assert store.counts("a") == (2, 0)

    store.apply(*(said(key, 600, visibility=PUBLIC) for key in ("x", "y")))
    if is_tidied:
        store.tidy()
    assert (store.names("a"), store.positions("a")) == (["z", "y"], [298, 200])
    assert (store.names("a", as_of=450), store.positions("a", as_of=450)) == (["x", "z", "y"], [300, 298, 200])
    assert store.names("x", FOLLOWERS) == ["y", "b"]
    assert store.names("y") == ["x", "z"]


@pytest.mark.parametrize("is_tidied", [False, True])
def test_counts_hold_all_but_the_erased(store: OpenStore, is_tidied: bool) -> None:
    """Rows, private and withheld ones; follows that go on, each once."""
    for number, visibility in enumerate(Visibility):
        store.apply(said(f"v{number}", 5, visibility=visibility), followed("a", f"v{number}", 10 + number))
        store.apply(followed(f"v{number}", "a", 10))
    store.apply(followed("a", "ended", 5), unfollowed("a", "ended", 6))
    store.apply(followed("a", "gone", 5), followed("gone", "a", 5))
    store.erase("gone")
    if is_tidied:
        store.tidy()

    assert store.counts("a") == (4, 4)
    assert store.names("a") == ["v1", "v0"]
    assert sorted(store.names("a", FOLLOWERS)) == ["v0", "v1"]
    assert store.counts("v3") == (1, 1)


# Erasure


@pytest.mark.parametrize("is_tidied", [False, True])
def test_who_is_erased_is_gone_from_lists_and_counts(store: OpenStore, is_tidied: bool) -> None:
    """Today and in the past, in both directions; the others stay where they are."""
    store.follow(("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("c", "a", 100), ("c", "d", 100))
    store.apply(unfollowed("a", "c", 400), followed("a", "c", 500))
    erased = store.id("c")

    assert store.erase("c") == [A]
    if is_tidied:
        store.tidy()
    assert not store.knows("c")
    assert run(store.graph.profile(erased)) is None
    assert (store.names("a"), store.positions("a")) == (["b", "d"], [300, 298])
    assert store.names("a", as_of=350) == ["b", "d"]
    assert store.names("a", FOLLOWERS) == store.names("a", FOLLOWERS, as_of=200) == []
    assert store.names("d", FOLLOWERS) == ["a"]
    assert store.counts("a") == (2, 0)
    assert store.counts("d") == (0, 1)
    for direction in Direction:
        assert run(store.graph.read(Stretch(erased, direction, NOW, 5))) == Slice([], 0, has_more=False)


@pytest.mark.parametrize("is_tidied", [False, True])
def test_whatever_comes_for_the_erased_is_refused(store: OpenStore, is_tidied: bool) -> None:
    """By key or by a username it ever had, and nobody is created for it."""
    store.apply(said("17", 100, username="anna"), said("17", 200, username="annika"), followed("17", "b", 100))
    store.erase("17")
    if is_tidied:
        store.tidy()

    assert store.apply(followed("17", "new", 300), followed("new", "17", 300), unfollowed("17", "b", 300)) == [E, E, E]
    assert store.apply(said("17", 300, username="new"), said("17", 300)) == [E, E]
    assert store.follow(("17", "new", 300), ("new", "ANNA", 300), ("annika", "new", None)) == [E, E, E]
    records = (AccountRecord("anna"), AccountRecord("@Annika"), AccountRecord("x", key="17"), AccountRecord(key="17"))
    assert store.accounts(*records) == [E, E, E, E]
    assert store.erase("17") == [D]
    assert not any(store.knows(name) for name in ("17", "anna", "annika", "new", "x"))
    assert store.counts("b") == (0, 0)
    assert run(store.writer.end_missing("anna", [], 300)) == 0
    assert run(store.writer.end_missing("b", ["anna"], 300)) == 0


def test_who_is_erased_before_it_is_known_stays_unknown(store: OpenStore) -> None:
    """The order of arrival does not count."""
    assert store.erase("17") == [A]
    assert store.apply(followed("17", "b", 100), said("17", 100, username="anna")) == [E, E]

    assert not store.knows("17")
    assert not store.knows("b")


def test_a_follow_in_the_same_batch_does_not_outlive_an_erasure(store: OpenStore) -> None:
    """Events are applied in their order."""
    assert store.apply(followed("a", "b", 100), ErasureEvent("b", 200), followed("a", "b", 300)) == [A, A, E]

    assert store.names("a") == []
    assert store.counts("a") == (0, 0)


def test_another_account_may_claim_an_erased_ones_name(store: OpenStore) -> None:
    """From then on the name means that one, whatever the seconds of the claims."""
    store.apply(said("17", 200, username="anna"), followed("fan", "17", 100))
    store.erase("17")

    assert store.apply(said("18", 100, username="anna")) == [A]
    assert store.knows("anna")
    assert store.follow(("fan", "anna", 300)) == [A]
    assert store.names("fan") == ["anna"]
    assert store.accounts(AccountRecord("anna", display_name="Anna")) == [U]
    assert store.accounts(AccountRecord("annika", key="18"), now=NOW + 1) == [U]
    assert store.follow(("fan", "anna", 300)) == [E]
    assert store.accounts(AccountRecord("anna", key="19"), now=NOW + 2) == [A]
    assert store.follow(("fan", "anna", 300)) == [A]


@pytest.mark.parametrize("is_erased_first", [False, True])
def test_an_erased_ones_claims_are_gone(store: OpenStore, is_erased_first: bool) -> None:
    """The name is with whoever made the best claim of those that are left, as if the erased one had never been."""
    if is_erased_first:
        store.erase("18")
    store.apply(said("17", 100, username="anna"), said("18", 200, username="anna"), followed("fan", "17", 100))
    assert store.names("fan") == (["anna"] if is_erased_first else [])

    store.erase("18")
    assert store.names("fan") == ["anna"]
    store.tidy()
    assert store.names("fan") == ["anna"]


@pytest.mark.parametrize("is_erased_first", [False, True])
def test_what_is_left_of_a_names_claims_counts_as_before(store: OpenStore, is_erased_first: bool) -> None:
    """Also the claim of somebody who goes by another name now stands against older ones."""
    if is_erased_first:
        store.erase("18")
    store.apply(said("17", 100, username="anna"), said("17", 300, username="annika"), said("19", 50, username="anna"))
    store.apply(said("18", 200, username="anna"))
    store.erase("18")

    assert store.knows("annika")
    assert not store.knows("anna")


def test_compacting_changes_nothing_that_can_be_seen(store: OpenStore) -> None:
    """It only ends what is left to do."""
    store.apply(*(followed("a", f"f{n}", 100) for n in range(10)), said("f3", 200, visibility=PRIVATE))
    store.erase("f5")
    before = store.names("a"), store.positions("a"), store.counts("a")

    run(store.writer.compact())
    assert not run(store.writer.tidy())
    assert before == (store.names("a"), store.positions("a"), store.counts("a"))
    store.apply(followed("a", "f5", 300), said("f3", 300, visibility=PUBLIC))
    assert store.names("a") == [f"f{n}" for n in range(10) if n != 5]


def test_the_seconds_of_the_erased_are_free_when_all_is_tidy(store: OpenStore) -> None:
    """Nothing is left of them."""
    store.apply(followed("a", "b", 300), followed("c", "a", 300), followed("a", "d", 200), unfollowed("a", "d", 250))
    store.erase("b", "c", "d")
    store.tidy()

    store.apply(followed("a", "x", 300), followed("y", "a", 300), followed("a", "z", 200))
    assert store.positions("a") == [300, 200]
    assert store.positions("a", FOLLOWERS) == [300]


# Writers


def test_what_is_written_is_there_after_opening_again(store: OpenStore) -> None:
    """Nothing lives in the writer's memory."""
    store.follow(("a", "b", 100), ("a", "c", 100), ("a", "d", 100))
    store.apply(unfollowed("a", "c", 200), said("b", 100, username="ben"), said("d", 100, visibility=PRIVATE))
    store.erase("x")
    run(store.writer.settle())
    again = store.again()

    assert again.names("a") == ["ben"]
    assert sorted(again.names("a", as_of=100)) == ["ben", "c"]
    assert again.follow(("a", "b", 100), ("a", "x", 100)) == [D, E]
    assert again.apply(unfollowed("a", "c", 200), said("b", 100, username="ben")) == [D, D]
    again.follow(("a", "e", 100))
    assert again.positions("a") == [100, 97]


def test_two_writers_take_turns(store: OpenStore) -> None:
    """What one writer remembers never contradicts what another wrote."""
    other = store.again()
    store.follow(("a", "anna", 100))
    other.accounts(AccountRecord("anna", key="17"))
    other.accounts(AccountRecord("annika", key="17"), now=NOW + 1)
    store.follow(("a", "anna", 200), ("b", "anna", 200))
    assert store.names("a") == ["annika"]
    assert store.counts("a") == (2, 0)
    store.accounts(AccountRecord("anna"), now=NOW + 2)
    assert store.names("a") == ["anna", "annika"]
    assert other.names("b") == ["anna"]

    other.apply(unfollowed("a", "17", 300), followed("a", "x", 200), followed("b", "17", 200))
    store.apply(followed("a", "17", 400), followed("a", "y", 200), followed("c", "17", 200))
    other.erase("anna")
    assert store.follow(("a", "anna", 500)) == [E]
    assert (store.names("a"), store.positions("a")) == (["annika", "x", "y"], [400, 199, 198])
    assert other.names("annika", FOLLOWERS) == ["a", "b", "c"]


def test_an_empty_batch_is_nothing(store: OpenStore) -> None:
    """No records, no events, no verdicts."""
    assert store.follow() == store.accounts() == store.apply() == []


def test_clients_and_tokens(begin: Begin) -> None:
    """Clients are kept, listed and changed; tokens are found until they are forgotten or their client may not ask."""
    site = begin()
    access = site.open_access()
    window = {"not_before": 50, "not_after": 1500}
    quota = Quota(7, None, 9, Rate(3, 60))
    one = Client("k1", "One", frozenset({"s", "t"}), 100, contact="c", notes="n", quota=quota, **window)
    two = Client("k2", "Two", frozenset({"s"}), 200)
    digests = [bytes([n]) * 32 for n in range(4)]

    async def story() -> None:
        assert await access.find_client("k1") is None
        first, second = await access.add_client(one, digests[0]), await access.add_client(two, digests[1])
        assert [replace(one, id=first.id), replace(two, id=second.id)] == [first, second]
        assert (first, Secrets(digests[0])) == await access.find_client("k1")
        assert [first, second] == await access.clients()
        for number, digest in enumerate(digests):
            await access.add_token(digest, first.id if number else second.id, 1000 + number)
        earliest = 1001 - TOKEN_SECONDS - CLOCK_SKEW_SECONDS
        grant = Grant("k1", frozenset({"s", "t"}), max(50, earliest), 1001, Meter(first.id, 100), quota)
        assert grant == await access.find_grant(digests[1])
        assert await access.find_grant(b"x" * 32) is None
        assert await access.forget_tokens(1001) == 2
        assert [None, None] == [await access.find_grant(digest) for digest in digests[:2]]
        assert not await access.remove_token(digests[2], second.id)
        assert await access.remove_token(digests[2], first.id)
        assert not await access.remove_token(digests[2], first.id)
        change = ClientChange(scopes=frozenset({"u"}), not_after=1002, rate=None, list_calls=1)
        assert [True, False] == [await access.change_client(key, change) for key in ("k1", "nobody")]
        changed = await access.find_grant(digests[3])
        assert changed is not None
        assert (frozenset({"u"}), 1002) == (changed.scopes, changed.expires_at)
        assert Quota(1, None, 9, None) == changed.quota
        assert await access.change_client("k1", ClientChange())
        assert await access.rotate_secret("k1", digests[3], 700)
        found = await access.find_client("k1")
        assert found is not None
        assert Secrets(digests[3], digests[0], 700) == found[1]
        assert await access.suspend_client("k1", 250)
        assert await access.find_grant(digests[3]) is None
        assert await access.suspend_client("k1", None)
        assert await access.find_grant(digests[3]) is not None
        assert [True, True, False] == [
            await access.revoke_client(key, at) for key, at in (("k1", 3), ("k1", 4), ("x", 5))
        ]
        assert [3, None] == [client.revoked_at for client in await access.clients()]
        assert await access.find_grant(digests[3]) is None

    run(story())
    access.close()
    site.close()
