"""Faults on purpose: how they are written and drawn, and each of them as a client meets it."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from retinue.errors import InputError
from retinue.faults import (
    DOCUMENTED,
    PROFILES,
    SHARED_BYTES,
    Failure,
    Fates,
    Faults,
    SharedFaults,
    parsed,
    profile,
    profile_of,
)
from retinue.local import LocalServer, local_server

FOLLOWING = "/v2/research/user/following/"
FOLLOWERS = "/v2/research/user/followers/"
INFO = "/v2/research/user/info/"
TOKEN = "/v2/oauth/token/"
FIRST = 1_600_000_000
ROWS = 230

seeds = st.integers(0, 2**63 - 1)
all_faults = st.builds(
    Faults,
    short_pages=st.floats(0, 1),
    repeated_pages=st.floats(0, 0.5),
    stuck_cursors=st.floats(0, 0.5),
    list_end_rows=st.integers(0, 1_000_000),
    missing_empty_lists=st.booleans(),
    **{failure.value: st.floats(0, 1 / 6) for failure in Failure},
    failures_cost_quota=st.booleans(),
    retry_after_seconds=st.integers(0, 60),
    quota_spent=st.booleans(),
    fresh_token_seconds=st.integers(0, 60),
    token_errors_with_200=st.booleans(),
    delay_seconds=st.floats(0, 600),
    seed=seeds,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """A server on which `a` follows many accounts and `b1` follows none."""
    with local_server(tmp_path_factory.mktemp("faults")) as server:
        server.load(follows=[("a", f"b{n}", FIRST + n) for n in range(1, ROWS + 1)])
        server.clock.advance(100)
        yield server


@pytest.fixture
def with_faults(server: LocalServer) -> Iterator[Callable[..., LocalServer]]:
    """Return a function that sets the server's faults until the test is over."""

    def given_faults(**values: Any) -> LocalServer:
        server.faults = Faults(**values)
        return server

    yield given_faults
    server.faults = DOCUMENTED


def asked(server: LocalServer, path: str, body: str, token: str = "") -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of one answer."""
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)) as connection:
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def page(server: LocalServer, token: str = "", path: str = FOLLOWING, **query: Any) -> dict[str, Any]:
    """The data of a page."""
    data: dict[str, Any] = json.loads(asked(server, path, json.dumps(query), token or server.token())[2])["data"]
    return data


def names_of(data: dict[str, Any]) -> list[str]:
    """Return the usernames on a page of a following list."""
    return [row["username"] for row in data["user_following"]]


def used(server: LocalServer) -> int:
    """Calls for lists that the client has been charged for today, this one included."""
    headers = asked(server, FOLLOWING, '{"username":"a"}', server.token())[1]
    return int(headers["ratelimit-limit"]) - int(headers["ratelimit-remaining"])


# How faults are written


def test_faults_are_off_by_default() -> None:
    """Without a word nothing goes wrong, and nothing is drawn."""
    shared = SharedFaults(memoryview(bytearray(SHARED_BYTES)))

    assert DOCUMENTED == Faults() == parsed("") == parsed("documented") == shared.standing.faults
    assert None is Fates(shared).next()
    shared.put(Faults(seed=7))
    assert None is Fates(shared).next()


@pytest.mark.parametrize("name", PROFILES)
def test_fault_profiles_have_names(name: str) -> None:
    """Each is found by its name, and its name by what it is, whatever the seed."""
    assert structs.replace(PROFILES[name], seed=7) == profile(name, seed=7) == parsed(name, seed=7)
    assert name == profile_of(profile(name, seed=7))
    assert None is profile_of(structs.replace(PROFILES[name], delay_seconds=0.25))


def test_hostile_loses_nothing() -> None:
    """No fault of it is one for good: lists have no end, quotas are not spent, and no share is all."""
    hostile = profile("hostile")

    assert (0, False) == (hostile.list_end_rows, hostile.quota_spent)
    assert sum(getattr(hostile, failure.value) for failure in Failure) < 0.5
    assert hostile.repeated_pages + hostile.stuck_cursors < 0.5


def test_single_faults_of_a_profile_can_be_changed() -> None:
    """Single values behind a profile, or alone; blanks do no harm."""
    assert Faults(server_errors=0.1, delay_seconds=0.2) == parsed("server_errors=0.1,delay_seconds=0.2")
    assert structs.replace(profile("hostile"), short_pages=0.0) == parsed(" hostile , short_pages = 0 ")
    assert Faults(quota_spent=True, list_end_rows=50, seed=3) == parsed("quota_spent=true,list_end_rows=50", seed=3)


@given(all_faults)
def test_written_faults_are_read_back(faults: Faults) -> None:
    """All values survive as a text, and in memory that processes share."""
    memory = memoryview(bytearray(SHARED_BYTES))

    assert faults == parsed(",".join(f"{name}={value}" for name, value in structs.asdict(faults).items()))
    SharedFaults(memory).put(faults)
    assert faults == SharedFaults(memory).standing.faults


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("hostil", "there is no profile 'hostil'; there are documented, tiktok-2024, hostile"),
        ("server_error=0.1", "there is no 'server_error'; there are short_pages, "),
        ("server_errors=2", "server_errors: expected a share from 0 to 1, not 2"),
        ("server_errors=-0.1", "server_errors: expected a share from 0 to 1, not -0.1"),
        ("server_errors=nan", "server_errors: expected a share from 0 to 1, not nan"),
        ("server_errors=", "server_errors: expected a share from 0 to 1, not "),
        ("delay_seconds=601", "delay_seconds: expected seconds from 0 to 600, not 601"),
        ("retry_after_seconds=1.5", "retry_after_seconds: expected whole seconds from 0 to 60, not 1.5"),
        ("list_end_rows=-1", "list_end_rows: expected a number of rows up to 1000000, or 0 for no end, not -1"),
        ("quota_spent=maybe", "quota_spent: expected true or false, not maybe"),
        ("seed=x", "seed: expected a number from 0 to 2^63 - 1, not x"),
        ("delay_seconds=1,hostile", "'hostile': expected name=value"),
        ("delay_seconds=1,delay_seconds=2", "'delay_seconds=2': expected name=value, each name once"),
        ("server_errors=0.6,rate_limits=0.6", "refused_tokens: expected shares of at most 1 together, not 1.2"),
        ("repeated_pages=0.6,stuck_cursors=0.6", "repeated_pages, stuck_cursors: expected shares of at most 1"),
    ],
)
def test_bad_values_are_refused(text: str, reason: str) -> None:
    """With the fault and what was expected."""
    with pytest.raises(InputError) as refused:
        parsed(text)

    assert str(refused.value).startswith("faults: ")
    assert reason in str(refused.value)


@pytest.mark.parametrize("values", [{"server_errors": 2}, {"quota_spent": 1}, {"seed": "7"}, {"delay_seconds": None}])
def test_bad_values_are_refused_in_python(values: dict[str, Any]) -> None:
    """The error is raised where the faults are given, not where they occur."""
    with pytest.raises(InputError, match=f"faults: {next(iter(values))}: expected"):
        Faults(**values)


def test_shares_of_exactly_one_together_are_allowed() -> None:
    """Rounding does not count."""
    assert 0.4 == parsed("server_errors=0.4,gateway_timeouts=0.3,rate_limits=0.2,refused_tokens=0.1").server_errors


# How faults are shared and drawn


@given(all_faults, all_faults, st.integers(0, SHARED_BYTES - 1), st.integers(1, 255))
def test_half_written_faults_are_not_seen(before: Faults, after: Faults, place: int, bits: int) -> None:
    """A process that reads in between keeps to what was there, until all is written."""
    memory = memoryview(bytearray(SHARED_BYTES))
    writer, reader = SharedFaults(memory), SharedFaults(memory)
    writer.put(before)
    assert before == reader.standing.faults

    writer.put(after)
    memory[place] ^= bits
    assert before == reader.standing.faults
    memory[place] ^= bits
    assert after == reader.standing.faults


@given(all_faults)
def test_the_same_seed_draws_the_same(faults: Faults) -> None:
    """Every process draws the same faults, and setting the faults restarts the draw."""
    memory = memoryview(bytearray(SHARED_BYTES))
    shared, fates, others = SharedFaults(memory), Fates(SharedFaults(memory)), Fates(SharedFaults(memory))
    shared.put(faults)

    drawn = [fates.next() for _ in range(20)]
    assert drawn == [others.next() for _ in range(20)]
    shared.put(faults)
    assert drawn == [fates.next() for _ in range(20)]


@given(seeds)
def test_faults_occur_in_their_share_of_requests(seed: int) -> None:
    """Of many calls each failure strikes about its share, whatever else is switched on."""
    shared = SharedFaults(memoryview(bytearray(SHARED_BYTES)))
    shared.put(profile("hostile", seed=seed))
    fates = Fates(shared)
    drawn = [fate for fate in (fates.next() for _ in range(2000)) if fate is not None]

    for failure in Failure:
        share = getattr(PROFILES["hostile"], failure.value)
        assert abs(sum(fate.failure is failure for fate in drawn) / 2000 - share) < 0.05
    assert all(0.57 <= fate.fullness <= 0.93 or fate.fullness == 1 for fate in drawn)


# Pages


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
        found = [asked(server, FOLLOWING, body, token) for body in bodies] + [asked(server, FOLLOWING, "{}", "wrong")]
        return [(status, json.loads(body)["error"] | {"log_id": ""}) for status, _, body in found]

    assert answers(with_faults()) == answers(with_faults(short_pages=1, repeated_pages=1, missing_empty_lists=True))


# Failures


@pytest.mark.parametrize(("costs", "calls"), [(False, 0), (True, 3)])
def test_server_errors_cost_quota_or_not(with_faults: Callable[..., LocalServer], costs: bool, calls: int) -> None:
    """The error is 500 in the envelope; the audit log has it as an error or as charged."""
    before = used(with_faults())
    server = with_faults(server_errors=1, failures_cost_quota=costs)
    for _ in range(3):
        status, headers, body = asked(server, FOLLOWING, '{"username":"a"}', server.token())
        error = json.loads(body)["error"]
        assert (500, "internal_error", headers["x-tt-logid"]) == (status, error["code"], error["log_id"])
        record = server.requests[-1]
        assert error["log_id"] == record.log_id
        recorded = ("ok", 200, 20) if costs else ("internal_error", 500, 0)
        assert recorded == (record.code, record.status, record.rows)
        assert "ratelimit-limit" not in headers

    assert before + calls + 1 == used(with_faults())


@pytest.mark.parametrize("costs", [False, True])
def test_gateways_answer_in_html(with_faults: Callable[..., LocalServer], costs: bool) -> None:
    """504, on every endpoint; the audit log knows the call only where it was charged."""
    before = used(with_faults())
    server = with_faults(gateway_timeouts=1, failures_cost_quota=costs)
    recorded = len(server.requests)
    for path in (FOLLOWING, FOLLOWING.rstrip("/"), FOLLOWERS, INFO, TOKEN):
        status, headers, body = asked(server, path, '{"username":"a"}', server.token())
        assert (504, "text/html") == (status, headers["content-type"])
        assert b"<title>504 Gateway Time-out</title>" in body

    assert (5 if costs else 0) == len(server.requests) - recorded
    assert before + 1 + (3 if costs else 0) == used(with_faults())


@pytest.mark.parametrize("costs", [False, True])
def test_connections_are_closed_without_an_answer(with_faults: Callable[..., LocalServer], costs: bool) -> None:
    """Not one byte comes; and the server goes on."""
    before = used(with_faults())
    server = with_faults(closed_connections=1, failures_cost_quota=costs)
    for path in (FOLLOWING, INFO, TOKEN):
        with pytest.raises(http.client.RemoteDisconnected):
            asked(server, path, '{"username":"a"}', server.token())

    assert before + 1 + costs == used(with_faults())


def test_connections_are_closed_in_the_middle(with_faults: Callable[..., LocalServer]) -> None:
    """Half of a body comes, of a call that counts."""
    before = used(with_faults())
    server = with_faults(broken_bodies=1)
    with pytest.raises(http.client.IncompleteRead) as broken:
        asked(server, FOLLOWING, '{"username":"a"}', server.token())

    assert broken.value.partial.startswith(b'{"data":{"user_following":[')
    assert before + 2 == used(with_faults())


@pytest.mark.parametrize(("seconds", "header"), [(0, None), (1, "1"), (60, "60")])
def test_rate_limits_come_with_or_without_retry_after(
    with_faults: Callable[..., LocalServer], seconds: int, header: str | None
) -> None:
    """429 on the data endpoints, not on those for tokens; a bad token is told first."""
    server = with_faults(rate_limits=1, retry_after_seconds=seconds)
    for path in (FOLLOWING, FOLLOWERS, INFO):
        status, headers, body = asked(server, path, '{"username":"a"}', server.token())
        assert (429, "rate_limit_exceeded") == (status, json.loads(body)["error"]["code"])
        assert header == headers.get("retry-after")

    assert 401 == asked(server, FOLLOWING, '{"username":"a"}', "wrong")[0]
    assert 401 == asked(server, TOKEN, "client_key=x&client_secret=y&grant_type=client_credentials")[0]


def test_the_quota_is_spent(with_faults: Callable[..., LocalServer]) -> None:
    """The status is 429 without Retry-After, for every client."""
    server = with_faults(quota_spent=True)
    status, headers, body = asked(server, FOLLOWING, '{"username":"a"}', server.token())

    assert (429, "daily_quota_limit_exceeded") == (status, json.loads(body)["error"]["code"])
    assert "retry-after" not in headers


# Tokens


def test_good_tokens_are_refused(with_faults: Callable[..., LocalServer]) -> None:
    """401 in a share of the calls, and good again in the others."""
    server = with_faults(refused_tokens=0.5)
    token = server.token()

    statuses = {asked(server, FOLLOWING, '{"username":"a"}', token)[0] for _ in range(30)}

    assert {200, 401} == statuses


def test_fresh_tokens_are_refused(with_faults: Callable[..., LocalServer]) -> None:
    """For so many seconds of the server's clock."""
    server = with_faults(fresh_token_seconds=60)
    token = server.token()

    status, _, body = asked(server, FOLLOWING, '{"username":"a"}', token)
    assert (401, "access_token_invalid") == (status, json.loads(body)["error"]["code"])
    server.clock.advance(60)
    assert 200 == asked(server, FOLLOWING, '{"username":"a"}', token)[0]


def test_token_errors_come_with_200(with_faults: Callable[..., LocalServer]) -> None:
    """With the body that they have otherwise; and so do false errors of the server there."""
    form = {"client_key": "x", "client_secret": "y", "grant_type": "client_credentials"}
    server = with_faults(token_errors_with_200=True)
    status, _, body = asked(server, TOKEN, urlencode(form))
    assert (200, "invalid_client") == (status, json.loads(body)["error"])
    assert 401 == asked(server, FOLLOWING, "{}", "wrong")[0]

    server = with_faults(token_errors_with_200=True, server_errors=1)
    status, _, body = asked(server, TOKEN, urlencode(form))
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
    assert 404 == asked(server, "/v2/research/user/pinned_videos/", "")[0]
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)) as connection:
        connection.request("GET", FOLLOWING)
        assert 405 == connection.getresponse().status


# Careful clients


class Walker:
    """A careful client: it tries again whatever is odd, and takes no row twice."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._token = ""

    def walked(self, username: str, max_count: int, path: str = FOLLOWING, key: str = "user_following") -> list[str]:
        """Return all usernames of a list."""
        found: dict[str, None] = {}
        cursor: int | None = None
        while True:
            data = self._page(path, {"username": username, "max_count": max_count, "cursor": cursor})
            rows = data.get(key, [])
            if cursor is not None and data["cursor"] >= cursor and (rows or data["has_more"]):
                self._wait()  # not the page that was asked for
                continue
            found |= {row["username"]: None for row in rows}
            cursor = data["cursor"]
            if not data["has_more"]:
                return list(found)

    def _page(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        while True:
            status, body = self._asked(path, json.dumps(query))
            if status == 200 and body["error"]["code"] == "ok":
                data: dict[str, Any] = body["data"]
                return data
            if status == 401:
                self._renew()
            self._wait()

    def _renew(self) -> None:
        form = {"client_key": self._server.client_key, "client_secret": self._server.client_secret}
        while True:
            _, body = self._asked(TOKEN, urlencode(form | {"grant_type": "client_credentials"}))
            if "access_token" in body:
                self._token = body["access_token"]
                return
            self._wait()

    def _asked(self, path: str, body: str) -> tuple[int, Any]:
        try:
            status, _, answer = asked(self._server, path, body, self._token)
            return status, json.loads(answer)
        except (http.client.HTTPException, OSError, ValueError):
            return 0, {}

    def _wait(self) -> None:
        """A second, in no time."""
        self._server.clock.advance(1)


def test_a_careful_client_survives_hostile(server: LocalServer) -> None:
    """Every list is complete, exact and in order, for any seed and page size."""

    @settings(max_examples=40)
    @given(seed=seeds, max_count=st.integers(10, 100))
    def survives(seed: int, max_count: int) -> None:
        server.faults = profile("hostile", seed=seed)
        walker = Walker(server)

        assert [f"b{n}" for n in range(ROWS, 0, -1)] == walker.walked("a", max_count)
        assert [] == walker.walked("b1", max_count)
        assert ["a"] == walker.walked("b2", max_count, FOLLOWERS, "user_followers")

    try:
        survives()
    finally:
        server.faults = DOCUMENTED


def test_the_tiktok_2024_profile_serves_the_newest_5000_rows(tmp_path: Path) -> None:
    """That is where its lists end, for whatever client."""
    with local_server(tmp_path) as server:
        server.load(follows=[("a", f"b{n}", FIRST + n) for n in range(5_060)])
        server.faults = profile("tiktok-2024", seed=1)

        found = Walker(server).walked("a", 100)

    assert [f"b{n}" for n in range(5_059, 59, -1)] == found


def test_the_same_seed_fails_the_same_calls(server: LocalServer) -> None:
    """From one setting of the faults to the next."""

    def outcomes() -> list[int]:
        server.faults = Faults(server_errors=0.3, rate_limits=0.3, seed=5)
        token = server.token()
        return [asked(server, FOLLOWING, '{"username":"a"}', token)[0] for _ in range(30)]

    try:
        first = outcomes()
        assert {200, 429, 500} == set(first)
        assert first == outcomes()
    finally:
        server.faults = DOCUMENTED
