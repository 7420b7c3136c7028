"""Which account has a username that several claim; for every store and the model."""

import pytest

from retinue.model import AccountRecord, Direction, PageRequest, Row
from support.store_contract import FOLLOWING, NOW, A, D, OpenStore, U, followed, run, said


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
    """The order of the claims makes no difference, and neither does a repetition."""
    records = [AccountRecord("anna", key=key, display_name=key) for key in keys]
    store.accounts(*records, now=100)
    store.follow(("fan", "17", 100), ("fan", "18", 200))
    assert store.rows("fan") == [Row("17", "anna")]

    assert store.accounts(*records, now=100) == [D, D]
    store.accounts(*records, now=101)
    assert store.rows("fan") == [Row("17", "anna")]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_a_name_that_was_left_is_not_won_by_an_older_claim(store: OpenStore, order: tuple[int, ...]) -> None:
    """The latest claim to a name counts, also if its account has another name now."""
    events = [said("17", 200, username="anna"), said("17", 300, username="annika"), said("18", 100, username="anna")]
    for number in order:
        store.apply(events[number])

    assert store.knows("annika")
    assert not store.knows("anna")
    assert not store.knows("18")
    assert store.apply(said("18", 201, username="anna")) == [A]
    assert store.knows("anna")


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (2, 0, 1)])
def test_a_released_name_has_no_owner(store: OpenStore, order: tuple[int, ...]) -> None:
    """A loser has no username until it claims another, or the same one later."""
    events = [said("17", 100, username="anna"), said("18", 200, username="anna"), said("18", 300, username="bea")]
    for number in order:
        store.apply(events[number])

    assert store.knows("bea")
    assert not store.knows("anna")
    store.apply(said("17", 250, username="anna"))
    assert store.knows("anna")


def test_a_late_claim_is_an_update_if_it_wins(store: OpenStore) -> None:
    """It does not change what its account is called, but who else may be called so."""
    store.apply(said("17", 300, username="annika"), said("18", 100, username="anna"))
    assert store.knows("anna")

    assert store.apply(said("17", 200, username="anna")) == [A]
    assert not store.knows("anna")
    assert store.apply(said("17", 200, username="anna"), said("17", 150, username="anna")) == [D, D]


def test_an_account_without_a_name_is_withheld(store: OpenStore) -> None:
    """The account is in no list, present or past, but is counted, and its own lists continue."""
    store.apply(said("17", 100, username="anna"), followed("fan", "17", 100), followed("17", "fan", 100))
    loser = store.id("anna")
    store.apply(said("18", 200, username="anna"))

    for direction in Direction:
        assert store.names("fan", direction) == store.names("fan", direction, as_of=150) == []
    assert store.counts("fan") == (1, 1)
    profile = run(store.graph.profile(loser))
    assert profile is not None
    assert (profile.following_count, profile.follower_count) == (1, 1)
    assert run(store.graph.read(PageRequest(loser, FOLLOWING, NOW, 5))).rows == [Row("", "fan")]
