"""Under `hostile` nothing of ours loses a row, whatever is killed on the way (thousands: `make long PROOF=hostile`)."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hostile
from support.thorough import examples

SEEDS = st.integers(0, 1_000_000)


@settings(max_examples=examples(12))
@given(seed=SEEDS)
def test_the_collector_loses_nothing_though_it_is_killed(seed: int) -> None:
    """For every seed: every list is whole and exact, no page is there twice."""
    with TemporaryDirectory() as folder:
        assert hostile.TRUTH == hostile.by_collector(Path(folder), "hostile", seed)


@settings(max_examples=examples(12))
@given(seed=SEEDS)
def test_the_client_loses_nothing(seed: int) -> None:
    """For every seed: every list is whole and exact."""
    with TemporaryDirectory() as folder:
        assert hostile.TRUTH == hostile.by_client(Path(folder), "hostile", seed)


@pytest.mark.parametrize(
    ("found", "outcome"),
    [
        (["a", "b"], "exact"),
        (["a"], "missing"),
        ([], "missing"),
        (["b", "a"], "missing"),
        (["a", "b", "a"], "twice"),
        ("KeyError", "error"),
        ("NoEndError", "endless"),
    ],
)
def test_outcomes_of_lists_are_told_apart(found: list[str] | str, outcome: str) -> None:
    """Only all rows, once and in order, are exact."""
    assert outcome == hostile.outcome_of(found, ["a", "b"])
