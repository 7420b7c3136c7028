"""The history of a pair: intervals as a pure function of the set of its events."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.history import Interval, Moment, intervals

LAST = 12
MOMENTS = st.lists(st.builds(Moment, st.integers(1, LAST), st.booleans()), max_size=16)


def follow(at: int) -> Moment:
    """Return a follow."""
    return Moment(at)


def unfollow(at: int) -> Moment:
    """Return an unfollow."""
    return Moment(at, is_unfollow=True)


@pytest.mark.parametrize(
    ("moments", "expected"),
    [
        ([], []),
        ([follow(5)], [(5, None)]),
        ([unfollow(5)], []),
        ([follow(5), unfollow(9)], [(5, 9)]),
        ([unfollow(9), follow(5)], [(5, 9)]),
        ([unfollow(5), follow(9)], [(9, None)]),
        ([follow(5), follow(7)], [(5, None)]),
        ([follow(5), follow(7), unfollow(6)], [(5, 6), (7, None)]),
        ([follow(5), unfollow(7), unfollow(9)], [(5, 7)]),
        ([follow(5), unfollow(5)], []),
        ([follow(5), unfollow(5), follow(6)], [(6, None)]),
        ([follow(3), follow(5), unfollow(5)], [(3, 5)]),
        ([follow(5), unfollow(7), follow(7), unfollow(9)], [(5, 7)]),
        ([follow(5), unfollow(7), follow(9), unfollow(11), follow(12)], [(5, 7), (9, 11), (12, None)]),
    ],
)
def test_events_make_intervals(moments: list[Moment], expected: list[tuple[int, int | None]]) -> None:
    """The law, case by case; at one second the unfollow comes after the follow."""
    assert [Interval(*one) for one in expected] == intervals(moments)


@given(MOMENTS)
def test_intervals_are_ordered_and_disjoint(moments: list[Moment]) -> None:
    """Each holds a second at least, ends before the next one starts, and only the last one may go on."""
    found = intervals(moments)

    assert all(one.end is not None for one in found[:-1])
    assert all(one.end is None or one.start < one.end for one in found)
    assert all(one.end is not None and one.end < other.start for one, other in itertools.pairwise(found))


@given(MOMENTS, st.data())
def test_order_and_repetition_do_not_change_a_history(moments: list[Moment], data: st.DataObject) -> None:
    """Only the set of events counts."""
    again = data.draw(st.lists(st.sampled_from(moments))) if moments else []
    shuffled = data.draw(st.permutations([*moments, *again]))

    assert intervals(moments) == intervals(shuffled) == intervals(iter(shuffled))


@given(MOMENTS)
def test_a_history_equals_applying_events_one_by_one(moments: list[Moment]) -> None:
    """Second by second: a follow begins it, an unfollow ends it, and an interval is a run of followed seconds."""
    followed = []
    is_followed = False
    for second in range(LAST + 1):
        is_followed = (is_followed or follow(second) in moments) and unfollow(second) not in moments
        followed.append(is_followed)

    found = intervals(moments)

    for second, expected in enumerate(followed):
        holding = [one for one in found if one.start <= second and (one.end is None or second < one.end)]
        assert (len(holding) == 1) == expected
    assert len(found) == sum(now and not before for before, now in itertools.pairwise([False, *followed]))
    assert any(one.end is None for one in found) == is_followed


@given(MOMENTS, st.builds(Moment, st.integers(1, LAST), st.booleans()))
def test_one_event_begins_at_most_one_interval(moments: list[Moment], added: Moment) -> None:
    """The number of intervals to place again is bounded, however long the history is."""
    before, after = ({one.start for one in intervals(known)} for known in (moments, [*moments, added]))

    assert len(before - after) <= 1
    assert len(after - before) <= 1
