"""Lists: order, positions, and follows that repeat or move; for every store and the model."""

import pytest

from retinue.model import AccountRecord, Direction, FollowEvent, FollowRecord, PageRequest, PageRows
from support.store_contract import FOLLOWERS, FOLLOWING, NOW, A, D, OpenStore, S, U, followed, run, unfollowed


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
        found = store.page_rows("a", lambda owner, b=bound, n=limit: PageRequest(owner, direction, b, n))  # type: ignore[misc]
        assert (expected, oldest, has_more) == ([row.username for row in found.rows], found.oldest, found.has_more)


def test_both_lists_tell_the_same_follows(store: OpenStore) -> None:
    """Every account in a following list has the other in its followers list."""
    people = ["a", "b", "c", "d"]
    pairs = {("a", "b"), ("b", "a"), ("a", "c"), ("d", "c"), ("b", "c"), ("c", "d")}
    store.follow(*((a, b, 100) for a, b in sorted(pairs)))

    assert pairs == {(a, b) for a in people for b in store.names(a)}
    assert pairs == {(a, b) for b in people for a in store.names(b, FOLLOWERS)}


def test_a_follow_may_have_different_positions_in_two_lists(store: OpenStore) -> None:
    """Each list has seconds of its own; the true second is one."""
    store.follow(("a", "x", 100), ("a", "b", 100), ("c", "b", 99), ("c", "x", 99))

    assert (store.positions("a"), store.names("a")) == ([100, 99], ["x", "b"])
    assert (store.positions("b", FOLLOWERS), store.names("b", FOLLOWERS)) == ([100, 99], ["a", "c"])
    assert (store.positions("x", FOLLOWERS), store.names("x", FOLLOWERS)) == ([100, 99], ["a", "c"])
    assert store.names("a", as_of=99) == []
    assert store.names("a", as_of=100) == ["x", "b"]


def test_a_follow_may_have_the_position_of_its_receipt(store: OpenStore) -> None:
    """But none after it."""
    rows = [("b", 300, NOW), ("c", 400, NOW + 1)]
    records = [FollowRecord("a", name, at, NOW, following_position=position) for name, at, position in rows]
    assert run(store.writer.add_follows(records)) == [A, A]
    assert store.positions("a") == [NOW, 400]


def test_rows_of_one_second_keep_the_order_of_storing(store: OpenStore) -> None:
    """The first row of a second is the newest; the next ones stand on the nearest free earlier seconds."""
    store.follow(("a", "x", 299), ("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("a", "y", 298))

    assert store.names("a") == ["b", "x", "c", "d", "y"]
    assert store.positions("a") == [300, 299, 298, 297, 296]


@pytest.mark.parametrize("direction", Direction)
def test_many_follows_in_one_second_take_earlier_slots(store: OpenStore, direction: Direction) -> None:
    """Each has a second of its own, without a gap, in the order of storing."""
    others = [f"f{n}" for n in range(400)]
    store.follow(*(("a", one, 1000) if direction is FOLLOWING else (one, "a", 1000) for one in others))

    assert others == store.names("a", direction)
    assert list(range(1000, 600, -1)) == store.positions("a", direction)
    assert sorted(others) == sorted(store.names("a", direction, as_of=1000))
    assert store.names("a", direction, as_of=999) == []


def test_a_later_slot_is_taken_if_no_earlier_one_is_free(store: OpenStore) -> None:
    """Seconds begin at 1."""
    store.follow(*(("a", f"f{n}", 2) for n in range(5)))

    assert store.positions("a") == [5, 4, 3, 2, 1]
    assert {"f0", "f1", "f2", "f3", "f4"} == set(store.names("a"))


@pytest.mark.parametrize("direction", Direction)
def test_a_crowded_list_takes_later_slots_than_now(store: OpenStore, direction: Direction) -> None:
    """A follow is stored behind its second, even behind the present one, and can be found there."""
    others = ["b", "c", "d", "e", "f"]
    rows = [("a", one, 2) if direction is FOLLOWING else (one, "a", 2) for one in others]

    assert store.follow(*rows[:4], now=3) == [A, A, A, A]
    assert store.apply(FollowEvent(*rows[4]), now=3) == [A]
    assert store.positions("a", direction) == [5, 4, 3, 2, 1]
    assert store.names("a", direction) == ["f", "e", "d", "b", "c"]
    assert [store.names("a", direction, as_of=second) for second in (1, 2)] == [[], ["f", "e", "d", "b", "c"]]
    assert store.follow(*rows, now=4) == [D, D, D, D, D]
    assert store.apply(unfollowed(*rows[3][:2], 3), now=4) == [A]
    assert store.positions("a", direction) == [5, 3, 2, 1]
    assert store.names("a", direction, as_of=2) == ["f", "e", "d", "b", "c"]


def test_follows_are_idempotent(store: OpenStore) -> None:
    """The same follow again or without a time is a duplicate; a later one is new, and changes no list."""
    assert store.follow(("a", "b", 100), ("a", "c", 100)) == [A, A]
    before = store.positions("a")

    assert store.follow(("a", "b", 100), ("a", "b", None), ("a", "c", 100)) == [D, D, D]
    assert store.follow(("a", "b", 500), ("a", "b", 500)) == [U, D]
    assert before == store.positions("a")
    assert store.names("a") == ["b", "c"]


def test_an_earlier_time_moves_a_follow_and_frees_its_slot(store: OpenStore) -> None:
    """A follow that began earlier stands earlier; the second it leaves can be taken again."""
    store.follow(("a", "b", 300), ("a", "c", 300), ("a", "d", 300))

    assert store.follow(("a", "c", 100)) == [U]
    assert store.positions("a") == [300, 298, 100]
    assert store.names("a") == ["b", "d", "c"]
    store.follow(("a", "e", 300))
    assert store.positions("a") == [300, 299, 298, 100]
    assert store.names("a") == ["b", "e", "d", "c"]


def test_a_moved_follow_may_reuse_its_slot(store: OpenStore) -> None:
    """Removed intervals free their slots before new ones are placed."""
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


def test_an_account_cannot_follow_itself(store: OpenStore) -> None:
    """It cannot in any spelling, and the attempt creates no account."""
    assert store.follow(("a", "a", 100), ("a", "@A", 100)) == [S, S]
    assert store.apply(followed("a", "a", 100), unfollowed("a", "a", 100)) == [S, S]
    assert not store.knows("a")

    store.accounts(AccountRecord("anna", key="17"))
    assert store.follow(("17", "Anna", 100)) == [S]


def test_a_list_without_an_owner_is_empty(store: OpenStore) -> None:
    """An unknown id has no rows and no profile."""
    for direction in Direction:
        assert run(store.graph.read(PageRequest(12345, direction, NOW, 10))) == PageRows([], 0, has_more=False)
    assert run(store.graph.profile(12345)) is None
