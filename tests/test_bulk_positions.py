"""Positions and slot runs of a bulk load equal those that are found one by one."""

from itertools import count

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.store.sqlite import batch_insert, slot_arrays
from support.thorough import examples

SECONDS = range(60, 100)


@settings(max_examples=examples(300))
@given(
    st.lists(st.tuples(st.sets(st.sampled_from(SECONDS)), st.lists(st.sampled_from(SECONDS), max_size=20)), max_size=4)
)
def test_bulk_positions_equal_those_found_one_by_one(lists: list[tuple[set[int], list[int]]]) -> None:
    """For every list with occupied seconds, and follows from newest to oldest."""
    wanted, taken, expected = [], [], []
    for number, (occupied, seconds) in enumerate(lists):
        taken += [(number << 33) + second for second in sorted(occupied)]
        found = set(occupied)
        places = []
        for second in sorted(seconds, reverse=True):
            place = next(place for place in range(second, 0, -1) if place not in found)
            found.add(place)
            places.append(place)
        wanted += [(number, second) for second in sorted(seconds)]
        expected += places[::-1]
    table = np.array(wanted, np.int64).reshape(-1, 2)

    assert expected == slot_arrays.assign_slots(table[:, 0], table[:, 1], np.array(taken, np.int64)).tolist()


@settings(max_examples=examples(200))
@given(st.lists(st.dictionaries(st.sampled_from(SECONDS), st.booleans()), max_size=4))
def test_slot_runs_are_as_long_as_possible(lists: list[dict[int, bool]]) -> None:
    """For every set of occupied seconds, seen or not."""
    rows = [(number, second, seen[second]) for number, seen in enumerate(lists) for second in sorted(seen)]
    expected = []
    for number, seen in enumerate(lists):
        for first in sorted(second for second in seen if second - 1 not in seen):
            last = next(second for second in count(first) if second + 1 not in seen)
            if last > first or not seen[first]:
                expected.append((number, first, last))
    table = np.array(rows, np.int64).reshape(-1, 3)
    found = slot_arrays.slot_runs(table[:, 0], table[:, 1], table[:, 2].astype(bool))

    assert expected == list(zip(*(column.tolist() for column in found), strict=True))


@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, batch_insert.ROWS_AT_ONCE + 1])
def test_any_number_of_rows_is_inserted(count: int) -> None:
    """Many in one statement, and the rest one by one, each with its constant."""
    connection = apsw.Connection(":memory:")
    connection.execute("CREATE TABLE made (one, constant, other)")
    numbers = np.arange(count)
    batch_insert.insert(connection, "made", (numbers, 2 * numbers), "(?, 'x', ?)")

    assert [(n, "x", 2 * n) for n in range(count)] == connection.execute("SELECT * FROM made ORDER BY rowid").fetchall()
    connection.close()
