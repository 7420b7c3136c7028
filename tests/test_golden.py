"""The contract's exchanges, as files in `golden/`: bodies in, whole answers out."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retinue.model import FollowEvent, Visibility
from retinue.wire import rendering
from support.frozen_clock import FrozenClock
from support.golden import golden
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN, Service, problems_of

LOG_ID = re.compile(r"20231114221320[0-9A-F]{20}")  # the frozen clock's second, then 20 random digits


def each_body(name: str, table: str) -> list[Any]:
    """One test case for each body of each entry."""
    return [
        pytest.param(body, entry, id=body[:60] or "(empty)")
        for entry in golden(name, table)
        for body in entry["bodies"]
    ]


def checked(answer: httpx.Response, *, log_id: str) -> Any:
    """The answer's JSON, after checking what every answer has."""
    assert answer.headers["content-type"] == "application/json"
    assert LOG_ID.fullmatch(log_id)
    assert answer.headers["x-tt-logid"] == log_id
    assert int(answer.headers["content-length"]) == len(answer.content)
    return answer.json()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The graph that the golden files describe, which no test changes."""
    store = tmp_path_factory.mktemp("world") / "graph.db"
    with closing(Service(store, FrozenClock())) as service:
        fill(service)
        yield service
    assert problems_of(store) == []


def fill(service: Service) -> None:
    """Make the accounts and follows of the golden files."""
    for name, visibility in {
        "hidden": Visibility.PRIVATE,
        "shy": Visibility.FOLLOWING_HIDDEN,
        "gone": Visibility.WITHHELD,
        "x": Visibility.PRIVATE,
        "empty": Visibility.PUBLIC,
    }.items():
        service.add_account(name, name, visibility)
    for name, display_name in {"b": "Bee", "c": "See", "d": "Dé 👩‍👩‍👧", "r": "Are"}.items():
        service.add_account(name, display_name)
    friends = [(f"friend{n}", 1685544151 + n) for n in range(130)]
    service.follow("a", *friends)
    service.add_follows(*((name, "a", at) for name, at in friends))
    service.apply(*(FollowEvent(*pair, 1690000000, False) for n in range(120, 130) for pair in both_ways(f"friend{n}")))
    service.follow("žofie", ("a", 1600000000), ("b", 1600000000))
    service.follow("b", ("žofie", 1600000000), ("shy", 1600000000))
    service.follow("hidden", ("a", 1600000000))
    usual = (("b", 1000000100), ("c", 1000000200), ("d", 1000000300), ("x", 1000000050))
    service.follow("p", *usual)
    service.follow("q", *usual, ("e", 1000000300))
    make_followers(service)
    make_history(service)
    make_profile(service)
    for number, (name, at) in enumerate(
        (
            ("test_username", 1685000000),
            ("test_username2", 1670000000),
            ("test_username3", 1650642423),
            ("t4", 1640000000),
        )
    ):
        service.add_account(name, "test user" if number == 0 else f"test user {number + 1}")
        service.follow("test_user", (name, at))


@pytest.mark.parametrize("path", [FOLLOWING, FOLLOWERS])
def both_ways(friend: str) -> list[tuple[str, str]]:
    """The two pairs that `a` and a friend make."""
    return [("a", friend), (friend, "a")]


def make_followers(service: Service) -> None:
    """Make the accounts of `followers.toml`."""
    service.add_follows(
        ("b", "star", 1000000100),
        ("c", "star", 1000000200),
        ("d", "star", 1000000300),
        ("x", "star", 1000000050),
        ("shy", "star", 1000000020),
        *((name, "hub", 1000000300) for name in ("d", "b", "c")),
    )


def make_history(service: Service) -> None:
    """Make the accounts of `history.toml`; every event comes twice, the latest first."""
    events = [
        FollowEvent("r", "b", 1000000100),
        FollowEvent("r", "c", 1000000200),
        FollowEvent("r", "c", 1000000250, is_follow=False),
        FollowEvent("r", "d", 1000000300),
        FollowEvent("r", "b", 1000000350, is_follow=False),
        FollowEvent("r", "c", 1000000400),
        FollowEvent("r", "t", 1000000500),
        FollowEvent("r", "t", 1000000600, is_follow=False),
    ]
    service.apply(*reversed(events), *events)


def make_profile(service: Service) -> None:
    """Make the accounts of `info.toml`."""
    service.add_account(
        "i",
        "Aye 👁",
        bio_description="Line\nbreak",
        avatar_url="https://cdn.example/i.webp",
        bio_url="https://i.example",
        is_verified=True,
        likes_count=5_000_000_000,
        video_count=7,
    )
    service.follow("i", *((name, 1000000100) for name in ("b", "shy", "x", "gone")))
    service.add_follows(*((name, "i", 1000000100) for name in ("žofie", "hidden", "shy")))


@pytest.mark.parametrize("path", [FOLLOWING, FOLLOWERS])
@pytest.mark.parametrize("group", golden("same", "group"), ids=lambda group: group["about"])
def test_equal_queries_get_equal_data(world: Service, group: dict[str, Any], path: str) -> None:
    """All accepted forms of a field mean the same."""
    assert_equal([world.ask(body.encode(), path) for body in group["bodies"]])


@pytest.mark.parametrize("group", golden("info", "group"), ids=lambda group: group["about"])
def test_equal_profile_queries_get_equal_data(world: Service, group: dict[str, Any]) -> None:
    """All accepted forms of `fields` and of the body mean the same."""
    assert_equal(
        [world.ask(body.encode(), f"{INFO}?{query}") for query in group["queries"] for body in group["bodies"]]
    )


def assert_equal(answers: list[httpx.Response]) -> None:
    """All answers are good and have the same data; it is not empty."""
    data = [checked(answer, log_id=answer.json()["error"]["log_id"])["data"] for answer in answers]

    assert [200] * len(answers) == [answer.status_code for answer in answers]
    assert next(iter(data[0].values()))
    assert [list(data[0].items())] * len(data) == [list(each.items()) for each in data]


@pytest.mark.parametrize(("body", "entry"), each_body("refusals", "refusal"))
def test_invalid_bodies_are_refused(world: Service, body: str, entry: dict[str, Any]) -> None:
    """Each bad body gets its exact status, code and message."""
    for path in (FOLLOWING, FOLLOWERS):
        if path.strip("/").endswith(entry.get("only", "")):
            assert_refused(world.ask(body.encode(), path), entry["status"], entry["code"], entry["message"])


@pytest.mark.parametrize(("body", "entry"), each_body("info", "refusal"))
def test_invalid_profile_queries_are_refused(world: Service, body: str, entry: dict[str, Any]) -> None:
    """Each bad body or list of fields gets its exact message."""
    for query in entry["queries"]:
        assert_refused(world.ask(body.encode(), f"{INFO}?{query}"), 400, "invalid_params", entry["message"])


def assert_refused(answer: httpx.Response, status: int, code: str, message: str) -> None:
    """The answer is this refusal, in the envelope."""
    found = checked(answer, log_id=answer.json()["error"]["log_id"])

    assert status == answer.status_code
    assert {"data", "error"} == found.keys()
    assert found["data"] == {}
    assert {"code", "message", "log_id"} == found["error"].keys()
    assert (code, message) == (found["error"]["code"], found["error"]["message"])


@pytest.mark.parametrize(
    ("path", "entry"),
    [
        pytest.param(f"/v2/research/user/{entry.get('to', usual)}/", entry, id=f"{name}-{entry['body']}")
        for name, usual in (("paging", "following"), ("followers", "followers"), ("history", "following"))
        for entry in golden(name, "exchange")
    ],
)
def test_pages_match_the_golden_files(world: Service, path: str, entry: dict[str, Any]) -> None:
    """Pages are right to the byte."""
    assert_whole(world.ask(entry["body"].encode(), path), entry["data"], message="ok")


@pytest.mark.parametrize("path", [INFO, INFO.rstrip("/")])
@pytest.mark.parametrize("entry", golden("info", "exchange"), ids=lambda entry: entry["fields"][:40])
def test_profiles_match_the_golden_files(world: Service, path: str, entry: dict[str, Any]) -> None:
    """Of a profile exactly the fields asked for come, in that order, with an empty message."""
    assert_whole(world.ask(entry["body"].encode(), f"{path}?fields={entry['fields']}"), entry["data"], message="")


def assert_whole(answer: httpx.Response, data: str, *, message: str) -> None:
    """The answer is this, to the byte but for the log_id."""
    log_id = answer.json()["error"]["log_id"]
    checked(answer, log_id=log_id)

    expected = f'{{"data":{data},"error":{{"code":"ok","message":"{message}","log_id":"{log_id}"}}}}'
    assert (200, expected) == (answer.status_code, answer.text)


@pytest.mark.parametrize(("body", "entry"), each_body("tokens", "refusal"))
def test_invalid_token_requests_are_refused(service: Service, body: str, entry: dict[str, Any]) -> None:
    """Each bad token request gets its exact status, error and description, in the flat form."""
    sent = body.replace("KEY", service.client_key).replace("SECRET", service.secret)
    answer = service.post(TOKEN, sent.encode())
    found = checked(answer, log_id=answer.json()["log_id"])

    assert entry["status"] == answer.status_code
    assert {"error", "error_description", "log_id"} == found.keys()
    assert (entry["error"], entry["description"]) == (found["error"], found["error_description"])


@pytest.mark.parametrize("form", ["pairs", "json"])
@pytest.mark.parametrize("path", [TOKEN, TOKEN.rstrip("/")])
def test_valid_token_requests_are_answered(service: Service, form: str, path: str) -> None:
    """Key and secret get a token, as form pairs or as JSON, that opens the data endpoint."""
    pairs = {"client_key": service.client_key, "client_secret": service.secret, "grant_type": "client_credentials"}
    request = (
        httpx.Request("POST", "http://x", json=pairs)
        if form == "json"
        else httpx.Request("POST", "http://x", data=pairs)
    )
    answer = service.post(path, request.content)
    token = answer.json()["access_token"]

    assert {"access_token": token, "expires_in": 7200, "token_type": "Bearer"} == answer.json()
    assert token.startswith("clt.")
    assert LOG_ID.fullmatch(answer.headers["x-tt-logid"])
    assert answer.headers["cache-control"] == "no-store"
    refused = service.post(FOLLOWING, b'{"username":"nobody"}', {"Authorization": f"Bearer {token}"})
    assert refused.json()["error"]["message"] == "username nobody is invalid: cannot find the user"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/json; charset=UTF-8"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "nonsense"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
@pytest.mark.parametrize("ending", ["", "/", "?x", "/?fields=display_name,username"])
def test_headers_and_paths_that_are_accepted(world: Service, headers: dict[str, str], scheme: str, ending: str) -> None:
    """Content type, spelling of the scheme, trailing slash and query string make no difference; nothing redirects."""
    for path, name, rows in ((FOLLOWING, "p", ["d", "c", "b"]), (FOLLOWERS, "star", ["d", "c", "b", "shy"])):
        body = f'{{"username":"{name}"}}'.encode()
        answer = world.post(path.rstrip("/") + ending, body, {**headers, "Authorization": f"{scheme} {world.token}"})

        assert answer.status_code == 200
        found, *_ = answer.json()["data"].values()
        assert rows == [row["username"] for row in found]


@pytest.mark.parametrize("body", [b'{"username":"a","x":"\xff"}', b'{"username":"a","\xff":1}', b"username=a&x=\xff"])
def test_broken_utf8_is_refused_anywhere(world: Service, body: bytes) -> None:
    """Unused fields are checked too."""
    answer = world.ask(body)

    assert (400, "body: expected a JSON object or form pairs in UTF-8") == (
        answer.status_code,
        answer.json()["error"]["message"],
    )


@given(st.text(), st.text())
def test_a_ready_row_is_the_rows_json(display_name: str, username: str) -> None:
    """The encoded row is a JSON object with both names unchanged."""
    ready = rendering.encode_row(display_name, username)

    assert {"display_name": display_name, "username": username} == json.loads(ready)
