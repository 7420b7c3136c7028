"""A server whose faults a test sets, and requests to it."""

import http.client
import json
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import strategies as st

from retinue.faults import DOCUMENTED, Faults
from retinue.local import LocalServer, local_server

FOLLOWING = "/v2/research/user/following/"
FOLLOWERS = "/v2/research/user/followers/"
INFO = "/v2/research/user/info/"
TOKEN = "/v2/oauth/token/"
FIRST = 1_600_000_000
ROWS = 230
seeds = st.integers(0, 2**63 - 1)


@pytest.fixture(scope="module")
def faulty_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalServer]:
    """Return a server on which `a` follows many accounts and `b1` follows none."""
    with local_server(tmp_path_factory.mktemp("faults")) as server:
        server.load(follows=[("a", f"b{n}", FIRST + n) for n in range(1, ROWS + 1)])
        server.clock.advance(100)
        yield server


@pytest.fixture
def with_faults(faulty_server: LocalServer) -> Iterator[Callable[..., LocalServer]]:
    """Return a function that sets the server's faults until the test is over."""

    def set_faults(**values: Any) -> LocalServer:
        faulty_server.faults = Faults(**values)
        return faulty_server

    yield set_faults
    faulty_server.faults = DOCUMENTED


def post(server: LocalServer, path: str, body: str, token: str = "") -> tuple[int, dict[str, str], bytes]:
    """Return the status, headers and body of a response."""
    with closing(http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=60)) as connection:
        connection.request("POST", path, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def page(server: LocalServer, token: str = "", path: str = FOLLOWING, **query: Any) -> dict[str, Any]:
    """Return the data of a page."""
    data: dict[str, Any] = json.loads(post(server, path, json.dumps(query), token or server.token())[2])["data"]
    return data


def names_of(data: dict[str, Any]) -> list[str]:
    """Return the usernames on a page of a following list."""
    return [row["username"] for row in data["user_following"]]


def list_calls_used(server: LocalServer) -> int:
    """Return today's list calls of the client, including this one."""
    headers = post(server, FOLLOWING, '{"username":"a"}', server.token())[1]
    return int(headers["ratelimit-limit"]) - int(headers["ratelimit-remaining"])
