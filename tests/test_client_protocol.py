"""The client's protocol without I/O: a service that is odd in every way there is, and no row is lost."""

import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from retinue.client import AccountUnavailable, BrokenList, ClientError, DailyQuotaExceeded, GaveUp, Refused, RetryPolicy
from retinue.client.paginator import Paginator, inconsistency
from retinue.client.protocol import ApiProtocol, Flow, NeedToken, NoResponse, SendRequest, Sleep
from retinue.client.responses import HttpResponse, ListPage, Person
from support.frozen_clock import FrozenClock

LOG_ID = "20260101000000AAAAAAAAAAAAAAAAAAAA"
NOW = 1_767_225_600  # the time in the log_id
Reply = HttpResponse | NoResponse


def envelope(status: int, code: str, message: str = "", data: Any = None, **headers: str) -> HttpResponse:
    """An answer in the contract's form."""
    error = {"code": code, "message": message, "log_id": LOG_ID}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HttpResponse(status, json.dumps({"data": data or {}, "error": error}).encode(), named)


class Service:
    """A list, answered exactly; before each good answer `odd` may say another one."""

    def __init__(self, seconds: list[int], odd: Callable[[dict[str, Any], HttpResponse], Reply | None]) -> None:
        self.seconds = sorted(seconds, reverse=True)
        self.odd = odd
        self.slept = 0.0
        self.tokens = 0
        self.clock = FrozenClock()

    def answer(self, ask: SendRequest) -> Reply:
        """Return the response of an HTTP server."""
        if ask.token is None:
            self.tokens += 1
            token = {"access_token": f"clt.{self.tokens}", "expires_in": 7200, "token_type": "Bearer"}
            return self.odd({}, good := HttpResponse(200, json.dumps(token).encode())) or good
        body = json.loads(ask.body)
        good = self.page(body.get("cursor"), body["max_count"])
        return self.odd(body, good) or good

    def page(self, bound: int | None, limit: int) -> HttpResponse:
        """The page at or before a bound."""
        bound = bound or self.clock.now()
        left = [second for second in self.seconds if second <= bound]
        rows = [{"username": f"u{second}", "display_name": ""} for second in left[:limit]]
        cursor = left[:limit][-1] - 1 if rows else bound
        data = {"user_following": rows, "cursor": cursor, "has_more": len(left) > limit}
        return envelope(200, "ok", data=data)

    def run(self, protocol: ApiProtocol, steps: Flow[Any]) -> Any:
        """Do what a generator says; its result."""
        said: Any = None
        try:
            while True:
                effect = steps.send(said)
                if isinstance(effect, SendRequest):
                    said = self.answer(effect)
                elif isinstance(effect, NeedToken):
                    said = protocol.cached_token(effect.refused) or self.run(protocol, protocol.fetch_token())
                else:
                    self.slept += effect.seconds
                    self.clock.advance(int(effect.seconds) + 1)
                    said = None
        except StopIteration as stop:
            return stop.value


def refusing(message: str) -> Callable[[dict[str, Any], HttpResponse], Reply | None]:
    """Each page is refused."""
    return lambda body, good: envelope(400, "invalid_params", message) if body else None


def spent(days: int, headers: dict[str, str]) -> Callable[[dict[str, Any], HttpResponse], Reply | None]:
    """The quota is spent, so often."""
    refusals = iter([envelope(429, "daily_quota_limit_exceeded", **headers)] * days)
    return lambda body, good: next(refusals, None) if body else None


def walked(service: Service, policy: RetryPolicy, max_count: int = 3) -> list[str]:
    """All usernames that a client gets."""
    protocol = ApiProtocol("key", "secret", policy, service.clock, random.Random(1).random)
    walk = Paginator(protocol, "following", {"username": "a", "max_count": max_count})
    found: list[str] = []
    while page := service.run(protocol, walk.next_page()):
        found += [person.username for person in page.rows]
    return found


def later(answer: HttpResponse, by: int) -> HttpResponse:
    """A page whose cursor does not move, or goes back up."""
    read = json.loads(answer.body)
    if "cursor" in read["data"]:
        read["data"]["cursor"] += by
    return HttpResponse(answer.status, json.dumps(read).encode())


def changed(answer: HttpResponse, **data: Any) -> HttpResponse:
    """A page with other data; None leaves a key out."""
    read = json.loads(answer.body)
    read["data"] = {name: value for name, value in (read["data"] | data).items() if value is not None}
    return HttpResponse(answer.status, json.dumps(read).encode())


AGAIN = "page 1 again"
# Faulty responses, made from the request's body and the good response.
ODD: dict[str, Callable[[dict[str, Any], HttpResponse], Reply]] = {
    "500": lambda body, good: envelope(500, "internal_error"),
    "HTML": lambda body, good: HttpResponse(504, b"<html>Gateway Time-out</html>"),
    "empty": lambda body, good: HttpResponse(200, b""),
    "cut": lambda body, good: HttpResponse(200, good.body[:-5]),
    "broken": lambda body, good: NoResponse("ServerDisconnectedError"),
    "too fast": lambda body, good: envelope(429, "rate_limit_exceeded", retry_after="7"),
    "token refused": lambda body, good: envelope(401, "access_token_invalid"),
    "error null": lambda body, good: HttpResponse(200, b'{"data":{},"error":null}'),
    "no cursor": lambda body, good: changed(good, cursor=None, has_more=None),
    "nothing, though more": lambda body, good: changed(good, user_following=[], has_more=True),
    "cursor 0": lambda body, good: changed(good, cursor=0, has_more=True),
    "the cursor does not move": lambda body, good: changed(good, cursor=body.get("cursor", NOW), has_more=True),
    **{
        f"a gateway's {status}": lambda body, good, status=status: HttpResponse(status, b"<html>no</html>")  # type: ignore[misc]
        for status in (404, 405, 407)
    },
    "a gateway's redirect": lambda body, good: HttpResponse(302, b"", {"location": "/login"}),
    "a gateway's 403": lambda body, good: HttpResponse(403, b"<html>Forbidden</html>"),
    "data null": lambda body, good: HttpResponse(500, b'{"data":null,"error":{"code":"internal_error","message":""}}'),
    "no UTF-8": lambda body, good: HttpResponse(200, good.body.replace(b"user", b"\xff")),
    "error as 200": lambda body, good: envelope(200, "internal_error", "timeout"),
}


@given(
    seconds=st.lists(st.integers(1, 60), unique=True, max_size=20),
    max_count=st.integers(1, 5),
    draws=st.lists(st.sampled_from([None, AGAIN, *ODD]), max_size=60),
)
def test_failures_between_pages_lose_and_repeat_no_row(
    seconds: list[int], max_count: int, draws: list[str | None]
) -> None:
    """For every list, and every order of odd answers that ends: all rows, once, newest first.

    The first page is good: until then, a gateway's refusal says that the path is wrong.
    """
    waiting = iter([None, None, *draws])  # for the token and the first page

    def odd(body: dict[str, Any], good: HttpResponse) -> Reply | None:
        name = next(waiting, None)
        if name == AGAIN:
            return service.page(None, max_count) if body else None
        return None if name is None or not body else ODD[name](body, good)

    service = Service(seconds, odd)
    expected = [f"u{second}" for second in sorted(seconds, reverse=True)]
    assert expected == walked(service, RetryPolicy(attempts=100), max_count)


def test_a_short_page_is_a_page() -> None:
    """The service may leave out rows if the cursor moves and it promises more."""
    service = Service(list(range(1, 30)), lambda body, good: None)
    full = service.page
    service.page = lambda bound, limit: full(bound, 1)  # type: ignore[method-assign]

    assert [f"u{second}" for second in range(29, 0, -1)] == walked(service, RetryPolicy(), 3)


def test_resuming_after_a_short_page_does_not_repeat_it() -> None:
    """Page 1 again, but longer than it was: its cursor has moved, and only its first row tells."""
    service = Service(list(range(1, 30)), lambda body, good: None)
    again = iter([service.page(None, 9)])
    service.odd = lambda body, good: next(again, None) if body else None
    protocol = ApiProtocol("key", "secret", RetryPolicy(), service.clock, lambda: 0.0)
    walk = Paginator(protocol, "following", {"username": "a", "max_count": 9, "cursor": 26}, Person("u29"))

    page = service.run(protocol, walk.next_page())
    assert [f"u{second}" for second in range(26, 17, -1)] == [person.username for person in page.rows]


def test_a_missing_list_key_is_an_empty_list() -> None:
    """TikTok leaves it out where there is nothing."""
    assert [] == walked(
        Service([], lambda body, good: changed(good, user_following=None) if body else None), RetryPolicy()
    )


@pytest.mark.parametrize(
    ("odd", "words"),
    [
        (lambda body, good: later(good, body.get("cursor", 9) - 6), "the cursor does not move|not the page"),
        (lambda body, good: changed(good, user_following=[]) if body.get("cursor") else None, "no rows, though"),
        (lambda body, good: changed(good, cursor=0) if body.get("cursor") else None, "with the cursor 0"),
    ],
)
def test_inconsistent_pages_end_in_an_error(odd: Any, words: str) -> None:
    """Asked for again as often as allowed; the error says what was wrong."""
    service = Service(list(range(1, 30)), lambda body, good: odd(body, good) if body else None)
    with pytest.raises(BrokenList, match=words):
        walked(service, RetryPolicy(attempts=3))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (envelope(400, "invalid_params", "username x is private"), AccountUnavailable, "private"),
        (envelope(400, "invalid_params", "username x is invalid: cannot find the user"), AccountUnavailable, "find"),
        (envelope(400, "invalid_params", "API cannot return this user's information"), AccountUnavailable, "API"),
        (envelope(400, "invalid_params", "Invalid count or cursor"), Refused, "count or cursor"),
        (envelope(401, "scope_not_authorized", "research.data.basic"), Refused, LOG_ID),
        (envelope(429, "daily_quota_limit_exceeded"), DailyQuotaExceeded, "daily"),
        (
            HttpResponse(404, b"Unsupported path(Janus)"),
            GaveUp,
            "tried 4 times; last failure: .* is not part of the API.*Janus",
        ),
        (envelope(404, "unsupported_path"), Refused, "unsupported_path"),
        (envelope(500, "internal_error"), GaveUp, "tried 4 times"),
        (NoResponse("ConnectionResetError"), GaveUp, "ConnectionResetError"),
        (envelope(401, "access_token_invalid", "no"), GaveUp, "no"),
    ],
)
def test_final_refusals_raise(answer: Reply, kind: type[ClientError], words: str) -> None:
    """At once where asking again is no use, else after as many attempts as allowed."""
    service = Service([5], lambda body, good: answer if body else None)
    with pytest.raises(kind, match=words):
        walked(service, RetryPolicy(attempts=4))
    assert bool(service.slept) == (kind is GaveUp)


def test_the_reasons_of_an_unavailable_account() -> None:
    """Unknown, private, withheld."""
    reasons = []
    for message in ("x is invalid: cannot find the user", "x is private", "API cannot return this user's information"):
        with pytest.raises(AccountUnavailable) as caught:
            walked(Service([], refusing(message)), RetryPolicy())
        reasons.append(caught.value.reason)
    assert ["unknown", "private", "withheld"] == reasons


def test_a_client_can_wait_for_its_quota() -> None:
    """Until midnight by our own clock, or as long as the service says; else the error says until when."""
    for headers, expected in ({"ratelimit_reset": "600"}, 600), ({}, 86_400 - FrozenClock().now() % 86_400):
        service = Service([5], spent(1, headers))
        before = service.clock.now()
        assert ["u5"] == walked(service, RetryPolicy(quota="wait"))
        assert expected <= service.slept <= expected + 10

        service = Service([5], spent(1, headers))
        with pytest.raises(DailyQuotaExceeded) as caught:
            walked(service, RetryPolicy())
        assert caught.value.resets_at == before + expected


def test_a_quota_still_spent_after_midnight_is_retried_soon() -> None:
    """Not a whole day later: the service's clock, or its bookkeeping, may be behind."""
    service = Service([5], spent(4, {}))
    assert ["u5"] == walked(service, RetryPolicy(quota="wait"))
    assert service.slept < 86_400 + 3 * 400


def test_a_token_is_reused_and_renewed_in_time() -> None:
    """One token serves all pages; it is renewed shortly before its end, or after a refusal."""
    service = Service(list(range(1, 30)), lambda body, good: None)
    protocol = ApiProtocol("key", "secret", RetryPolicy(), service.clock, lambda: 0.0)

    def page() -> Any:
        walk = Paginator(protocol, "following", {"username": "a", "max_count": 3})
        return service.run(protocol, walk.next_page())

    page()
    page()
    assert service.tokens == 1
    service.clock.advance(7200 - 59)
    page()
    assert service.tokens == 2

    service.clock.advance(100)
    refusals = iter([envelope(401, "access_token_invalid")])
    service.odd = lambda body, good: next(refusals, None) if body else None
    page()
    assert service.tokens == 3


def test_a_fresh_token_that_is_refused_is_tried_again() -> None:
    """Services may not know a token everywhere at once; fetching ever new ones would not help."""
    service = Service([5], lambda body, good: None)
    refusals = iter([envelope(401, "access_token_invalid")] * 2)
    service.odd = lambda body, good: next(refusals, None) if body else None
    assert ["u5"] == walked(service, RetryPolicy())
    assert service.tokens == 1


@pytest.mark.parametrize("status", [200, 400, 401])
def test_wrong_credentials_are_final(status: int) -> None:
    """The status of the token endpoint makes no difference."""
    said = {"error": "invalid_client", "error_description": "Client key or secret is incorrect.", "log_id": LOG_ID}
    service = Service([5], lambda body, good: None if body else HttpResponse(status, json.dumps(said).encode()))
    with pytest.raises(Refused, match="Client key or secret is incorrect"):
        walked(service, RetryPolicy())
    assert not service.slept


def waits_of(protocol: ApiProtocol, reply: Reply) -> list[float]:
    """Return how long a client waits between attempts that all get the same reply."""
    waits, steps = list[float](), protocol.info("a")
    said: Any = None

    def ask() -> None:
        nonlocal said
        while True:
            effect = steps.send(said)
            said = "clt.x" if isinstance(effect, NeedToken) else reply if isinstance(effect, SendRequest) else None
            waits.extend([effect.seconds] if isinstance(effect, Sleep) else [])

    with pytest.raises(GaveUp):
        ask()
    return waits


def test_waits_grow_up_to_the_longest_and_obey_the_service() -> None:
    """Twice as long each time, never longer than allowed; at least what Retry-After says."""
    protocol = ApiProtocol("key", "secret", RetryPolicy(attempts=8), FrozenClock(), lambda: 0.0)
    busy = envelope(503, "internal_error", retry_after="3")
    assert [3, 3, 3, 4, 8, 16, 32] == waits_of(protocol, busy)  # and none after the last attempt


@pytest.mark.parametrize(("chance", "share"), [(0.0, 1.0), (0.25, 0.875), (0.5, 0.75), (1.0, 0.5)])
def test_waits_have_jitter_of_up_to_a_half(chance: float, share: float) -> None:
    """Each wait has a number of its own, so clients that failed together do not come back together."""
    draws = iter([chance, 0.0, chance, 1.0])
    protocol = ApiProtocol(
        "key", "secret", RetryPolicy(attempts=5, longest_wait_seconds=3), FrozenClock(), lambda: next(draws)
    )
    waits = waits_of(protocol, NoResponse("no"))
    assert waits == [0.5 * share, 1.0, 2.0 * share, 1.5]


@given(chance=st.floats(0, 1), attempt=st.integers(1, 30))
def test_every_wait_is_within_its_range(chance: float, attempt: int) -> None:
    """For every number drawn and every attempt: from a half of the full wait to all of it."""
    policy = RetryPolicy(first_wait_seconds=0.5, longest_wait_seconds=60)
    full = min(0.5 * 2 ** (attempt - 1), 60)
    wait = (
        ApiProtocol("key", "secret", policy, FrozenClock(), lambda: chance)._wait(attempt, "", NoResponse("no")).seconds
    )
    assert full / 2 <= wait <= full
    assert wait == pytest.approx(full * (1 - chance / 2))


@given(rows=st.integers(0, 120), asked_for=st.integers(1, 100))
def test_a_page_has_no_more_rows_than_were_asked_for(rows: int, asked_for: int) -> None:
    """For every number: a page with more rows is not taken, and the message names both numbers."""
    data = {"user_following": [{"username": f"u{n}"} for n in range(rows)], "cursor": NOW - 9, "has_more": False}
    protocol = ApiProtocol("key", "secret", RetryPolicy(attempts=1), FrozenClock(), lambda: 0.0)
    steps = Paginator(protocol, "following", {"username": "a", "max_count": asked_for}).next_page()
    assert isinstance(next(steps), NeedToken)
    assert isinstance(steps.send("token"), SendRequest)
    if rows > asked_for:
        with pytest.raises(BrokenList, match=f"{rows} rows, though at most {asked_for} were requested"):
            steps.send(envelope(200, "ok", data=data))
    else:
        with pytest.raises(StopIteration) as stopped:
            steps.send(envelope(200, "ok", data=data))
        assert rows == len(stopped.value.value.rows)


@pytest.mark.parametrize(
    ("seconds_ago", "is_sound"), [(-1, False), (0, False), (1, False), (2, False), (3, True), (9, True)]
)
@pytest.mark.parametrize("log_id", [LOG_ID, ""])
def test_a_first_page_at_the_present_is_not_a_repeat(seconds_ago: int, is_sound: bool, log_id: str) -> None:
    """A cursor of at most two seconds before the response counts as the present."""
    rows = (Person("a"), Person("b"))
    ours = NOW if not log_id else NOW + 1_000
    first = ListPage(rows, NOW - seconds_ago, True, None, ours, log_id, b"")
    assert ("" == inconsistency(first, None)) is is_sound
    assert "" == inconsistency(replace(first, has_more=False), None)
    assert "" == inconsistency(replace(first, bound=NOW + 9), None)
