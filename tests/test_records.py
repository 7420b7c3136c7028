"""Rows to records: accepted forms, and the reason of each rejection."""

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.ingest.records import account_record, count_nuls, follow_record
from retinue.ingest.values import BadRecord
from retinue.model import AccountRecord, FollowRecord, Visibility

NOW = 1_700_000_000


@pytest.mark.parametrize(
    ("value", "second"),
    [
        (1727336393, 1727336393),
        (1, 1),
        ("1727336393", 1727336393),
        (" 1727336393 ", 1727336393),
        (1727336393.0, 1727336393),
        ("2024-09-26T07:39:53Z", 1727336393),
        ("2024-09-26T07:39:53.999Z", 1727336393),
        ("2024-09-26 09:39:53+02:00", 1727336393),
        ("2024-09-26T07:39:53", 1727336393),
        ("2024-09-26", 1727308800),
        (datetime(2024, 9, 26, 7, 39, 53, 500, tzinfo=UTC), 1727336393),
        (datetime(2024, 9, 26, 9, 39, 53, tzinfo=timezone(timedelta(hours=2))), 1727336393),
        (datetime(2024, 9, 26, 7, 39, 53), 1727336393),  # noqa: DTZ001 - naive on purpose
        (date(2024, 9, 26), 1727308800),
        ("1727336393.0", 1727336393),
        ("1727336393.", 1727336393),
        ("9999-12-31", 253402214400),
        (date(9999, 12, 31), 253402214400),
        (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), 253402300799),
        (None, None),
        ("", None),
        ("  ", None),
    ],
)
def test_valid_times_are_parsed(value: Any, second: int | None) -> None:
    """Unix seconds and ISO 8601, with or without zone and fraction; nothing means now."""
    assert FollowRecord("a", "b", second, NOW) == follow_record(
        {"follower": "a", "followee": "b", "followed_at": value}, NOW
    )


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("yesterday", "expected Unix seconds or an ISO 8601 time, got 'yesterday'"),
        (True, "got True"),
        (1.5, "got 1.5"),
        ("12:30", "got '12:30'"),
        ([1], "got [1]"),
        ("2024-13-45", "got '2024-13-45'"),
        (0, "0 is not a Unix second of 1 or later"),
        (-5, "-5 is not a Unix second"),
        ("1969-12-31", "is not a Unix second"),
        (1727336393000, "1727336393000 is too large for a Unix second (milliseconds?)"),
        ("9" * 19, "(milliseconds?)"),
        ("9" * 30, "expected Unix seconds"),
        (datetime.min, "is not a Unix second"),  # noqa: DTZ901 - the earliest there is
    ],
)
def test_invalid_times_have_a_reason(value: Any, reason: str) -> None:
    """The reason names the field and shows the value."""
    with pytest.raises(BadRecord) as caught:
        follow_record({"follower": "a", "followee": "b", "followed_at": value}, NOW)

    assert str(caught.value).startswith("followed_at: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"followee": "b"}, "follower: is missing"),
        ({"follower": None, "followee": "b"}, "follower: is missing"),
        ({"follower": "", "followee": "b"}, "follower: is empty"),
        ({"follower": "a"}, "followee: is missing"),
        (
            {"follower": "a", "followee": "b\tc"},
            r"followee: 'b\\tc' has whitespace or characters that cannot be printed",
        ),
        ({"follower": "x" * 256, "followee": "b"}, "follower: 'x{56}... is longer than 255 characters"),
        ({"follower": 1.5, "followee": "b"}, "follower: expected text, got 1.5"),
    ],
)
def test_invalid_names_have_a_reason(values: dict[str, Any], reason: str) -> None:
    """The reason names the field."""
    with pytest.raises(BadRecord, match=reason):
        follow_record(values, NOW)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ended_at": 9}, "ended_at: 9 is there, but followed_at is missing"),
        ({"followed_at": 9, "ended_at": 9}, "ended_at: 9 is not later than followed_at, 9"),
        ({"followed_at": "9999-12-31", "ended_at": 9}, "ended_at: 9 is not later than followed_at, '9999-12-31'"),
        ({"followed_at": 9, "ended_at": "soon"}, "ended_at: expected Unix seconds"),
        ({"following_position": 0}, "following_position: 0 is not a Unix second"),
        ({"followers_position": "x"}, "followers_position: expected Unix seconds"),
    ],
)
def test_invalid_ends_and_positions_have_a_reason(values: dict[str, Any], reason: str) -> None:
    """The reason names the field and says what is wrong with it."""
    with pytest.raises(BadRecord, match=reason):
        follow_record({"follower": "a", "followee": "b", **values}, NOW)


def test_ends_and_positions_are_read() -> None:
    """In the forms that every time may have."""
    values = {"followed_at": 5, "ended_at": "1970-01-01T00:00:09Z", "following_position": "4", "followers_position": 3}

    assert FollowRecord("a", "b", 5, NOW, 9, 4, 3) == follow_record({"follower": "a", "followee": "b", **values}, NOW)


@pytest.mark.parametrize("end", [NOW + 1, "9999-12-31", "9999-12-31T00:00:00Z", date(9999, 12, 31)])
def test_an_end_in_the_future_is_ignored(end: Any) -> None:
    """Also the last day that a calendar has, with which databases say "never"."""
    row = {"follower": "a", "followee": "b", "followed_at": 5, "ended_at": end}

    assert FollowRecord("a", "b", 5, NOW) == follow_record(row, NOW)
    assert FollowRecord("a", "b", None, NOW) == follow_record(row | {"followed_at": None}, NOW)


@given(st.sampled_from(" \t\u00a0\u2003\u3000"), st.sampled_from(" \n"))
def test_whitespace_around_a_value_is_ignored(before: str, after: str) -> None:
    """Of names, keys, times, numbers and choices; texts are kept as they are."""
    plain = {
        "username": "Anna",
        "id": "1 7",
        "visibility": "private",
        "is_verified": "yes",
        "likes_count": "12",
    }
    padded = {column: f"{before}{value}{after}" for column, value in plain.items()}
    follow = {"follower": "1 7", "followee": "ben", "followed_at": "2024-09-26", "ended_at": "1727336393"}

    assert account_record(plain) == account_record(padded)
    assert follow_record(follow, NOW) == follow_record(
        {column: f"{before}{value}{after}" for column, value in follow.items()}, NOW
    )
    assert f"{before}A{after}" == account_record({"username": "a", "display_name": f"{before}A{after}"}).display_name
    assert AccountRecord(key="7") == account_record({"id": "7", "username": before + after})


def test_lone_surrogates_are_replaced() -> None:
    """In names and texts that a program hands on; a whole one stays."""
    record = account_record({"username": "anna\ud83d", "display_name": "\udc00🎉\ud83d", "id": "7\ud800"})

    assert AccountRecord("anna\ufffd", "7\ufffd", "\ufffd🎉\ufffd") == record


@pytest.mark.parametrize("values", [{"id": "7"}, {"id": 7, "username": ""}, {"id": "7", "username": None}])
def test_an_account_with_an_id_needs_no_username(values: dict[str, Any]) -> None:
    """It says nothing of the username then."""
    assert AccountRecord(key="7") == account_record(values)


def test_numbers_are_names_too() -> None:
    """Ids often come as integers."""
    assert FollowRecord("17", "18", None, NOW) == follow_record({"follower": 17, "followee": 18}, NOW)


def test_an_account_with_everything() -> None:
    """All columns, as text from CSV and as values from JSON or Parquet, mean the same."""
    text = {
        "username": "Anna",
        "id": "17",
        "display_name": "Anna\0 👩‍👩‍👧",
        "visibility": "private",
        "bio_description": "",
        "avatar_url": "https://x/y",
        "bio_url": "",
        "is_verified": "TRUE",
        "likes_count": "12345678901",
        "video_count": "0",
    }
    values = {**text, "id": 17, "is_verified": True, "likes_count": 12345678901, "video_count": 0.0}
    expected = AccountRecord(
        "Anna",
        "17",
        "Anna 👩‍👩‍👧",
        Visibility.PRIVATE,
        "",
        "https://x/y",
        "",
        is_verified=True,
        likes_count=12345678901,
        video_count=0,
    )

    assert expected == account_record(text) == account_record(values)
    assert count_nuls(text) == 1


def test_absent_account_fields_stay_unchanged() -> None:
    """Absent, null and, for numbers and choices, empty values change nothing."""
    empty = {"id": "", "visibility": "", "is_verified": "", "likes_count": "", "video_count": None, "bio_url": None}

    assert (
        AccountRecord("anna") == account_record({"username": "anna"}) == account_record({"username": "anna", **empty})
    )


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        (
            "visibility",
            "secret",
            "visibility: expected one of public, following_hidden, private, withheld, got 'secret'",
        ),
        ("visibility", 3, "got 3"),
        ("is_verified", "maybe", "is_verified: expected true or false, got 'maybe'"),
        ("likes_count", "-1", "likes_count: expected a whole number of 0 or more, got '-1'"),
        ("video_count", "many", "video_count: expected a whole number"),
        ("video_count", 2**63, "video_count: expected a whole number"),
        ("likes_count", True, "likes_count: expected a whole number"),
        ("id", "ä" * 40, "' is longer than 64 bytes"),
        ("id", 1.5, "id: expected text, got 1.5"),
        ("display_name", 7, "display_name: expected text, got 7"),
    ],
)
def test_invalid_account_fields_have_a_reason(column: str, value: Any, reason: str) -> None:
    """The reason names the column, what was expected and what was found."""
    with pytest.raises(BadRecord) as caught:
        account_record({"username": "anna", column: value})

    assert reason in str(caught.value)


ANY_VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.datetimes(), st.dates(), st.lists(st.integers())
)


@given(st.dictionaries(st.sampled_from(["follower", "followee", "followed_at"]), ANY_VALUE))
def test_any_row_is_a_follow_or_has_a_reason(values: dict[str, Any]) -> None:
    """Every row is read or rejected with a reason."""
    try:
        record = follow_record(values, NOW)
    except BadRecord as bad:
        assert str(bad)
    else:
        assert record.followed_at is None or record.followed_at >= 1


@given(st.dictionaries(st.sampled_from(["username", "id", "display_name", "visibility", "likes_count"]), ANY_VALUE))
def test_any_row_is_an_account_or_has_a_reason(values: dict[str, Any]) -> None:
    """Every row is read or rejected with a reason, and no NUL is accepted."""
    try:
        record = account_record(values)
    except BadRecord as bad:
        assert str(bad)
    else:
        assert "\0" not in (record.display_name or "")
