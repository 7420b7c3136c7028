"""How soon changes of accounts are in the answers of every worker: within one second, through all ways in."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from retinue.store.open import open_store
from running import Refused, Server, Session, fresh_token, running_server
from support.feeds import applied, follow, lines

NOTICED_SECONDS = 1.0

Ask = Callable[[str], tuple[int, Any]]


@pytest.fixture
def server(store_path: Path) -> Iterator[Server]:
    """A server with two workers; ann follows bob and carla, who are public."""
    open_store(str(store_path)).create()
    apply(store_path, follow("ann", "bob", 100), follow("ann", "carla", 100))
    with running_server(store_path, "--workers", "2") as server:
        yield server


@pytest.fixture
def ask(server: Server, store_path: Path) -> Ask:
    """Status, and rows or message, of twenty answers over new connections, which must be one and the same."""
    token = fresh_token(server, store_path)

    def answer(username: str) -> tuple[int, Any]:
        with Session(server.base_url, token) as session:
            try:
                return 200, [row["username"] for row in session.following({"username": username})["user_following"]]
            except Refused as refused:
                return refused.status, json.loads(refused.content)["error"]["message"]

    def answers(username: str) -> tuple[int, Any]:
        found = [answer(username) for _ in range(20)]
        assert [found[0]] * 20 == found
        return found[0]

    return answers


def said(key: str, at: int, event: str = "account", **fields: str) -> dict[str, Any]:
    """An event of one account."""
    return {"event": event, "account": key, "at": at, **fields}


def apply(store: Path, *events: dict[str, Any]) -> None:
    """Apply events in another process, and let the promised second pass."""
    code, _, _ = applied(store, lines(*events))
    assert 0 == code
    time.sleep(NOTICED_SECONDS)


def test_a_rename_is_in_every_workers_answers(ask: Ask, store_path: Path) -> None:
    """The new name is shown and found, and the old one is unknown."""
    assert (200, ["bob", "carla"]) == ask("ann")

    apply(store_path, *(said(key, 200, username=f"{key}.new") for key in ("ann", "bob")))

    assert (200, ["bob.new", "carla"]) == ask("ann.new")
    assert (400, "username ann is invalid: cannot find the user") == ask("ann")


def test_a_change_of_visibility_is_in_every_workers_answers(ask: Ask, store_path: Path) -> None:
    """A private account is in no list and gets no response, and returns to its position when public again."""
    assert (200, ["bob", "carla"]) == ask("ann")
    assert (200, []) == ask("bob")

    apply(store_path, said("bob", 200, "visibility", visibility="private"))
    assert (200, ["carla"]) == ask("ann")
    assert (400, "username bob is private") == ask("bob")

    apply(store_path, said("bob", 300, "visibility", visibility="public"))
    assert (200, ["bob", "carla"]) == ask("ann")
    assert (200, []) == ask("bob")


def test_an_erasure_is_in_every_workers_answers(ask: Ask, store_path: Path) -> None:
    """An erased account is in no list, and unknown."""
    assert (200, ["bob", "carla"]) == ask("ann")

    apply(store_path, said("bob", 200, "erase"))

    assert (200, ["carla"]) == ask("ann")
    assert (400, "username bob is invalid: cannot find the user") == ask("bob")
