"""Names and fields of accounts; for every store and the model."""

from typing import Any

from retinue.model import AccountEvent, AccountRecord, Profile, Row
from support.store_contract import (
    FOLLOWERS,
    FOLLOWING_HIDDEN,
    NOW,
    PRIVATE,
    PUBLIC,
    A,
    D,
    OpenStore,
    U,
    followed,
    run,
    said,
    unfollowed,
)


def test_an_account_known_by_key_alone_has_it_as_its_name(store: OpenStore) -> None:
    """The key becomes the username if it is a valid one, as the weakest claim."""
    store.apply(followed("17", "no name", 100), said("18", 1, display_name="Eighteen"), unfollowed("19", "18", 5))
    assert store.names("17") == []
    assert store.counts("17") == (1, 0)
    assert store.knows("18")
    assert store.knows("19")

    store.apply(said("99", 1, username="17"))
    assert store.counts("17") == (0, 0)


def test_records_change_only_their_fields(store: OpenStore) -> None:
    """A repeated record is a duplicate; a new display name reaches lists within a second."""
    store.follow(("fan", "anna", 100))
    assert store.accounts(*[AccountRecord("anna", display_name="Anna", likes_count=3)] * 2) == [U, D]
    assert store.rows("fan") == [Row("Anna", "anna")]

    assert store.accounts(AccountRecord("ANNA")) == [D]
    assert store.accounts(AccountRecord("anna", likes_count=4), now=NOW + 1) == [U]
    assert store.accounts(AccountRecord("anna", display_name="Anna 2"), now=NOW + 1) == [U]
    assert store.rows("fan") == [Row("Anna 2", "anna")]
    assert store.profile("anna").likes_count == 4


def test_the_latest_value_of_each_field_wins(store: OpenStore) -> None:
    """Field by field, whatever the order of arrival."""
    assert store.apply(said("1", 200, display_name="new", likes_count=5)) == [A]
    assert store.apply(said("1", 100, display_name="old", bio_url="http://x")) == [A]
    assert store.apply(said("1", 150, likes_count=900)) == [D]
    assert store.apply(said("1", 300, likes_count=4)) == [A]

    profile = store.profile("1")
    assert (profile.display_name, profile.likes_count, profile.bio_url) == ("new", 4, "http://x")


def test_the_larger_value_of_one_second_wins(store: OpenStore) -> None:
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
    """Return the fields of a record as keywords."""
    return {name: getattr(record, name) for name in record.__struct_fields__}


def test_the_same_value_at_a_later_second_is_an_update(store: OpenStore) -> None:
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
    """A field cannot be claimed for the future."""
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


def test_a_late_rename_changes_nothing(store: OpenStore) -> None:
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
