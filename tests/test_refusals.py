"""What is refused before, beside and after the body: tokens, paths, methods, sizes, visibility, faults of our own."""

import logging
from typing import Any

import httpx
import pytest

from frozen_clock import FrozenClock
from retinue import wire
from retinue.errors import StoreUnavailable
from retinue.model import Account, Slice, Visibility
from retinue.web.asgi import Application
from retinue.web.routes import NOT_SERVED
from service import FOLLOWING, TOKEN, Service

INVALID_TOKEN = "The access token is invalid or not found in the request."
WITHHELD = "API cannot return this user's information"


def refusal(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message, after checking the envelope."""
    body = answer.json()
    assert body["data"] == {}
    assert answer.headers["x-tt-logid"] == body["error"]["log_id"]
    assert answer.headers["content-type"] == "application/json"
    return answer.status_code, body["error"]["code"], body["error"]["message"]


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer clt.unknown",
        "Bearer act.user-token",
        "Basic {token}",
        "{token}",
        "Bearer{token}",
        "Bearer {token}x",
        "Bearer {token} {token}",
        "Bearer " + "x" * 600,
    ],
)
def test_without_a_good_token_nothing_is_answered(service: Service, authorization: str | None) -> None:
    """A missing, malformed or unknown token is a 401, whatever the body."""
    headers = {} if authorization is None else {"Authorization": authorization.format(token=service.token)}

    for body in (b'{"username":"a"}', b"nonsense", b""):
        assert refusal(service.post(FOLLOWING, body, headers)) == (401, "access_token_invalid", INVALID_TOKEN)


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


def test_a_revoked_client_gets_in_nowhere_after_a_second(service: Service, clock: FrozenClock) -> None:
    """Revocation ends tokens within a second, and the token endpoint says why there are no new ones."""
    import asyncio  # noqa: PLC0415 - only here

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


def test_a_token_without_the_scope_hears_which_one_is_missing(service: Service) -> None:
    """The scope is checked before the body is read."""
    service.client_key, service.secret = service.register(frozenset({"research.adlib.basic"}))
    service.token = service.fresh_token()

    status, code, message = refusal(service.ask(b"nonsense"))

    assert (status, code) == (401, "scope_not_authorized")
    assert "research.data.basic" in message


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/research/user/following/list/", "/openapi.json", "/health", "//x"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unknown_paths(service: Service, method: str, path: str) -> None:
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


@pytest.mark.parametrize("path", [FOLLOWING, TOKEN, FOLLOWING.rstrip("/")])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_wrong_methods(service: Service, method: str, path: str) -> None:
    """Only POST is served; the answer names it."""
    answer = service.request(method, path, b"", {})

    assert refusal(answer) == (405, "unsupported_path", "Unsupported method: use POST")
    assert answer.headers["allow"] == "POST"


def test_a_body_of_64_kib_is_the_longest(service: Service) -> None:
    """One byte more is a 413, in the form of the endpoint's own errors."""
    service.follow("p", ("b", 1000000100))
    fits = b'{"username":"p"}'.ljust(wire.MAX_BODY_BYTES)

    assert service.ask(fits).status_code == 200
    assert refusal(service.ask(fits + b" ")) == (413, "invalid_params", "body: longer than 65536 bytes")
    flat = service.post(TOKEN, fits + b" ")
    assert (flat.status_code, flat.json()["error"]) == (413, "invalid_request")


@pytest.mark.parametrize(
    ("visibility", "is_row", "message"),
    [
        (Visibility.PUBLIC, True, None),
        (Visibility.FOLLOWING_HIDDEN, True, "username someone is private"),
        (Visibility.PRIVATE, False, "username someone is private"),
        (Visibility.WITHHELD, False, WITHHELD),
    ],
)
def test_who_is_a_row_and_who_is_answered(
    service: Service, clock: FrozenClock, visibility: Visibility, is_row: bool, message: str | None
) -> None:
    """Each visibility has its place in others' lists and its answer when asked, also when it changes later."""
    service.follow("fan", ("someone", 1000000100), ("other", 1000000050))
    service.follow("someone", ("other", 1000000100))
    assert service.ask({"username": "someone"}).status_code == 200

    service.add_account("someone", "Some One", visibility)
    clock.advance(1)

    rows = [row["username"] for row in service.ask({"username": "fan"}).json()["data"]["user_following"]]
    assert (["someone", "other"] if is_row else ["other"]) == rows
    answer = service.ask({"username": "someone"})
    if message is None:
        assert answer.status_code == 200
    else:
        assert (400, "invalid_params", message) == refusal(answer)


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

    async def following(self, account_id: int, bound: int, limit: int) -> Slice[bytes]:
        """Fail."""
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected", "retry_after"),
    [
        (StoreUnavailable("the disk is gone"), (503, "internal_error"), "1"),
        (ZeroDivisionError(), (500, "internal_error"), None),
    ],
    ids=["store out of reach", "a fault of ours"],
)
def test_failures_of_our_own_are_answered_in_the_envelope(
    service: Service,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    expected: tuple[int, str],
    retry_after: str | None,
) -> None:
    """A failing store is a 503 that asks to come back; anything else a 500. The log has it under the log_id."""
    from retinue import assemble  # noqa: PLC0415 - the service's own application is replaced here

    service.application = assemble.public_application(BrokenGraph(error), service.access, service.clock)
    with caplog.at_level(logging.ERROR):
        answer = service.ask({"username": "p"})

    assert expected == refusal(answer)[:2]
    assert retry_after == answer.headers.get("retry-after")
    assert answer.headers["x-tt-logid"] in caplog.text
    assert "disk" not in answer.text


def test_a_client_that_goes_away_gets_no_answer(service: Service) -> None:
    """A connection that ends before its body has come is neither an error nor an answer."""
    import asyncio  # noqa: PLC0415 - only here

    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": TOKEN, "headers": []}
    application: Application = service.application
    asyncio.run(application(scope, receive, send))

    assert sent == []
