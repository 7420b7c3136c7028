"""Refusals besides those of the body: tokens, paths, methods, sizes, visibility, internal errors."""

import asyncio
import base64
import logging
from typing import Any

import httpx
import pytest

from retinue.errors import StoreUnavailable
from retinue.model import Account, ErasureEvent, FollowEvent, PageRequest, PageRows, Profile, Visibility
from retinue.store.cassandra.session import ReadRefused, TransientFailure
from retinue.web.asgi import Application
from retinue.web.routes import NOT_SERVED
from retinue.web.routes import REVOKE_PATH as REVOKE
from retinue.wire.parsing import MAX_BODY_BYTES
from support.frozen_clock import FrozenClock
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN, Service

INVALID_TOKEN = "The access token is invalid or not found in the request."
WITHHELD = "API cannot return this user's information"
UNAVAILABLE = (StoreUnavailable, ReadRefused, TransientFailure)  # the latter two are kinds of the first
COUNTS = f"{INFO}?fields=following_count,follower_count"
RESEARCH = [FOLLOWING, FOLLOWERS, COUNTS]


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message, after checking the envelope."""
    body = answer.json()
    assert body["data"] == {}
    assert answer.headers["x-tt-logid"] == body["error"]["log_id"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["error"]["code"], body["error"]["message"]


@pytest.mark.parametrize("path", RESEARCH)
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer clt.unknown",
        "Bearer act.user-token",
        "{token}",
        "Bearer{token}",
        "Bearer {token}x",
        "Bearer {token} {token}",
        "Bearer " + "x" * 600,
    ],
)
def test_requests_without_a_valid_token_are_refused(service: Service, authorization: str | None, path: str) -> None:
    """A missing, malformed or unknown token is a 401, whatever the body."""
    headers = {} if authorization is None else {"Authorization": authorization.format(token=service.token)}

    for body in (b'{"username":"a"}', b"nonsense", b""):
        assert refusal(service.post(path, body, headers)) == (401, "access_token_invalid", INVALID_TOKEN)


NETRC = f"{INVALID_TOKEN} The Authorization header is Basic, not Bearer; a netrc file may have replaced the token."


@pytest.mark.parametrize("path", RESEARCH)
@pytest.mark.parametrize("authorization", ["Basic {token}", "basic {token}", "Basic ", "BASIC eDp5"])
def test_a_basic_header_is_reported(service: Service, authorization: str, path: str) -> None:
    """The client sent a bearer token, but its HTTP library preferred a netrc file."""
    headers = {"Authorization": authorization.format(token=service.token)}

    assert refusal(service.post(path, b'{"username":"a"}', headers)) == (401, "access_token_invalid", NETRC)


@pytest.mark.parametrize("path", [TOKEN, REVOKE])
def test_credentials_in_a_basic_header_are_reported(service: Service, path: str) -> None:
    """They belong in the body; beside a good body the header does not matter."""
    pair = base64.b64encode(f"{service.client_key}:{service.secret}".encode()).decode()
    basic = {"Authorization": f"Basic {pair}"}
    form = f"client_key={service.client_key}&client_secret={service.secret}&grant_type=client_credentials&token=x"
    hint = "The Authorization header is Basic: send client_key and client_secret in the body."

    answers = {body: service.post(path, body.encode(), basic) for body in ("grant_type=x", "client_key=k", form)}

    told = [(answer.status_code, answer.json().get("error_description")) for answer in answers.values()]
    assert told[0] == (400, f"Client key is missed in request. {hint}")
    assert told[1] == (400, f"Client secret is missed in request. {hint}")
    assert told[2][0] == 200
    assert service.post(path, b"grant_type=x").json()["error_description"] == "Client key is missed in request."


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("text", ['{"username":"a"}', "username=a&max_count=3"])
def test_wide_encodings_are_reported(service: Service, encoding: str, text: str) -> None:
    """With a byte order mark and without; the token endpoint says the same."""
    fault = "body: expected a JSON object or form pairs in UTF-8, but it is in UTF-16 or UTF-32"
    body = text.encode(encoding)

    assert refusal(service.ask(body)) == (400, "invalid_params", fault)
    answer = service.post(TOKEN, body)
    assert answer.json()["error_description"] == f"The request parameters are malformed. {fault}"


@pytest.mark.parametrize("text", ['{"username":"p","max_count":1}', "username=p&max_count=1"])
def test_a_byte_order_mark_is_ignored(service: Service, text: str) -> None:
    """In front of JSON and of form pairs, also for tokens; one alone is an empty body."""
    service.follow("p", ("b", 1000000100), ("c", 1000000200))
    form = f"client_key={service.client_key}&client_secret={service.secret}&grant_type=client_credentials"

    assert service.ask(text.encode("utf-8-sig")).json()["data"] == service.ask(text.encode()).json()["data"]
    assert service.post(TOKEN, form.encode("utf-8-sig")).status_code == 200
    assert service.ask("".encode("utf-8-sig")).status_code == 400


def test_a_token_in_query_or_body_does_not_count(service: Service) -> None:
    """Tokens are taken from the Authorization header alone."""
    answer = service.post(f"{FOLLOWING}?access_token={service.token}", f"access_token={service.token}".encode())

    assert answer.status_code == 401


def test_a_token_lives_for_7200_seconds(service: Service, clock: FrozenClock) -> None:
    """Two tokens in a row are both good until 7,200 s after their own issue."""
    first = service.token
    clock.advance(100)
    second = service.fresh_token()

    def status(token: str) -> int:
        return service.post(FOLLOWING, b'{"username":"p"}', {"Authorization": f"Bearer {token}"}).status_code

    service.follow("p", ("b", 1000000100))
    clock.advance(7099)
    assert (status(first), status(second)) == (200, 200)
    clock.advance(1)
    assert (status(first), status(second)) == (401, 200)
    clock.advance(100)
    assert (status(first), status(second)) == (401, 401)


async def revoke(service: Service) -> bool:
    """Revoke the service's client behind the application's back, as the CLI does."""
    return await service.access.revoke_client(service.client_key, service.clock.now())


def test_a_revoked_client_is_refused_after_a_second(service: Service, clock: FrozenClock) -> None:
    """Revocation ends tokens within a second, and the token endpoint says why there are no new ones."""
    assert service.ask({"username": "nobody"}).status_code == 400
    assert asyncio.run(revoke(service))
    clock.advance(1)

    assert refusal(service.ask({"username": "nobody"})) == (401, "access_token_invalid", INVALID_TOKEN)
    form = f"client_key={service.client_key}&client_secret={service.secret}&grant_type=client_credentials"
    answer = service.post(TOKEN, form.encode())
    assert (
        answer.status_code,
        answer.json()["error"],
        answer.json()["error_description"],
    ) == (401, "invalid_client", "The client has been revoked.")


@pytest.mark.parametrize("path", RESEARCH)
def test_the_refusal_names_the_missing_scope(service: Service, path: str) -> None:
    """The scope is checked before the body is read."""
    service.client_key, service.secret = service.register(scopes=frozenset({"research.adlib.basic"}))
    service.token = service.fresh_token()

    status, code, message = refusal(service.ask(b"nonsense", path))

    assert (status, code) == (401, "scope_not_authorized")
    assert "research.data.basic" in message


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/research/user/following/list/", "/openapi.json", "/health", "//x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths_are_404(service: Service, method: str, path: str) -> None:
    """Nothing but the documented paths is there, and the answer says so in the envelope."""
    answer = service.request(method, path, b"", {})

    assert refusal(answer) == (404, "unsupported_path", "Unsupported path")


@pytest.mark.parametrize("path", NOT_SERVED)
def test_research_endpoints_that_are_not_served(service: Service, path: str) -> None:
    """A right path that we do not serve says who does not serve it."""
    for method, spelling in (("POST", path), ("POST", path.rstrip("/")), ("GET", f"{path}?fields=id")):
        status, code, message = refusal(service.request(method, spelling, b"{}", {}))

        assert (status, code) == (404, "unsupported_path")
        assert f"Retinue does not serve {path}" == message


def test_fields_are_checked_before_the_account_is_looked_up(service: Service) -> None:
    """Body, then its fields and those asked for, then the account: the first fault is the one that is told."""

    def message(body: bytes, path: str) -> str:
        return refusal(service.ask(body, path))[2]

    assert "body" == message(b"nonsense", INFO).partition(":")[0]
    assert "username" == message(b"{}", INFO).partition(":")[0]
    assert "fields" == message(b'{"username":"nobody"}', INFO).partition(":")[0]
    assert "cannot find the user" in message(b'{"username":"nobody"}', COUNTS)
    for path in (FOLLOWING, FOLLOWERS):
        assert "Invalid count or cursor" == message(b'{"username":"nobody","max_count":0}', path)
        assert "as_of" == message(b'{"username":"nobody","as_of":"then"}', path).partition(":")[0]


@pytest.mark.parametrize("path", [*RESEARCH, TOKEN, FOLLOWING.rstrip("/"), INFO, INFO.rstrip("/")])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_wrong_methods_are_405(service: Service, method: str, path: str) -> None:
    """Only POST is served; the answer names it."""
    answer = service.request(method, path, b"", {})

    assert refusal(answer) == (405, "unsupported_path", "Unsupported method: use POST")
    assert answer.headers["allow"] == "POST"


def test_a_body_of_64_kib_is_the_longest(service: Service) -> None:
    """One byte more is a 413, in the form of the endpoint's own errors."""
    service.follow("p", ("b", 1000000100))
    fits = b'{"username":"p"}'.ljust(MAX_BODY_BYTES)

    for path in RESEARCH:
        assert service.ask(fits, path).status_code == 200
        assert refusal(service.ask(fits + b" ", path)) == (413, "invalid_params", "body: longer than 65536 bytes")
    flat = service.post(TOKEN, fits + b" ")
    assert (flat.status_code, flat.json()["error"]) == (413, "invalid_request")


@pytest.mark.parametrize(
    ("visibility", "is_visible", "hides_following", "hides_all"),
    [
        (Visibility.PUBLIC, True, None, None),
        (Visibility.FOLLOWING_HIDDEN, True, "username someone is private", None),
        (Visibility.PRIVATE, False, "username someone is private", "username someone is private"),
        (Visibility.WITHHELD, False, WITHHELD, WITHHELD),
    ],
)
def test_visibility_decides_rows_and_responses(
    service: Service,
    clock: FrozenClock,
    visibility: Visibility,
    is_visible: bool,
    hides_following: str | None,
    hides_all: str | None,
) -> None:
    """Each visibility has its place in others' lists and its answers when asked, also when it changes later.

    Lists of the past are no way around it, and counts include hidden accounts.
    """
    befriend(service)
    service.add_account("someone", "Some One", visibility)
    clock.advance(1)

    for as_of in (None, 1000000100):
        for path in (FOLLOWING, FOLLOWERS):
            assert (["someone", "other"] if is_visible else ["other"]) == names(service, path, "fan", as_of)
        assert hides_following == answered(service, {"username": "someone", "as_of": as_of}, FOLLOWING)
        assert hides_all == answered(service, {"username": "someone", "as_of": as_of}, FOLLOWERS)
    assert hides_all == answered(service, {"username": "someone"}, COUNTS)
    assert {"following_count": 2, "follower_count": 2} == service.ask({"username": "fan"}, COUNTS).json()["data"]


def befriend(service: Service) -> None:
    """`fan` follows `someone` and `other`, and both follow it."""
    service.add_follows(
        ("fan", "someone", 1000000100),
        ("fan", "other", 1000000050),
        ("someone", "fan", 1000000100),
        ("other", "fan", 1000000050),
    )
    for path in RESEARCH:
        assert service.ask({"username": "someone"}, path).status_code == 200


def names(service: Service, path: str, username: str, as_of: int | None = None) -> list[str]:
    """The usernames on the first page of a list."""
    rows, *_ = service.ask({"username": username, "as_of": as_of}, path).json()["data"].values()
    return [row["username"] for row in rows]


def answered(service: Service, body: dict[str, Any], path: str) -> str | None:
    """The message with which a query is refused; None where it is answered."""
    answer = service.ask(body, path)
    if answer.status_code == 200:
        return None
    status, code, message = refusal(answer)
    assert (400, "invalid_params") == (status, code)
    return message


def test_an_erased_account_is_unknown_everywhere(service: Service, clock: FrozenClock) -> None:
    """Neither asked for, nor as a row of any second, nor in counts is there anything left of it."""
    befriend(service)

    service.apply(ErasureEvent("someone", clock.now()))
    clock.advance(1)

    for path in RESEARCH:
        message = answered(service, {"username": "someone"}, path)
        assert "username someone is invalid: cannot find the user" == message
    for path in (FOLLOWING, FOLLOWERS):
        assert [["other"], ["other"]] == [names(service, path, "fan", as_of) for as_of in (None, 1000000100)]
    assert {"following_count": 1, "follower_count": 1} == service.ask({"username": "fan"}, COUNTS).json()["data"]


def test_an_unfollow_is_gone_from_both_lists_and_counts_at_once(service: Service) -> None:
    """The very next answer knows of it; the past stays."""
    befriend(service)

    service.apply(FollowEvent("fan", "someone", 1000000200, is_follow=False))

    assert [["other"], ["someone", "other"]] == [names(service, FOLLOWING, "fan", at) for at in (None, 1000000199)]
    assert [[], ["fan"]] == [names(service, FOLLOWERS, "someone", at) for at in (None, 1000000199)]
    assert {"following_count": 1, "follower_count": 2} == service.ask({"username": "fan"}, COUNTS).json()["data"]


def test_both_lists_agree(service: Service) -> None:
    """One account is in another's following list exactly when the other is in its follower list."""
    service.add_follows(*((f"u{n % 7}", f"u{n % 11}", 1000000000 + n % 5) for n in range(77) if n % 7 != n % 11))
    users = [f"u{n}" for n in range(11)]

    following = {(user, other) for user in users for other in names(service, FOLLOWING, user)}
    followers = {(other, user) for user in users for other in names(service, FOLLOWERS, user)}

    assert following == followers
    assert 77 - 7 == len(following)


class VanishingGraph:
    """A graph from which an account vanishes between the two looks that a profile takes."""

    async def find_account(self, folded: str) -> Account | None:
        """Still there."""
        return Account(1, Visibility.PUBLIC)

    async def read(self, request: PageRequest) -> PageRows[bytes]:
        """Not asked for."""
        raise NotImplementedError

    async def profile(self, account_id: int) -> Profile | None:
        """Not there any more."""
        return None


def test_an_account_that_vanishes_during_a_request_is_unknown(service: Service) -> None:
    """It is refused like any other unknown one."""
    service.application = service.application_on(VanishingGraph())

    message = answered(service, {"username": "someone"}, COUNTS)

    assert "username someone is invalid: cannot find the user" == message


def test_a_full_page_in_spite_of_withheld_accounts(service: Service) -> None:
    """Pages are filled past what is not visible, and has_more counts only what is."""
    service.follow("fan", *((f"f{n}", 1000000000 + n) for n in range(40)))
    for n in [*range(25), 39]:
        service.add_account(f"f{n}", "", Visibility.WITHHELD)

    data = service.ask({"username": "fan", "max_count": 14}).json()["data"]

    assert [f"f{n}" for n in range(38, 24, -1)] == [row["username"] for row in data["user_following"]]
    assert (data["cursor"], data["has_more"]) == (1000000024, False)


class BrokenGraph:
    """A graph whose store fails in a given way."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def find_account(self, folded: str) -> Account | None:
        """Fail."""
        raise self._error

    async def read(self, request: PageRequest) -> PageRows[bytes]:
        """Fail."""
        raise self._error

    async def profile(self, account_id: int) -> Profile | None:
        """Fail."""
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected", "retry_after"),
    [
        *[(kind("the disk is gone"), (503, "internal_error"), "1") for kind in UNAVAILABLE],
        (ZeroDivisionError(), (500, "internal_error"), None),
    ],
    ids=[*[kind.__name__ for kind in UNAVAILABLE], "a fault of ours"],
)
def test_internal_errors_use_the_error_envelope(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    expected: tuple[int, str],
    retry_after: str | None,
) -> None:
    """A failing store is a 503 that asks to come back; anything else a 500. The log has it under the log_id."""
    service.application = service.application_on(BrokenGraph(error))
    for path in RESEARCH:
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            answer = service.ask({"username": "p"}, path)

        assert expected == refusal(answer)[:2]
        assert retry_after == answer.headers.get("retry-after")
        assert answer.headers["x-tt-logid"] in caplog.text
        assert "disk" not in answer.text


def test_a_disconnected_client_gets_no_response(service: Service) -> None:
    """A connection that ends before its body has come is neither an error nor an answer."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": TOKEN, "headers": []}
    application: Application = service.application
    asyncio.run(application(scope, receive, send))

    assert sent == []
