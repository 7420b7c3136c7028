"""Erased accounts; for every store and the model."""

import pytest

from retinue.model import AccountRecord, Direction, ErasureEvent, PageRequest, PageRows
from support.store_contract import (
    FOLLOWERS,
    NOW,
    PRIVATE,
    PUBLIC,
    A,
    D,
    E,
    OpenStore,
    U,
    followed,
    run,
    said,
    unfollowed,
)


@pytest.mark.parametrize("is_tidied", [False, True])
def test_an_erased_account_is_in_no_list_or_count(store: OpenStore, is_tidied: bool) -> None:
    """Today and in the past, in both directions; the others stay where they are."""
    store.follow(("a", "b", 300), ("a", "c", 300), ("a", "d", 300), ("c", "a", 100), ("c", "d", 100))
    store.apply(unfollowed("a", "c", 400), followed("a", "c", 500))
    erased = store.id("c")

    assert store.erase("c") == [A]
    if is_tidied:
        store.run_maintenance()
    assert not store.knows("c")
    assert run(store.graph.profile(erased)) is None
    assert (store.names("a"), store.positions("a")) == (["b", "d"], [300, 298])
    assert store.names("a", as_of=350) == ["b", "d"]
    assert store.names("a", FOLLOWERS) == store.names("a", FOLLOWERS, as_of=200) == []
    assert store.names("d", FOLLOWERS) == ["a"]
    assert store.counts("a") == (2, 0)
    assert store.counts("d") == (0, 1)
    for direction in Direction:
        assert run(store.graph.read(PageRequest(erased, direction, NOW, 5))) == PageRows([], 0, has_more=False)


@pytest.mark.parametrize("is_tidied", [False, True])
def test_events_of_erased_accounts_are_refused(store: OpenStore, is_tidied: bool) -> None:
    """They are refused by key and by any former username, and create no account."""
    store.apply(said("17", 100, username="anna"), said("17", 200, username="annika"), followed("17", "b", 100))
    store.erase("17")
    if is_tidied:
        store.run_maintenance()

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


def test_an_account_erased_before_it_is_known_stays_unknown(store: OpenStore) -> None:
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


def test_the_name_of_an_erased_account_can_be_claimed(store: OpenStore) -> None:
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
def test_claims_of_an_erased_account_are_removed(store: OpenStore, is_erased_first: bool) -> None:
    """The name goes to the best remaining claim."""
    if is_erased_first:
        store.erase("18")
    store.apply(said("17", 100, username="anna"), said("18", 200, username="anna"), followed("fan", "17", 100))
    assert store.names("fan") == (["anna"] if is_erased_first else [])

    store.erase("18")
    assert store.names("fan") == ["anna"]
    store.run_maintenance()
    assert store.names("fan") == ["anna"]


@pytest.mark.parametrize("is_erased_first", [False, True])
def test_the_other_claims_to_a_name_stay_valid(store: OpenStore, is_erased_first: bool) -> None:
    """A claim of an account with another name still counts against older claims."""
    if is_erased_first:
        store.erase("18")
    store.apply(said("17", 100, username="anna"), said("17", 300, username="annika"), said("19", 50, username="anna"))
    store.apply(said("18", 200, username="anna"))
    store.erase("18")

    assert store.knows("annika")
    assert not store.knows("anna")


def test_compacting_changes_no_list(store: OpenStore) -> None:
    """It only ends what is left to do."""
    store.apply(*(followed("a", f"f{n}", 100) for n in range(10)), said("f3", 200, visibility=PRIVATE))
    store.erase("f5")
    before = store.names("a"), store.positions("a"), store.counts("a")

    run(store.writer.compact())
    assert not run(store.writer.run_maintenance())
    assert before == (store.names("a"), store.positions("a"), store.counts("a"))
    store.apply(followed("a", "f5", 300), said("f3", 300, visibility=PUBLIC))
    assert store.names("a") == [f"f{n}" for n in range(10) if n != 5]


def test_slots_of_erased_accounts_are_free_after_maintenance(store: OpenStore) -> None:
    """Nothing is left of them."""
    store.apply(followed("a", "b", 300), followed("c", "a", 300), followed("a", "d", 200), unfollowed("a", "d", 250))
    store.erase("b", "c", "d")
    store.run_maintenance()

    store.apply(followed("a", "x", 300), followed("y", "a", 300), followed("a", "z", 200))
    assert store.positions("a") == [300, 200]
    assert store.positions("a", FOLLOWERS) == [300]
