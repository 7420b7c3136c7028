"""The pytest plugin, as used by the tests of a client."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from retinue.errors import InputError
from retinue.faults import Faults, profile
from retinue.local import LocalServer

FOLLOWING = "/v2/research/user/following/"


def following(server: LocalServer, token: str, **query: Any) -> dict[str, Any]:
    """A page of a list."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with urlopen(Request(server.url + FOLLOWING, json.dumps(query).encode(), headers), timeout=60) as answer:
        data: dict[str, Any] = json.load(answer)["data"]
        return data


def test_the_fixture_serves_the_sample_graph_by_default(retinue_server: LocalServer) -> None:
    """With the list that TikTok's own page shows; what was asked can be looked at."""
    page = following(retinue_server, retinue_server.token(), username="test_user", max_count=3, cursor=1685544251)

    assert ["test_username", "test_username2", "test_username3"] == [row["username"] for row in page["user_following"]]
    assert [("following", "ok", 3)] == [(each.endpoint, each.code, each.rows) for each in retinue_server.requests]


@pytest.mark.retinue(
    accounts=[{"username": "anna", "display_name": "Anna"}, {"username": "secret", "visibility": "private"}],
    follows=[("ben", "anna", 1_600_000_000), ("ben", "secret"), {"follower": "ben", "followee": "carl"}],
)
def test_the_fixture_serves_given_data(retinue_server: LocalServer) -> None:
    """As rows of tables or as tuples; more can come while it runs."""
    token = retinue_server.token()
    page = following(retinue_server, token, username="ben")
    assert ["carl", "anna"] == [row["username"] for row in page["user_following"]]
    assert "Anna" == page["user_following"][-1]["display_name"]

    retinue_server.load(follows=[("ben", "dora", 1_650_000_000)])
    names = [row["username"] for row in following(retinue_server, token, username="ben")["user_following"]]
    assert ["carl", "dora", "anna"] == names


@pytest.mark.retinue(follows=[("a", "b", 1)])
def test_the_fixture_controls_the_clock(retinue_server: LocalServer) -> None:
    """A token is over after two hours, in no time."""
    form = f"client_key={retinue_server.client_key}&client_secret={retinue_server.client_secret}"
    asked = Request(
        f"{retinue_server.url}/v2/oauth/token/",
        f"{form}&grant_type=client_credentials".encode(),
        {"Content-Type": "application/x-www-form-urlencoded"},
    )
    with urlopen(asked, timeout=60) as answer:
        token = json.load(answer)["access_token"]
    following(retinue_server, token, username="a")

    retinue_server.clock.advance(7201)
    time.sleep(1)
    with pytest.raises(HTTPError, match="401"):
        following(retinue_server, token, username="a")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"follows": [("a", "a", 1)]}, "an account cannot follow itself"),
        ({"follows": [("a", "b", "soon")]}, "followed_at: expected Unix seconds"),
        ({"follows": [{"who": "a"}]}, "there is no column 'who'"),
        ({"follows": [("a",)]}, "followee: is missing"),
        ({"accounts": [{"username": "a", "visibility": "odd"}]}, "visibility: expected one of"),
    ],
)
def test_the_fixture_refuses_wrong_data(retinue_server: LocalServer, data: dict[str, Any], reason: str) -> None:
    """With the row and what is wrong with it; nothing is loaded."""
    with pytest.raises(InputError, match=reason):
        retinue_server.load(**data)


@pytest.mark.retinue(follows=[("a", f"b{n}", 1_600_000_000 + n) for n in range(50)])
def test_the_fixture_injects_faults(retinue_server: LocalServer) -> None:
    """The same calls meet the same with the same seed; and they end when they are taken back."""
    token = retinue_server.token()

    def statuses() -> list[int]:
        retinue_server.faults = Faults(server_errors=0.5, seed=7)
        return [status_of(retinue_server, token) for _ in range(20)]

    assert Faults() == retinue_server.faults
    first = statuses()
    assert first == statuses()
    assert {200, 500} == set(first)
    retinue_server.faults = profile("documented")
    assert {200} == {status_of(retinue_server, token) for _ in range(20)}


def status_of(server: LocalServer, token: str) -> int:
    """The status of a page."""
    try:
        following(server, token, username="a")
    except HTTPError as error:
        with error:
            return error.code
    return 200


def test_the_example_of_the_page_works(tmp_path: Path) -> None:
    """The example of docs/testing.md works as written in another folder."""
    page = (Path(__file__).parent.parent / "docs" / "testing.md").read_text()
    for number, block in enumerate(page.split("```python\n")[1:]):
        (tmp_path / f"test_{number}.py").write_text(block.split("```")[0])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--strict-markers"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed" in done.stdout, done.stdout + done.stderr
