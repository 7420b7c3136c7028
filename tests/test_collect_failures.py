"""`retinue collect` and services that fail: the rows that came stay, and the reason is printed."""

import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from retinue.client import GaveUp
from retinue.collect import collection
from retinue.collect.collector import CollectPlan
from support.collecting import MANY, asked, collected, places, tables
from support.scripted_service import TOKEN, Said, enveloped, page, scripted


def test_collecting_without_a_token_creates_nothing(tmp_path: Path) -> None:
    """However many lists wait for one, it is asked for as often as the policy says, and no more."""
    asked_for = Counter[str]()

    def no_token() -> Said:
        asked_for["token"] += 1
        return Said(b"", 503)

    with scripted(lambda _path, _body: page([]), no_token) as url:
        with pytest.raises(GaveUp, match="tried 3 times; last failure: status 503"):
            collected(url, tmp_path / "found", CollectPlan(places(8), MANY, 8))
    assert asked_for["token"] == 3


def test_an_unreachable_service_ends_the_collection(tmp_path: Path) -> None:
    """Lists that were read stay; the others are not each waited for."""
    gone: list[bool] = []

    def answer(_path: str, body: dict[str, Any]) -> Said:
        if body["username"] == "a3":
            gone.append(True)
        return Said(b"", 502) if gone else page([{"username": "b"}])

    with scripted(answer, lambda: Said(b"", 502) if gone else TOKEN) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(500), MANY, 1))
    assert "tried 3 times" in outcome.stopped
    assert [place.name for place in outcome.failed] == ["a3"]
    assert collection.replay(tmp_path / "found").pages == 3


def test_an_unavailable_account_does_not_end_the_collection(tmp_path: Path) -> None:
    """While there are tokens, it is that account; the others are read."""
    with scripted(lambda _path, body: Said(b"", 502) if body["username"] in ("a0", "a1", "a2") else page([])) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(6), MANY, 1))
    assert ("", 3) == (outcome.stopped, len(outcome.failed))
    assert collection.replay(tmp_path / "found").pages == 3


def test_an_unreachable_service_is_reported_soon(tmp_path: Path) -> None:
    """A wrong address ends the command with 2, and the message names it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    done = asked(url, tmp_path / "found", ["anna"])
    assert (done.returncode, f"is there a service at {url}?" in done.stderr) == (2, True), done.stderr


def test_pending_calls_are_not_counted_as_spent(tmp_path: Path) -> None:
    """Accounts that are not there cost no call of ours; as many pages are read as the day allows."""

    def answer(_path: str, body: dict[str, Any]) -> Said:
        is_there = int(body["username"][1:]) >= 30
        return page([]) if is_there else enveloped({}, "invalid_params", "cannot find the user", 400)

    with scripted(answer) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(60), {"lists": 5, "info": 1}, 16))
    assert collection.replay(tmp_path / "found").pages == 5
    assert list(outcome.resets_at) == ["lists"]


MALFORMED_BODIES = {
    "in another encoding": '{"data":{"cursor":1,"has_more":false},"error":{"code":"ok"}}'.encode("utf-16"),
    "with half a character": b'{"data":{"cursor":1,"has_more":false,"x":"\xed\xa0\xbd"},"error":{"code":"ok"}}',
    "too deep": b"[" * 100_000,
    "of a firewall": b'{"error":{"code":"access_denied","message":"Your address has been blocked"}}',
    "of nothing": b"",
}


@pytest.mark.parametrize("body", MALFORMED_BODIES.values(), ids=MALFORMED_BODIES)
@pytest.mark.parametrize("status", [200, 403, 502])
def test_malformed_responses_are_retried(tmp_path: Path, body: bytes, status: int) -> None:
    """No account is given up for a malformed response, and the others are collected."""
    with scripted(lambda _path, sent: Said(body, status) if sent["username"] == "a0" else page([])) as url:
        outcome = collected(url, tmp_path / "found", CollectPlan(places(2), MANY, 1))
    assert [place.name for place in outcome.failed] == ["a0"]
    assert collection.replay(tmp_path / "found").incomplete(places(2)) == places(1)


def test_messages_of_a_service_are_printed_in_one_line(tmp_path: Path) -> None:
    """It cannot write on a terminal what it likes."""
    with scripted(lambda _path, _body: enveloped({}, "invalid_params", "no\n\x1b[31mred", 400)) as url:
        done = asked(url, tmp_path / "found", ["anna"])
    assert (done.returncode, "no\\n\\u001b[31mred" in done.stderr) == (1, True)


def test_a_refusal_in_the_middle_of_a_list_keeps_its_rows(tmp_path: Path) -> None:
    """A revoked secret, a scope that is gone: tables are written, and it is said why it stopped."""

    def answer(_path: str, body: dict[str, Any]) -> Said:
        is_gone = body["username"] == "ben"
        return enveloped({}, "scope_not_authorized", "gone", 401) if is_gone else page([{"username": "dora"}])

    with scripted(answer) as url:
        done = asked(url, tmp_path / "found", ["anna", "ben", "carl"], "--concurrency", "1")
    assert (done.returncode, "stopped early: scope_not_authorized" in done.stderr) == (
        1,
        True,
    )
    assert [("anna", "dora")] == tables(tmp_path / "found", "SELECT follower, followee FROM {}follows.parquet'")
