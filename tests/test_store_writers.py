"""Several writers, one after the other and at once; for every store and the model."""

from retinue.model import AccountRecord
from support.store_contract import FOLLOWERS, NOW, PRIVATE, D, E, OpenStore, followed, run, said, unfollowed


def test_writes_survive_reopening(store: OpenStore) -> None:
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
    """The caches of one writer never contradict the writes of another."""
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


def test_an_empty_batch_does_nothing(store: OpenStore) -> None:
    """No records, no events, no verdicts."""
    assert store.follow() == store.accounts() == store.apply() == []
