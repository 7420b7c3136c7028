"""Lines to events: the written forms, the reasons of each rejection, and that the quick way and the close one agree."""

import json
from typing import Any, get_args

import jsonschema_rs
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retinue.ingest import event_schema
from retinue.ingest.events import event_of, parse_event
from retinue.ingest.values import VISIBILITIES, BadRecord
from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent, Visibility

AT = 1_700_000_000
FOLLOW = {"event": "follow", "follower": "17", "followee": "18", "at": AT}
VALID = jsonschema_rs.validator_for(event_schema.schema())


def line(values: Any = None, **changes: Any) -> bytes:
    """An event as a line; a follow unless told, with some fields changed."""
    return json.dumps((values or FOLLOW) | changes).encode()


def reason_of(content: bytes) -> str:
    """Why a line is no event."""
    with pytest.raises(BadRecord) as caught:
        event_of(content)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "event"),
    [
        (FOLLOW, FollowEvent("17", "18", AT)),
        (FOLLOW | {"event": "unfollow"}, FollowEvent("17", "18", AT, is_follow=False)),
        ({"event": "account", "account": "17", "at": AT}, AccountEvent(AccountRecord(key="17"), AT)),
        (
            {"event": "visibility", "account": "17", "visibility": "private", "at": AT},
            AccountEvent(AccountRecord(key="17", visibility=Visibility.PRIVATE), AT),
        ),
        ({"event": "erase", "account": "17", "at": AT}, ErasureEvent("17", AT)),
    ],
)
def test_each_kind_of_event(values: dict[str, Any], event: Event) -> None:
    """The five kinds, as a producer should write them."""
    assert event == event_of(line(values))
    assert VALID.is_valid(values)


def test_an_account_with_everything() -> None:
    """All fields of an account; a NUL in a text is removed."""
    values = {
        "event": "account",
        "account": "17",
        "at": AT,
        "username": "Anna",
        "display_name": "An\0na 👩‍👩‍👧",
        "visibility": "withheld",
        "bio_description": "",
        "avatar_url": "https://x/y",
        "bio_url": "",
        "is_verified": True,
        "likes_count": 12345678901,
        "video_count": 0,
    }
    record = AccountRecord(
        "Anna",
        "17",
        "Anna 👩‍👩‍👧",
        Visibility.WITHHELD,
        "",
        "https://x/y",
        "",
        is_verified=True,
        likes_count=12345678901,
        video_count=0,
    )

    assert AccountEvent(record, AT) == event_of(line(values))
    assert VALID.is_valid(values)
    assert {"event", *event_schema.AccountForm.__struct_fields__} == values.keys()


@pytest.mark.parametrize(
    ("at", "second"),
    [
        (1, 1),
        (99_999_999_999, 99_999_999_999),
        (1727336393.0, 1727336393),
        ("1727336393", 1727336393),
        ("2024-09-26T07:39:53Z", 1727336393),
        ("2024-09-26T09:39:53.999+02:00", 1727336393),
        ("2024-09-26T07:39:53", 1727336393),
        ("2024-09-26", 1727308800),
        ("1727336393.0", 1727336393),
        ("9999-12-31T23:59:59Z", 253402300799),
    ],
)
def test_valid_times_are_parsed(at: Any, second: int) -> None:
    """Unix seconds and ISO 8601, as in import files."""
    assert FollowEvent("17", "18", second) == event_of(line(at=at))


def test_numbers_are_keys_too_and_keys_may_hold_spaces() -> None:
    """Ids often come as integers, and a source's own id is any printable text."""
    assert FollowEvent("17", "a b", AT) == event_of(line(follower=17, followee="a b"))
    assert FollowEvent("17", "a b", AT) == event_of(line(follower=" 17\t", followee="\u00a0a b"))


@pytest.mark.parametrize("said", [{}, dict.fromkeys(event_schema.AccountForm.__struct_fields__[2:])])
def test_account_events_may_have_no_fields(said: dict[str, None]) -> None:
    """Absent fields and null change nothing."""
    assert AccountEvent(AccountRecord(key="17"), AT) == event_of(
        line({"event": "account", "account": "17", "at": AT, **said})
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"{", "expected a JSON object: Input data was truncated"),
        (b"[1]", "expected a JSON object: Expected `object`, got `array`"),
        (b"nonsense", "expected a JSON object: JSON is malformed"),
        (b"[" * 9999, "expected a JSON object: "),
        (b'{"event":' + b"[" * 9999, "expected a JSON object: "),
        (b'{"event":' + b"9" * 9999, "expected a JSON object: "),
        (b'{"event":"follow","follower":"\xff"}', "broken UTF-8"),
        (b'{"\xff":1}', "broken UTF-8"),
        (b'{"event":"follow","follower":"\\ud800"}', "expected a JSON object: "),
        (b"{}", "event: is missing"),
        (line(event=None), "event: is missing"),
        (line(event="like"), "event: expected one of follow, unfollow, account, visibility, erase, got 'like'"),
        (line(event=["follow"]), "event: expected one of follow, unfollow, account, visibility, erase, got ['follow']"),
        (line(who=1, why=2), "unknown field 'who' in an event of the kind follow"),
        (line(username="x"), "unknown field 'username' in an event of the kind follow"),
        (line(follower=None), "follower: is missing"),
        (line(follower=""), "follower: is empty"),
        (line(followee="x" * 65), f"followee: '{'x' * 56}... is longer than 64 bytes"),
        (line(followee="ä" * 33), f"followee: '{'ä' * 33}' is longer than 64 bytes"),
        (line(followee="a\0"), "followee: 'a\\x00' has characters that cannot be printed"),
        (line(followee=1.5), "followee: expected text, got 1.5"),
        (line(followee=True), "followee: expected text, got True"),
        (line(at=None), "at: is missing; without its time an event cannot be repeated safely"),
        (line(at=""), "at: is missing; without its time an event cannot be repeated safely"),
        (line(at=0), "at: 0 is not a Unix second of 1 or later"),
        (line(at=1727336393000), "at: 1727336393000 is too large for a Unix second (milliseconds?)"),
        (line(at="soon"), "at: expected Unix seconds or an ISO 8601 time, got 'soon'"),
        (line(at=True), "at: expected Unix seconds or an ISO 8601 time, got True"),
        (line({"event": "erase", "at": AT}), "account: is missing"),
        (line({"event": "visibility", "account": "17", "at": AT}), "visibility: is missing"),
        (
            line({"event": "visibility", "account": "17", "at": AT, "visibility": "secret"}),
            "visibility: expected one of public, following_hidden, private, withheld, got 'secret'",
        ),
        (line({"event": "account", "account": "17", "at": AT, "username": ""}), "username: is empty"),
        (line({"event": "account", "account": "17", "at": AT, "display_name": 7}), "display_name: expected text"),
        (line({"event": "account", "account": "17", "at": AT, "likes_count": -1}), "likes_count: expected a whole"),
    ],
)
def test_invalid_events_have_a_reason(content: bytes, reason: str) -> None:
    """The reason names the field, what was expected and what was found."""
    assert reason_of(content).startswith(reason)


def outcome(read: Any, content: bytes) -> Event | str:
    """The event, or the reason why there is none."""
    try:
        event: Event = read(content)
    except BadRecord as bad:
        return str(bad)
    return event


KEYS = st.one_of(
    st.text(max_size=70), st.integers(), st.sampled_from(["17", "a b", " a", "a ", "ä" * 32, "ä" * 33, "a\n"])
)
TIMES = st.one_of(st.integers(-1, 10**12), st.sampled_from([1, 10**11 - 1, 10**11, "2024-09-26", "5", 1.0, 1e300, ""]))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
FIELDS = sorted(
    {"event", "who", *event_schema.FollowForm.__struct_fields__, *event_schema.AccountForm.__struct_fields__}
)
FOLLOWS = st.fixed_dictionaries(
    {"event": st.sampled_from(["follow", "unfollow", "Follow"]), "follower": KEYS, "followee": KEYS, "at": TIMES},
    optional={"extra": ANYTHING},
)


@given(FOLLOWS | st.dictionaries(st.sampled_from(FIELDS), ANYTHING | KEYS | TIMES))
def test_fast_and_strict_parsers_agree(values: dict[str, Any]) -> None:
    """Both make the same event of any line, or both reject it."""
    content = msgspec.json.encode(values)

    assert outcome(parse_event, content) == outcome(event_of, content)


@given(st.binary(max_size=40), st.integers(0, 80), st.integers(0, 3))
@example(b',"at":2', 75, 0)
@example(b',"event":"unfollow"', 75, 0)
@example(b"\xff", 31, 0)
@example(b"\\ud83d", 31, 0)
def test_fast_and_strict_parsers_agree_on_damaged_lines(inserted: bytes, place: int, cut: int) -> None:
    """Bytes put into an ordinary line, or cut from it, fields that come twice: there is always one meaning."""
    good = line().replace(b" ", b"")
    content = good[:place] + inserted + good[place + cut :]

    assert outcome(parse_event, content) == outcome(event_of, content)


MADE = st.from_type(event_schema.FollowForm) | st.builds(
    event_schema.AccountForm,
    account=KEYS,
    at=TIMES,
    username=st.none() | st.text(max_size=5),
    display_name=st.none() | st.text(),
    visibility=st.none() | st.sampled_from(get_args(event_schema.VisibilityName)),
    likes_count=st.none() | st.integers(-1, 2**63),
    is_verified=st.none() | st.booleans(),
)


@given(st.builds(event_schema.FollowForm, KEYS, KEYS, TIMES) | MADE)
def test_the_schema_agrees_with_the_parser(form: event_schema.EventForm) -> None:
    """A schema can neither count bytes nor tell what can be printed, nor read a time."""
    content = msgspec.json.encode(form)
    made = outcome(event_of, content)

    if VALID.is_valid(msgspec.json.decode(content)) and isinstance(made, str):
        assert any(words in made for words in ("bytes", "printed", "ISO 8601", "is empty", "at: "))


def test_the_schema_names_the_fields_that_are_read() -> None:
    """Visibilities are listed twice, for the type checker's sake."""
    assert list(VISIBILITIES) == list(get_args(event_schema.VisibilityName))
