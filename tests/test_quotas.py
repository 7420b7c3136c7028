"""Quotas as a client meets them: what counts, what is left, what a refusal says, and when it is over."""

import asyncio
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from retinue.access.quotas import TOKEN_RATE
from retinue.errors import StoreError
from retinue.model import Pool, Quota, QuotaKey, RateLimit, Visibility
from retinue.quota.counters import DAY_SECONDS
from retinue.quota.file_counters import FileQuotaCounters
from retinue.web.oauth import FAILURE_SECONDS, MOST_FAILURES
from support.frozen_clock import FrozenClock
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN, Service

MIDNIGHT = 1_700_006_400
SPENT = "The API daily quota limit exceeded. Please try again later"
TOO_FAST = "The API rate limit was exceeded. Please try again later."
PROFILE = f"{INFO}?fields=display_name"
REVOKE = "/v2/oauth/revoke/"


def served(service: Service, **wanted: Any) -> Service:
    """A service whose client has a quota of its own, with a list of thirty."""
    service.follow("p", *((f"f{number}", 1_000_000_000 - 10 * number) for number in range(30)))
    service.client_key, service.secret = service.register(**wanted)
    service.token = service.fresh_token()
    return service


def error_of(answer: httpx.Response) -> tuple[int, str, str]:
    """Status, code and message of a refusal."""
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


def limits_of(answer: httpx.Response) -> list[int]:
    """Return limit, remaining calls and reset time of the headers."""
    names = ("ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
    return [int(answer.headers[name]) for name in names if name in answer.headers]


# A day's calls and rows


def test_calls_of_both_lists_share_a_pool(service: Service) -> None:
    """Following and followers count together, the profile apart; the headers tell what is left of which."""
    served(service, list_calls=3, other_calls=1)
    left = MIDNIGHT - service.clock.now()
    for path, remaining in ((FOLLOWING, 2), (FOLLOWERS, 1), (FOLLOWING, 0)):
        answer = service.ask({"username": "p"}, path)
        assert (200, [3, remaining, left]) == (answer.status_code, limits_of(answer))
    assert (200, [1, 0, left]) == ((answer := service.ask({"username": "p"}, PROFILE)).status_code, limits_of(answer))

    for path, limit in ((FOLLOWING, 3), (FOLLOWERS, 3), (PROFILE, 1)):
        answer = service.ask({"username": "p"}, path)
        assert (429, "daily_quota_limit_exceeded", SPENT) == error_of(answer)
        assert [limit, 0, left] == limits_of(answer)
        assert "retry-after" not in answer.headers


@pytest.mark.parametrize("wanted", [{}, {"list_calls": None, "list_rows": None, "other_calls": None}])
def test_the_default_quota_is_tiktoks_and_none_means_unlimited(service: Service, wanted: dict[str, Any]) -> None:
    """20,000 calls for lists and 1,000 others a day; without a limit no header speaks of one."""
    served(service, **wanted)
    left = MIDNIGHT - service.clock.now()

    assert ([] if wanted else [20_000, 19_999, left]) == limits_of(service.ask({"username": "p"}))
    assert ([] if wanted else [1_000, 999, left]) == limits_of(service.ask({"username": "p"}, PROFILE))


def test_a_page_is_shortened_to_the_remaining_rows(service: Service) -> None:
    """Cursor and has_more stay exact, so nothing is lost when there is quota again; then there are none at all."""
    served(service, list_rows=25)
    first, second = (service.ask({"username": "p", "max_count": 20}).json()["data"] for _ in range(2))
    assert (20, 1_000_000_000 - 190 - 1, True) == (len(first["user_following"]), first["cursor"], first["has_more"])
    assert (5, 1_000_000_000 - 40 - 1, True) == (len(second["user_following"]), second["cursor"], second["has_more"])
    answer = service.ask({"username": "p"})
    assert (429, "daily_quota_limit_exceeded", SPENT) == error_of(answer)
    assert [20_000, 19_998] == limits_of(answer)[:2]

    service.clock.advance(86_400)
    service.token = service.fresh_token()
    rest = service.ask({"username": "p", "max_count": 100, "cursor": second["cursor"]}).json()["data"]
    assert [f"f{number}" for number in range(5, 30)] == [row["username"] for row in rest["user_following"]]


def test_only_returned_rows_are_counted(service: Service) -> None:
    """Not those that were asked for: a short list costs what it has, an empty one nothing but the call."""
    served(service, list_rows=31)
    service.add_account("lonely")
    assert 200 == service.ask({"username": "lonely", "max_count": 100}).status_code
    assert 30 == len(service.ask({"username": "p", "max_count": 100}).json()["data"]["user_following"])

    assert 1 == len(service.ask({"username": "p", "max_count": 100}).json()["data"]["user_following"])


def test_only_successful_requests_are_counted(service: Service) -> None:
    """A refusal for any reason leaves the quota unchanged."""
    served(service, list_calls=1)
    service.add_account("hidden", visibility=Visibility.PRIVATE)
    service.add_account("gone", visibility=Visibility.WITHHELD)
    refused = [b"", b"{}", {"username": "x"}, {"username": "hidden"}, {"username": "gone"}]
    refused += [{"username": "p", "max_count": 101}, {"username": "p", "cursor": -1}]
    for _ in range(3):
        for body in refused:
            assert 400 == service.ask(body).status_code
    assert 401 == service.post(FOLLOWING, b'{"username":"p"}').status_code

    assert (200, [1, 0]) == ((answer := service.ask({"username": "p"})).status_code, limits_of(answer)[:2])


def test_checks_happen_in_order(service: Service) -> None:
    """Parameters are checked before the quota, the account after it, the short-term limit between."""
    served(service, list_calls=1, rate=RateLimit(1, 60))
    assert 400 == service.ask({"username": "p", "max_count": 0}).status_code
    assert 200 == service.ask({"username": "p"}).status_code
    assert "rate_limit_exceeded" == error_of(service.ask({"username": "nobody"}))[1]
    service.clock.advance(60)
    assert "daily_quota_limit_exceeded" == error_of(service.ask({"username": "nobody"}))[1]
    assert 400 == service.ask({"username": ""}).status_code
    assert "access_token_invalid" == error_of(service.post(FOLLOWING, b""))[1]


def test_a_day_begins_at_midnight_utc(service: Service) -> None:
    """One second before it is too early; at it all is there again."""
    served(service, list_calls=1)
    assert 200 == service.ask({"username": "p"}).status_code
    service.clock.advance(MIDNIGHT - 1 - service.clock.now())
    service.token = service.fresh_token()
    answer = service.ask({"username": "p"})
    assert (429, [1, 0, 1]) == (answer.status_code, limits_of(answer))

    service.clock.advance(1)
    answer = service.ask({"username": "p"})
    assert (200, [1, 0, 86_400]) == (answer.status_code, limits_of(answer))


def test_clients_have_separate_quotas(service: Service) -> None:
    """And all tokens of a client share one."""
    served(service, list_calls=2)
    assert 200 == service.ask({"username": "p"}).status_code
    service.token = service.fresh_token()
    assert 200 == service.ask({"username": "p"}).status_code
    assert 429 == service.ask({"username": "p"}).status_code

    service.client_key, service.secret = service.register(list_calls=1)
    service.token = service.fresh_token()
    assert 200 == service.ask({"username": "p"}).status_code


# The short-term limit


def test_a_short_term_limit_slides(service: Service) -> None:
    """A refusal of the fourth call in ten seconds says how long to wait, and does not count."""
    served(service, rate=RateLimit(3, 10))
    for _ in range(2):
        assert 200 == service.ask({"username": "p"}).status_code
    service.clock.advance(4)
    assert 400 == service.ask({"username": "nobody"}).status_code
    assert 200 == service.ask({"username": "p"}, PROFILE).status_code
    for _ in range(50):
        answer = service.ask({"username": "p"})
        assert (429, "rate_limit_exceeded", TOO_FAST) == error_of(answer)
        assert ("6", [3, 0, 6]) == (answer.headers["retry-after"], limits_of(answer))
    service.clock.advance(5)
    assert 429 == service.ask({"username": "p"}, PROFILE).status_code

    service.clock.advance(1)
    assert [200, 200, 429] == [service.ask({"username": "p"}).status_code for _ in range(3)]


def test_calls_for_tokens_have_a_limit_for_each_client(service: Service) -> None:
    """Only who knows the secret uses it up, and only its own."""
    form = f"client_key={service.client_key}&client_secret=SECRET&grant_type=client_credentials"
    for _ in range(20):
        assert 401 == service.post(TOKEN, form.encode()).status_code
    right = form.replace("SECRET", service.secret).encode()
    quota_key = asyncio.run(service.clients.get(service.client_key)).quota_key
    for _ in range(TOKEN_RATE.calls - 1):
        assert 0 == service.counters.admit(quota_key, service.clock.now(), TOKEN_RATE)
    assert 200 == service.post(TOKEN, right).status_code
    answer = service.post(TOKEN, right)
    assert (429, "rate_limit_exceeded", TOO_FAST) == (
        answer.status_code,
        answer.json()["error"],
        answer.json()["error_description"],
    )
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert 429 == service.post(REVOKE, right + b"&token=x").status_code

    key, secret = service.register()
    other = f"client_key={key}&client_secret={secret}&grant_type=client_credentials"
    assert 200 == service.post(TOKEN, other.encode()).status_code
    assert 400 == service.ask({"username": "nobody"}).status_code  # calls for data are counted apart


# Failures


def test_only_failed_token_requests_are_delayed(service: Service) -> None:
    """A wrong secret is delayed for any key; a right one never is."""
    form = f"client_key={service.client_key}&client_secret=SECRET&grant_type=client_credentials"
    for key, secret, status in (("KEY", "wrong", 401), ("nobody", service.secret, 401), ("KEY", service.secret, 200)):
        body = form.replace("SECRET", secret).replace(service.client_key, service.client_key if key == "KEY" else key)
        assert status == service.post(TOKEN, body.encode()).status_code

    assert [FAILURE_SECONDS] * 2 == service.pauses


def test_delayed_failures_are_bounded(service: Service) -> None:
    """Past so many that wait, others are refused at once; the right secret is answered all the while."""
    gate, all_wait = asyncio.Event(), asyncio.Event()

    async def pause() -> None:
        if len(service.pauses) == MOST_FAILURES:
            all_wait.set()
        await gate.wait()

    service.pause = pause
    form = f"client_key={service.client_key}&client_secret=SECRET&grant_type=client_credentials"

    async def story() -> tuple[list[int], int, int]:
        transport = httpx.ASGITransport(app=service.application)
        async with httpx.AsyncClient(transport=transport, base_url="http://retinue") as client:
            waiting = [asyncio.create_task(client.post(TOKEN, content=form)) for _ in range(MOST_FAILURES)]
            await all_wait.wait()
            refused = await client.post(TOKEN, content=form)
            answered = await client.post(TOKEN, content=form.replace("SECRET", service.secret))
            gate.set()
            return (
                [answer.status_code for answer in await asyncio.gather(*waiting)],
                refused.status_code,
                (answered.status_code),
            )

    assert ([401] * MOST_FAILURES, 429, 200) == asyncio.run(story())


# Revoking a token


def test_a_token_can_be_revoked_by_its_client_alone(service: Service, clock: FrozenClock) -> None:
    """The answer is `{}`; within a second the token is none. An unknown one is told so with 200, as TikTok does."""
    service.follow("p", ("a", 5))
    proof = f"client_key={service.client_key}&client_secret={service.secret}"
    key, secret = service.register()
    unknown = (200, "invalid_grant", "Access token is invalid or expired.")

    def revoke(proof: str, token: str) -> tuple[int, Any, Any]:
        answer = service.post(REVOKE, f"{proof}&token={token}".encode())
        if answer.json() == {}:
            return answer.status_code, {}, answer.headers["cache-control"]
        return answer.status_code, answer.json()["error"], answer.json()["error_description"]

    assert unknown == revoke(f"client_key={key}&client_secret={secret}", service.token)
    assert unknown == revoke(proof, "clt.nonsense")
    assert (401, "invalid_client") == revoke(proof + "x", service.token)[:2]
    assert (400, "invalid_request", "Token is missed in request.") == (
        (answer := service.post(REVOKE, proof.encode())).status_code,
        answer.json()["error"],
        answer.json()["error_description"],
    )
    assert 200 == service.ask({"username": "p"}).status_code
    assert (200, {}, "no-store") == revoke(proof, service.token)
    assert 401 == service.ask({"username": "p"}).status_code
    assert unknown == revoke(proof, service.token)

    service.token = service.fresh_token()
    clock.advance(7200)
    assert unknown == revoke(proof, service.token)


# The file of the counters


def test_counters_outlive_their_process(tmp_path: Path) -> None:
    """The file has all counts, and is private."""
    path = tmp_path / "graph.quotas"
    counters = FileQuotaCounters(path)
    for _ in range(3):
        counters.charge(QuotaKey(900, 5), 10 * DAY_SECONDS, Pool.LISTS, 7, Quota())
    counters.close()

    counters = FileQuotaCounters(path)
    used = counters.usage(QuotaKey(900, 5), 10 * DAY_SECONDS)
    assert (3, 21, 0) == (used.list_calls, used.list_rows, used.other_calls)
    assert 0 == counters.usage(QuotaKey(900, 6), 10 * DAY_SECONDS).list_calls
    counters.settle()
    counters.close()
    assert 0o600 == path.stat().st_mode & 0o777


def test_an_exclusive_counter_does_not_block_readers(tmp_path: Path) -> None:
    """Others read the counters, but only one holder is exclusive; the next one follows it."""
    path = tmp_path / "graph.quotas"
    quota_key = QuotaKey(900, 1)
    alone = FileQuotaCounters(path, alone=True)
    onlooker = FileQuotaCounters(path)
    with pytest.raises(StoreError, match="another server counts here"):
        FileQuotaCounters(path, alone=True)
    assert alone.charge(quota_key, DAY_SECONDS, Pool.LISTS, 5, Quota()) is not None
    assert 0 == alone.admit(quota_key, DAY_SECONDS, TOKEN_RATE)
    assert 5 == onlooker.usage(quota_key, DAY_SECONDS).list_rows
    alone.close()
    FileQuotaCounters(path, alone=True).close()
    assert onlooker.charge(quota_key, DAY_SECONDS, Pool.LISTS, 5, Quota()) is not None
    onlooker.close()


def test_a_clock_set_back_over_midnight_grants_nothing_twice(tmp_path: Path) -> None:
    """The newest day goes on, however far back the clock is put."""
    counters = FileQuotaCounters(tmp_path / "graph.quotas")
    quota_key = QuotaKey(1, 1)
    for day, expected in ((10, 1), (9, 2), (10, 3), (11, 1), (9, 2)):
        used = counters.charge(quota_key, day * DAY_SECONDS, Pool.OTHERS, 0, Quota(other_calls=5))
        assert used is not None
        assert 5 - expected == used.calls
    counters.close()


@pytest.mark.parametrize("content", [b"x", b"something else that is long enough" * 99])
def test_another_file_is_not_taken_for_counters(tmp_path: Path, content: bytes) -> None:
    """It stays as it is, and the error says what to do."""
    path = tmp_path / "graph.quotas"
    path.write_bytes(content)

    with pytest.raises(StoreError, match="is not a file of quota counters, or is damaged; remove it"):
        FileQuotaCounters(path)
    assert content == path.read_bytes()


def test_a_reused_slot_starts_with_an_empty_window(tmp_path: Path) -> None:
    """Also where its first calls are under no short-term limit."""
    with closing(FileQuotaCounters(tmp_path / "graph.quotas")) as counters:
        limited = Quota(rate=RateLimit(1, 60))
        assert counters.charge(QuotaKey(2, 20), 10 * DAY_SECONDS, Pool.LISTS, 1, limited) is not None
        assert counters.charge(QuotaKey(2, 21), 10 * DAY_SECONDS, Pool.LISTS, 1, Quota()) is not None
        assert counters.charge(QuotaKey(2, 21), 10 * DAY_SECONDS, Pool.LISTS, 1, limited) is not None
        assert counters.charge(QuotaKey(2, 21), 10 * DAY_SECONDS, Pool.LISTS, 1, limited) is None
