"""The management listener: its token, and events over HTTP while other writers work."""

import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import httpx
import pytest

from retinue.model import AccountRecord, FollowRecord, Visibility
from retinue.serving.background import MAX_WAITING
from retinue.store.open import open_store
from retinue.web.management import MAX_EVENTS_BYTES
from running import Server, running_server
from support.commands import retinue
from support.feeds import AT, follow, lines, names_of
from support.frozen_clock import FrozenClock
from support.management import EVENTS, asked, posted, token_path
from support.waiting import waiting_for


@pytest.fixture
def server(store_path: Path) -> Iterator[Server]:
    """A server on an empty store."""
    open_store(str(store_path)).create()
    with running_server(store_path) as server:
        yield server


def test_events_are_applied_and_reported_by_line(server: Server, store_path: Path) -> None:
    """The answer is that of `retinue apply`, and a repetition changes nothing."""
    body = lines(follow("a", "b", AT), b"{", b"", follow("a", "c", AT + 1), follow("a", "b", AT))
    rejected = [{"line": 2, "reason": "expected a JSON object: Input data was truncated"}]

    assert (200, {"applied": 2, "duplicate": 1, "rejected": rejected}) == posted(server, store_path, body)
    assert (200, {"applied": 0, "duplicate": 3, "rejected": rejected}) == posted(server, store_path, body)
    assert ["c", "b"] == names_of(store_path, "a")
    assert (200, {"applied": 0, "duplicate": 0, "rejected": []}) == posted(server, store_path, b"")


def test_events_that_name_an_account_by_username_are_rejected(server: Server, store_path: Path) -> None:
    """An erasure that reached no account is not reported as applied."""
    account = {"event": "account", "account": "2", "at": AT, "username": "ben"}
    erasure = {"event": "erase", "account": "ben", "at": AT}
    rejected = [{"line": 2, "reason": "ben is the username of an account whose key is 2"}]

    status, answer = posted(server, store_path, lines(account, erasure))

    assert (200, {"applied": 1, "duplicate": 0, "rejected": rejected}) == (status, answer)


@pytest.mark.parametrize("token", [None, "", "wrong", "x" * 43, "\xff" * 20])
def test_events_without_the_token_are_refused(server: Server, store_path: Path, token: str | None) -> None:
    """401 in JSON; health and version need none."""
    status, headers, answer = asked(server.management_url, EVENTS, lines(follow("a", "b")), token)

    assert (401, "Bearer", "application/json") == (status, headers["www-authenticate"], headers["content-type"])
    assert {"error": {"code": "access_token_invalid", "message": "The management token is absent or wrong."}} == answer
    assert 0 == json.loads(retinue("check", "--store", store_path, "--json").stdout)["facts"]["accounts"]
    assert [200, 200] == [asked(server.management_url, path, method="GET")[0] for path in ("/health", "/version")]


def test_a_basic_header_is_reported(server: Server, store_path: Path) -> None:
    """An HTTP library may have replaced the management token by what a netrc file holds."""
    url = f"{server.management_url}{EVENTS}"
    headers = {"Authorization": "Basic eDp5"}

    answer = httpx.post(url, content=lines(follow("a", "b")), headers=headers, timeout=30)

    assert answer.status_code == 401
    assert answer.json()["error"]["message"].startswith("The management token is absent or wrong.")
    assert "a netrc file may have replaced the token" in answer.json()["error"]["message"]


def test_the_public_port_does_not_serve_events(server: Server, store_path: Path) -> None:
    """Not even with the token."""
    token = token_path(store_path).read_text().strip()

    status, _, answer = asked(server.base_url, EVENTS, lines(follow("a", "b")), token)

    assert (404, "unsupported_path") == (status, answer["error"]["code"])


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", EVENTS, 405), ("POST", "/x", 404), ("PUT", EVENTS, 405)]
)
def test_other_paths_and_methods_are_refused_in_json(server: Server, method: str, path: str, status: int) -> None:
    """As everywhere."""
    found, _, answer = asked(server.management_url, path, method=method)

    assert (status, "unsupported_path") == (found, answer["error"]["code"])


def test_a_body_that_is_too_long_is_refused(server: Server, store_path: Path) -> None:
    """The limit holds for announced lengths and for chunks; the longest allowed body is read."""
    long = b" " * MAX_EVENTS_BYTES
    chunks = (long[:1000000] for _ in range(9))

    assert 200 == posted(server, store_path, long)[0]
    for body in (long + b" ", chunks):
        status, answer = posted(server, store_path, body)
        assert (413, "invalid_params") == (status, answer["error"]["code"])
        assert str(MAX_EVENTS_BYTES) in answer["error"]["message"]


def test_the_token_file_is_created_once_and_private(store_path: Path) -> None:
    """A later start keeps it, and nothing of it is printed."""
    open_store(str(store_path)).create()
    path = token_path(store_path)
    with running_server(store_path):
        token = path.read_text().strip()
    assert 43 == len(token)
    assert 0o600 == path.stat().st_mode & 0o777

    flags = ["--store", str(store_path), "--port", "0", "--management-port", "0", "--log-level", "debug"]
    process = subprocess.Popen(
        [sys.executable, "-m", "retinue", "serve", *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert process.stdout is not None
    greeting = next(line for line in process.stdout if "management on " in line)
    url = greeting.split("management on ")[1].rstrip(").\n").split(")")[0]
    assert 200 == asked(url, EVENTS, lines(follow("a", "b")), token)[0]
    assert 401 == asked(url, EVENTS, lines(follow("a", "b")), token[:-1])[0]
    process.terminate()
    assert token[:-1] not in greeting + process.communicate()[0]
    assert token == path.read_text().strip()


def test_the_token_file_can_be_chosen(store_path: Path, tmp_path: Path) -> None:
    """Such as from a secrets manager; then none is made beside the store."""
    open_store(str(store_path)).create()
    mine = tmp_path / "my-token"
    mine.write_text("correct-horse-battery-staple\n")
    mine.chmod(0o400)

    with running_server(store_path, "--management-token-file", mine) as server:
        assert 200 == asked(server.management_url, EVENTS, b"", "correct-horse-battery-staple")[0]
    assert not token_path(store_path).exists()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        ("x" * 43, 0o644, "others may use the management token (mode 0644)"),
        ("x" * 43, 0o620, "others may use the management token (mode 0620)"),
        ("", 0o600, "has no token: expected 20 to 512 printable ASCII characters without spaces"),
        ("short", 0o600, "has no token"),
        ("two words " * 4, 0o600, "has no token"),
        ("ä" * 30, 0o600, "has no token"),
        ("x" * 2000, 0o600, "has no token"),
    ],
)
def test_a_weak_token_prevents_the_start(store_path: Path, content: str, mode: int, reason: str) -> None:
    """One clear line that names the file, and not its content."""
    open_store(str(store_path)).create()
    path = token_path(store_path)
    path.write_text(content)
    path.chmod(mode)

    done = retinue("serve", "--store", store_path, "--port", "0", "--management-port", "0")

    assert (2, 1) == (done.returncode, done.stderr.count("\n"))
    assert f"retinue: {path}: {reason}" in done.stderr
    assert content not in done.stderr or not content


def test_an_unwritable_token_file_prevents_the_start(store_path: Path, tmp_path: Path) -> None:
    """One clear line that names the file."""
    open_store(str(store_path)).create()
    for name, reason in ((tmp_path, "not a regular file"), (tmp_path / "no" / "where", "No such file or directory")):
        done = retinue("serve", "--store", store_path, "--port", "0", "--management-token-file", name)
        assert (2, f"retinue: {name}: the management token cannot be stored here: {reason}\n") == (
            done.returncode,
            done.stderr,
        )


def test_health_is_answered_during_writes_and_excess_writes_are_refused(server: Server, store_path: Path) -> None:
    """A held write lock delays writes only; they are done in turn when it is free."""
    outcomes: list[tuple[int, Any]] = []

    def post(number: int) -> None:
        outcomes.append(posted(server, store_path, lines(follow("a", f"b{number}", AT + number))))

    other = apsw.Connection(str(store_path))
    other.execute("BEGIN IMMEDIATE")
    threads = [threading.Thread(target=post, args=(number,)) for number in range(2 * MAX_WAITING)]
    for thread in threads:
        thread.start()
    waiting_for(lambda: len(outcomes) >= MAX_WAITING)
    assert 200 == asked(server.management_url, "/health", method="GET")[0]
    other.execute("ROLLBACK")
    other.close()
    for thread in threads:
        thread.join()

    statuses = sorted(status for status, _ in outcomes)
    done = statuses.count(200)
    assert [200] * done + [503] * (len(threads) - done) == statuses
    assert MAX_WAITING - 1 <= done <= MAX_WAITING  # maintenance may have been waiting, too
    assert done == len(names_of(store_path, "a"))


def test_a_store_that_stays_locked_is_a_503(server: Server, store_path: Path) -> None:
    """With the time after which to ask again."""
    with closing(apsw.Connection(str(store_path))) as other:
        other.execute("BEGIN IMMEDIATE")
        token = token_path(store_path).read_text().strip()
        status, headers, answer = asked(server.management_url, EVENTS, lines(follow("a", "b")), token)

    assert (503, "1", "internal_error") == (status, headers["retry-after"], answer["error"]["code"])
    assert 200 == posted(server, store_path, lines(follow("a", "b")))[0]


def test_acknowledged_events_survive_a_kill_of_the_coordinator(server: Server, store_path: Path) -> None:
    """The next coordinator uses the same token."""
    for number in range(5):
        body = lines(*(follow("a", f"b{number}-{n}", AT + 100 * number + n) for n in range(100)))
        waiting_for(lambda: asked_safely(server, store_path, body))  # noqa: B023 - done before the next round
        coordinator = next(pid for pid, role in server.processes().items() if role == "coordinator")
        os.kill(coordinator, signal.SIGKILL)
        assert 100 * (number + 1) == len(names_of(store_path, "a"))
        waiting_for(lambda: is_new_coordinator(server, coordinator))  # noqa: B023 - the same


def asked_safely(server: Server, store: Path, body: bytes) -> bool:
    """Whether a post was answered with 200."""
    try:
        return posted(server, store, body)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def is_new_coordinator(server: Server, before: int) -> bool:
    """Return whether a new coordinator runs."""
    try:
        return any(role == "coordinator" and pid != before for pid, role in server.processes().items())
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_coordinator_runs_maintenance(store_path: Path) -> None:
    """Hidden accounts are relocated without a command."""
    open_store(str(store_path)).create()
    now = FrozenClock().now()
    with closing(open_store(str(store_path)).writer(FrozenClock())) as writer:
        asyncio.run(writer.add_follows([FollowRecord(f"f{n}", "hub", now - n, now) for n in range(2000)]))
        asyncio.run(writer.add_accounts([AccountRecord("hub", visibility=Visibility.PRIVATE)], now))

    with closing(apsw.Connection(str(store_path))) as other:
        assert other.execute("SELECT count(*) FROM relocation").get > 0
        with running_server(store_path):
            waiting_for(lambda: other.execute("SELECT count(*) FROM relocation").get == 0)
