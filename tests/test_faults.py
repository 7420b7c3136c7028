"""Each injected fault, as a client meets it."""

import http.client
import json
from collections.abc import Callable
from contextlib import closing
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest

from retinue.local import LocalServer
from support.faulty_server import FIRST, FOLLOWERS, FOLLOWING, INFO, ROWS, TOKEN, list_calls_used, names_of, page, post


def test_short_pages_lose_nothing(with_faults: Callable[..., LocalServer]) -> None:
    """Fewer rows than asked for while there are more; the cursor goes on where the page ends."""
    server = with_faults(short_pages=1)
    token, found, cursor, is_more, sizes = server.token(), [], None, True, []
    while is_more:
        data = page(server, token, username="a", max_count=100, cursor=cursor)
        found += names_of(data)
        sizes.append(len(names_of(data)))
        cursor, is_more = data["cursor"], data["has_more"]

    assert [f"b{n}" for n in range(ROWS, 0, -1)] == found
    assert all(57 <= size <= 93 for size in sizes[:-1])
    assert 1 == len(names_of(page(server, token, username="@A", max_count=1)))


def test_the_first_page_is_repeated(with_faults: Callable[..., LocalServer]) -> None:
    """The first page comes back for any cursor."""
    server = with_faults(repeated_pages=1)
    first = page(server, username="a")

    assert "b230" == names_of(first)[0]
    assert first == page(server, username="a", cursor=first["cursor"])


def test_a_cursor_may_stay_the_same(with_faults: Callable[..., LocalServer]) -> None:
    """The rows are right, the cursor is the one that was sent; on the last page it does no harm."""
    server = with_faults(stuck_cursors=1)

    assert FIRST + 100 == page(server, username="a", cursor=FIRST + 100)["cursor"]
    assert server.clock.now() - 60 < page(server, username="a")["cursor"] <= server.clock.now()
    assert (FIRST, False) == tuple(page(server, username="a", cursor=FIRST + 5)[key] for key in ("cursor", "has_more"))


@pytest.mark.parametrize("max_count", [1, 7, 50, 100])
def test_a_list_ends_after_so_many_rows(with_faults: Callable[..., LocalServer], max_count: int) -> None:
    """The newest; behind them there is nothing, and nothing says that there was more."""
    server = with_faults(list_end_rows=150)
    token, found, cursor, is_more = server.token(), [], None, True
    while is_more:
        data = page(server, token, username="a", max_count=max_count, cursor=cursor)
        found += names_of(data)
        cursor, is_more = data["cursor"], data["has_more"]

    assert [f"b{n}" for n in range(ROWS, ROWS - 150, -1)] == found
    behind = page(server, token, username="a", cursor=FIRST + 60)
    assert ([], False) == (names_of(behind), behind["has_more"])
    assert {"b81"} == set(names_of(page(server, token, username="a", cursor=FIRST + 81)))
    assert ["a"] == [row["username"] for row in page(server, token, FOLLOWERS, username="b7")["user_followers"]]


@pytest.mark.parametrize(("path", "who", "key"), [(FOLLOWING, "b1", "following"), (FOLLOWERS, "a", "followers")])
def test_an_empty_list_may_lack_its_key(with_faults: Callable[..., LocalServer], path: str, who: str, key: str) -> None:
    """Cursor and has_more are there; so is the key where the list is not empty."""
    server = with_faults(missing_empty_lists=True)

    assert {"cursor", "has_more"} == page(server, path=path, username=who).keys()
    other = {"a": "b1", "b1": "a"}[who]
    assert f"user_{key}" in page(server, path=path, username=other)


def test_page_faults_leave_refusals_unchanged(with_faults: Callable[..., LocalServer]) -> None:
    """Faults of pages leave refusals as they are, to the last byte but for the log_id."""
    bodies = ['{"username":"nobody"}', '{"username":"a","max_count":0}', "[", '{"username":7}', "", " " * 70_000]

    def answers(server: LocalServer) -> list[Any]:
        token = server.token()
        found = [post(server, FOLLOWING, body, token) for body in bodies] + [post(server, FOLLOWING, "{}", "wrong")]
        return [(status, json.loads(body)["error"] | {"log_id": ""}) for status, _, body in found]

    assert answers(with_faults()) == answers(with_faults(short_pages=1, repeated_pages=1, missing_empty_lists=True))


@pytest.mark.parametrize(("costs", "calls"), [(False, 0), (True, 3)])
def test_server_errors_cost_quota_or_not(with_faults: Callable[..., LocalServer], costs: bool, calls: int) -> None:
    """The error is 500 in the envelope; the audit log has it as an error or as charged."""
    before = list_calls_used(with_faults())
    server = with_faults(server_errors=1, failures_cost_quota=costs)
    for _ in range(3):
        status, headers, body = post(server, FOLLOWING, '{"username":"a"}', server.token())
        error = json.loads(body)["error"]
        assert (500, "internal_error", headers["x-tt-logid"]) == (status, error["code"], error["log_id"])
        record = server.requests[-1]
        assert error["log_id"] == record.log_id
        recorded = ("ok", 200, 20) if costs else ("internal_error", 500, 0)
        assert recorded == (record.code, record.status, record.rows)
        assert "ratelimit-limit" not in headers

    assert before + calls + 1 == list_calls_used(with_faults())


@pytest.mark.parametrize("costs", [False, True])
def test_gateways_answer_in_html(with_faults: Callable[..., LocalServer], costs: bool) -> None:
    """504, on every endpoint; the audit log knows the call only where it was charged."""
    before = list_calls_used(with_faults())
    server = with_faults(gateway_timeouts=1, failures_cost_quota=costs)
    recorded = len(server.requests)
    for path in (FOLLOWING, FOLLOWING.rstrip("/"), FOLLOWERS, INFO, TOKEN):
        status, headers, body = post(server, path, '{"username":"a"}', server.token())
        assert (504, "text/html") == (status, headers["content-type"])
        assert b"<title>504 Gateway Time-out</title>" in body

    assert (5 if costs else 0) == len(server.requests) - recorded
    assert before + 1 + (3 if costs else 0) == list_calls_used(with_faults())


@pytest.mark.parametrize("costs", [False, True])
def test_connections_are_closed_without_an_answer(with_faults: Callable[..., LocalServer], costs: bool) -> None:
    """Not one byte comes; and the server goes on."""
    before = list_calls_used(with_faults())
    server = with_faults(closed_connections=1, failures_cost_quota=costs)
    for path in (FOLLOWING, INFO, TOKEN):
        with pytest.raises(http.client.RemoteDisconnected):
            post(server, path, '{"username":"a"}', server.token())

    assert before + 1 + costs == list_calls_used(with_faults())


def test_connections_are_closed_in_the_middle(with_faults: Callable[..., LocalServer]) -> None:
    """Half of a body comes, of a call that counts."""
    before = list_calls_used(with_faults())
    server = with_faults(broken_bodies=1)
    with pytest.raises(http.client.IncompleteRead) as broken:
        post(server, FOLLOWING, '{"username":"a"}', server.token())

    assert broken.value.partial.startswith(b'{"data":{"user_following":[')
    assert before + 2 == list_calls_used(with_faults())


@pytest.mark.parametrize(("seconds", "header"), [(0, None), (1, "1"), (60, "60")])
def test_rate_limits_come_with_or_without_retry_after(
    with_faults: Callable[..., LocalServer], seconds: int, header: str | None
) -> None:
    """429 on the data endpoints, not on those for tokens; a bad token is told first."""
    server = with_faults(rate_limits=1, retry_after_seconds=seconds)
    for path in (FOLLOWING, FOLLOWERS, INFO):
        status, headers, body = post(server, path, '{"username":"a"}', server.token())
        assert (429, "rate_limit_exceeded") == (status, json.loads(body)["error"]["code"])
        assert header == headers.get("retry-after")

    assert 401 == post(server, FOLLOWING, '{"username":"a"}', "wrong")[0]
    assert 401 == post(server, TOKEN, "client_key=x&client_secret=y&grant_type=client_credentials")[0]


def test_the_quota_is_spent(with_faults: Callable[..., LocalServer]) -> None:
    """The status is 429 without Retry-After, for every client."""
    server = with_faults(quota_spent=True)
    status, headers, body = post(server, FOLLOWING, '{"username":"a"}', server.token())

    assert (429, "daily_quota_limit_exceeded") == (status, json.loads(body)["error"]["code"])
    assert "retry-after" not in headers


def test_good_tokens_are_refused(with_faults: Callable[..., LocalServer]) -> None:
    """401 in a share of the calls, and good again in the others."""
    server = with_faults(refused_tokens=0.5)
    token = server.token()

    statuses = {post(server, FOLLOWING, '{"username":"a"}', token)[0] for _ in range(30)}

    assert {200, 401} == statuses


def test_fresh_tokens_are_refused(with_faults: Callable[..., LocalServer]) -> None:
    """For so many seconds of the server's clock."""
    server = with_faults(fresh_token_seconds=60)
    token = server.token()

    status, _, body = post(server, FOLLOWING, '{"username":"a"}', token)
    assert (401, "access_token_invalid") == (status, json.loads(body)["error"]["code"])
    server.clock.advance(60)
    assert 200 == post(server, FOLLOWING, '{"username":"a"}', token)[0]


def test_token_errors_come_with_200(with_faults: Callable[..., LocalServer]) -> None:
    """With the body that they have otherwise; and so do false errors of the server there."""
    form = {"client_key": "x", "client_secret": "y", "grant_type": "client_credentials"}
    server = with_faults(token_errors_with_200=True)
    status, _, body = post(server, TOKEN, urlencode(form))
    assert (200, "invalid_client") == (status, json.loads(body)["error"])
    assert 401 == post(server, FOLLOWING, "{}", "wrong")[0]

    server = with_faults(token_errors_with_200=True, server_errors=1)
    status, _, body = post(server, TOKEN, urlencode(form))
    assert (200, "server_error") == (status, json.loads(body)["error"])


def test_responses_are_delayed(with_faults: Callable[..., LocalServer]) -> None:
    """By so many seconds, on every endpoint."""
    server = with_faults(delay_seconds=0.2)
    before = server.clock.elapsed()
    assert 20 == len(names_of(page(server, username="a")))

    assert server.clock.elapsed() - before >= 0.2


def test_unserved_paths_and_methods_have_no_faults(with_faults: Callable[..., LocalServer]) -> None:
    """Their refusals are as always."""
    server = with_faults(server_errors=1)
    assert 404 == post(server, "/v2/research/user/pinned_videos/", "")[0]
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)) as connection:
        connection.request("GET", FOLLOWING)
        assert 405 == connection.getresponse().status
