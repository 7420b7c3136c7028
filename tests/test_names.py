"""How names compare and are answered."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue import names


@given(st.text(min_size=1))
def test_folding_is_nfc_of_casefold_of_nfc(name: str) -> None:
    """The quick way for ASCII agrees with the definition."""
    bare = name.removeprefix("@")
    slow = unicodedata.normalize("NFC", unicodedata.normalize("NFC", bare).casefold())

    assert slow == names.fold(name)


@pytest.mark.parametrize(
    ("name", "answered"),
    [("Anna_B.9", "anna_b.9"), ("@Anna", "anna"), ("Søren", "Søren"), ("ANNA-B", "ANNA-B"), ("@@x", "@x")],
)
def test_names_are_answered_as_imported_but_plain_ones_in_lower_case(name: str, answered: str) -> None:
    """Only names all of letters, digits, `_` and `.` are lower-cased in answers."""
    assert answered == names.as_answered(name)


@given(st.one_of(st.text(max_size=3), st.text("aZ9_.@\n", max_size=70)))
def test_a_key_and_username_is_both_without_a_change(text: str) -> None:
    """The quick way for short plain texts agrees with the definition."""
    slow = names.fault_in_username(text) is None and names.is_own_key(text)

    assert slow == names.is_key_and_username(text)


@given(st.text(min_size=1))
def test_keys_derived_from_a_name_fit_and_are_recognized(name: str) -> None:
    """A made key has at most 64 bytes, and tells that it was made of that name."""
    folded = names.fold(name)

    for key in names.keys_of_name(name):
        assert len(key.encode()) <= names.MAX_KEY_BYTES
        assert names.is_made_of(key, folded)
        assert not names.is_made_of(key, folded + "x")
    assert names.keys_of_name(folded) == names.keys_of_name("@" + folded)


@pytest.mark.parametrize("name", ["a", "x" * 255, "@" + "x" * 255, "мария", "名前", "a|b", "http://x/@y", "🎉"])
def test_good_usernames(name: str) -> None:
    """Printable text without whitespace is a username, whatever the script."""
    assert names.fault_in_username(name) is None


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("", "empty"),
        ("@", "empty"),
        ("x" * 256, "longer"),
        ("a b", "whitespace"),
        ("a\tb", "whitespace"),
        ("a\0", "printed"),
    ],
)
def test_bad_usernames(name: str, fault: str) -> None:
    """An invalid username has a reason."""
    assert fault in (names.fault_in_username(name) or "")


@pytest.mark.parametrize(("key", "fault"), [("", "empty"), ("ä" * 33, "longer than 64 bytes"), ("a\n", "printed")])
def test_bad_keys(key: str, fault: str) -> None:
    """An invalid key has a reason."""
    assert fault in (names.fault_in_key(key) or "")
