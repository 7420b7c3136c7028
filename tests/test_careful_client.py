"""A careful client reads whole lists from a server with faults."""

import http.client
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from hypothesis import given, settings
from hypothesis import strategies as st

from retinue.faults import DOCUMENTED, Faults, profile
from retinue.local import LocalServer, local_server
from support.faulty_server import FIRST, FOLLOWERS, FOLLOWING, ROWS, TOKEN, post, seeds
from support.thorough import examples


class CarefulClient:
    """A client that retries every unexpected response and takes no row twice."""

    def __init__(self, server: LocalServer) -> None:
        self._server = server
        self._token = ""

    def read_list(self, username: str, max_count: int, path: str = FOLLOWING, key: str = "user_following") -> list[str]:
        """Return all usernames of a list."""
        usernames: dict[str, None] = {}
        cursor: int | None = None
        while True:
            data = self._page(path, {"username": username, "max_count": max_count, "cursor": cursor})
            rows = data.get(key, [])
            if cursor is not None and data["cursor"] >= cursor and (rows or data["has_more"]):
                self._wait()  # not the page that was asked for
                continue
            usernames |= {row["username"]: None for row in rows}
            cursor = data["cursor"]
            if not data["has_more"]:
                return list(usernames)

    def _page(self, path: str, query: dict[str, Any]) -> dict[str, Any]:
        while True:
            status, body = self._post(path, json.dumps(query))
            if status == 200 and body["error"]["code"] == "ok":
                data: dict[str, Any] = body["data"]
                return data
            if status == 401:
                self._renew()
            self._wait()

    def _renew(self) -> None:
        form = {"client_key": self._server.client_key, "client_secret": self._server.client_secret}
        while True:
            _, body = self._post(TOKEN, urlencode(form | {"grant_type": "client_credentials"}))
            if "access_token" in body:
                self._token = body["access_token"]
                return
            self._wait()

    def _post(self, path: str, body: str) -> tuple[int, Any]:
        try:
            status, _, answer = post(self._server, path, body, self._token)
            return status, json.loads(answer)
        except (http.client.HTTPException, OSError, ValueError):
            return 0, {}

    def _wait(self) -> None:
        """Advance the clock by a second."""
        self._server.clock.advance(1)


def test_a_careful_client_survives_hostile(faulty_server: LocalServer) -> None:
    """Every list is complete, exact and in order, for any seed and page size."""

    @settings(max_examples=examples(40))
    @given(seed=seeds, max_count=st.integers(10, 100))
    def survives(seed: int, max_count: int) -> None:
        faulty_server.faults = profile("hostile", seed=seed)
        client = CarefulClient(faulty_server)

        assert [f"b{n}" for n in range(ROWS, 0, -1)] == client.read_list("a", max_count)
        assert [] == client.read_list("b1", max_count)
        assert ["a"] == client.read_list("b2", max_count, FOLLOWERS, "user_followers")

    try:
        survives()
    finally:
        faulty_server.faults = DOCUMENTED


def test_the_tiktok_2024_profile_serves_the_newest_5000_rows(tmp_path: Path) -> None:
    """Lists of the profile end after 5,000 rows."""
    with local_server(tmp_path) as server:
        server.load(follows=[("a", f"b{n}", FIRST + n) for n in range(5_060)])
        server.faults = profile("tiktok-2024", seed=1)

        usernames = CarefulClient(server).read_list("a", 100)

    assert [f"b{n}" for n in range(5_059, 59, -1)] == usernames


def test_the_same_seed_fails_the_same_calls(faulty_server: LocalServer) -> None:
    """Setting the same faults again fails the same calls."""

    def outcomes() -> list[int]:
        faulty_server.faults = Faults(server_errors=0.3, rate_limits=0.3, seed=5)
        token = faulty_server.token()
        return [post(faulty_server, FOLLOWING, '{"username":"a"}', token)[0] for _ in range(30)]

    try:
        first = outcomes()
        assert {200, 429, 500} == set(first)
        assert first == outcomes()
    finally:
        faulty_server.faults = DOCUMENTED
