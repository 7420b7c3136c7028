"""Which account a key or a username means; for every store and the model."""

import pytest

from retinue.model import AccountRecord, ErasureEvent, Event, Row
from retinue.store.contract import NotAKey
from support.store_contract import FOLLOWERS, NOW, PRIVATE, A, D, E, OpenStore, S, U, followed, run, said, unfollowed


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


def test_a_key_equal_to_an_erased_username_can_be_imported(store: OpenStore) -> None:
    """After the import it is a key like any other."""
    store.accounts(AccountRecord("anna", key="1"), AccountRecord("fan", key="5"))
    store.erase("1")
    assert store.apply(followed("5", "anna", 100)) == [E]

    assert store.accounts(AccountRecord("zed", key="anna")) == [A]
    assert store.apply(followed("5", "anna", 100)) == [A]
    assert store.names("fan") == ["zed"]


def test_a_key_equal_to_an_erased_username_can_be_erased(store: OpenStore) -> None:
    """The key is remembered then, so that not even an import brings it."""
    store.accounts(AccountRecord("anna", key="1"))
    store.erase("1")

    assert store.erase("anna", "anna") == [A, D]
    assert store.accounts(AccountRecord("zed", key="anna")) == [E]


def test_an_erased_username_in_use_names_its_account(store: OpenStore) -> None:
    """The remedy is that account's key."""
    store.accounts(AccountRecord("anna", key="1"), AccountRecord("fan", key="5"))
    store.erase("1")
    store.accounts(AccountRecord("anna", key="2"))

    events = events_of("5", "anna")
    assert store.apply(*events) == [NotAKey("anna", "2", is_current=True)] * len(events)


def test_erasing_a_key_again_names_the_present_owner_of_the_name(store: OpenStore) -> None:
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


def test_adding_ids_to_a_source_keeps_its_accounts(store: OpenStore) -> None:
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
def test_the_second_of_two_keys_of_one_name_needs_an_import(store: OpenStore, keys: tuple[str, str]) -> None:
    """An event cannot create the key, since it equals a username; an import can."""
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


def test_a_key_that_an_id_replaced_means_no_account(store: OpenStore) -> None:
    """An account that was known by name alone has another key once its source gives ids."""
    store.follow(("bob", "ann", 300))
    assert store.apply(followed("bob", "ann", 400), followed("bob", "ann", 500)) == [A, A]
    assert store.accounts(AccountRecord("bob", "7")) == [U]

    assert store.apply(followed("bob", "ann", 600)) == [NotAKey("bob", "7", is_current=True)]
    assert store.apply(unfollowed("7", "ann", 600)) == [A]
    assert store.names("bob") == []


def test_a_new_key_may_differ_from_a_known_one_in_case_alone(store: OpenStore) -> None:
    """If the known account has another username, and never had that one."""
    store.accounts(AccountRecord("bob", "Ann"))
    assert store.apply(followed("Ann", "ann", 300)) == [A]
    assert store.names("bob") == ["ann"]
