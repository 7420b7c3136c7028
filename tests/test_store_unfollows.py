"""Follows that end, and lists of the past; for every store and the model."""

import pytest

from retinue import names
from retinue.model import AccountRecord, Direction, Event, PageRequest, PageRows, Row
from support.store_contract import (
    FOLLOWERS,
    FOLLOWING,
    FOLLOWING_HIDDEN,
    NOW,
    PRIVATE,
    A,
    D,
    OpenStore,
    S,
    U,
    followed,
    run,
    said,
    unfollowed,
)


def test_an_unfollow_ends_a_follow_in_both_lists(store: OpenStore) -> None:
    """The follow is in no present list, and still in the list of its time."""
    store.apply(followed("a", "b", 100), followed("a", "c", 150))

    assert store.apply(unfollowed("a", "b", 200)) == [A]
    assert store.names("a") == ["c"]
    assert store.names("b", FOLLOWERS) == []
    assert store.names("a", as_of=199) == ["c", "b"]
    assert store.names("b", FOLLOWERS, as_of=199) == ["a"]


@pytest.mark.parametrize("direction", Direction)
def test_an_interval_includes_its_start_and_excludes_its_end(store: OpenStore, direction: Direction) -> None:
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
    found = store.page_rows("a", lambda owner: PageRequest(owner, FOLLOWING, 99, 1, 200))
    assert found == PageRows([Row("", "f2")], 98, has_more=True)


def test_a_follow_after_an_unfollow_takes_a_new_slot(store: OpenStore) -> None:
    """It is another interval; the old one keeps its place in the past."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 200), followed("a", "b", 300))

    assert store.positions("a") == [300]
    assert store.positions("a", as_of=150) == [100]
    assert store.counts("a") == (1, 0)
    assert store.counts("b") == (0, 1)


def test_the_slot_of_an_ended_follow_is_never_reused(store: OpenStore) -> None:
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


def test_an_unfollow_that_splits_an_interval_keeps_its_first_slot(store: OpenStore) -> None:
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


def test_an_earlier_unfollow_replaces_a_later_end(store: OpenStore) -> None:
    """The earliest unfollow after the start counts, and the later one has nothing to end."""
    store.apply(followed("a", "b", 100), unfollowed("a", "b", 300), unfollowed("a", "b", 200))

    assert store.names("a", as_of=199) == ["b"]
    assert store.names("a", as_of=200) == []
    assert store.apply(unfollowed("a", "b", 200)) == [D]


def test_events_are_idempotent(store: OpenStore) -> None:
    """A repeated event is a duplicate in any order."""
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


def test_a_row_from_the_future_counts_as_now(store: OpenStore) -> None:
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


def test_a_new_key_takes_precedence_over_an_old_name(store: OpenStore) -> None:
    """A writer that has looked for a name looks again when an account comes whose key it is."""
    store.accounts(AccountRecord("2", "6", "x"))
    assert run(store.writer.keys_of(["2"])) == ["6"]

    store.accounts(AccountRecord(key="2"))
    assert run(store.writer.keys_of(["2"])) == ["2"]


def test_a_name_may_move_to_new_accounts_repeatedly(store: OpenStore) -> None:
    """Each account of a name needs its own key, also if the derived keys are taken."""
    hashed = names.keys_of_name("x")[1]
    assert store.accounts(AccountRecord("x")) == [A]
    store.apply(said("x", NOW + 1, username="y"), now=NOW + 1)
    assert store.accounts(AccountRecord("x"), now=NOW + 2) == [A]
    store.apply(said(hashed, NOW + 3, username="z"), now=NOW + 3)

    assert store.accounts(AccountRecord("x"), now=NOW + 4) == [A]
    assert 3 == len({store.id(name) for name in "xyz"})


def test_seen_at_asserts_the_follow_at_that_second(store: OpenStore) -> None:
    """If the history says otherwise, a new interval begins there."""
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


def test_accounts_missing_from_a_list_are_unfollowed(store: OpenStore) -> None:
    """All accounts followed at that second are unfollowed, except those named by name or key."""
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


def test_accounts_missing_from_a_list_may_have_returned(store: OpenStore) -> None:
    """A follow known for later begins again there."""
    store.apply(followed("a", "b", 100), followed("a", "b", 300))

    assert run(store.writer.end_missing("a", [], 200)) == 1
    assert store.positions("a") == [300]
    assert store.names("a", as_of=200) == []
