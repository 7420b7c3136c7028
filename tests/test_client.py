"""`retinue.client` against a real server: whole lists, both clients, resuming, errors that keep what was collected."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from retinue.client import (
    AccountUnavailable,
    AsyncClient,
    Client,
    DailyQuotaExceeded,
    GaveUp,
    Refused,
    RetryPolicy,
    Runtime,
    transport,
)
from retinue.errors import InputError
from retinue.local import LocalServer

FOLLOWS = [("anna", f"f{n}", 1_600_000_000 + n) for n in range(250)]
NEWEST_FIRST = [f"f{n}" for n in range(249, -1, -1)]
PEOPLE = [
    {"username": "anna", "display_name": "Anna"},
    {"username": "secret", "visibility": "private"},
    {"username": "gone", "visibility": "withheld"},
]
GRAPH = pytest.mark.retinue(accounts=PEOPLE, follows=FOLLOWS)


@pytest.fixture
def client(retinue_server: LocalServer) -> Iterator[Client]:
    """A client of the test's server."""
    with Client(retinue_server.client_key, retinue_server.client_secret, retinue_server.url) as client:
        yield client


@GRAPH
def test_a_list_row_by_row(client: Client, retinue_server: LocalServer) -> None:
    """All of it, newest first, in pages as large as they may be."""
    assert NEWEST_FIRST == [person.username for person in client.following("anna")]
    assert ["anna"] == [person.username for person in client.followers("f7")]
    assert [100, 100, 50, 1] == [record.rows for record in retinue_server.requests if record.endpoint != "token"]


@GRAPH
def test_a_second_loop_resumes_at_the_next_row(client: Client) -> None:
    """In the middle of a page, at its end, and after a page that was read as one."""
    listing = client.following("anna")
    seen = []
    for stop in (0, 1, 60, 99, 100, 180):
        for person in listing:
            seen.append(person.username)
            if len(seen) > stop:
                break
    assert NEWEST_FIRST[:181] == seen
    page = listing.next_page()
    assert page is not None
    assert NEWEST_FIRST[200:] == [person.username for person in page.rows]
    assert [] == list(listing)
    assert NEWEST_FIRST == [person.username for person in listing.collected]


@GRAPH
def test_a_second_asynchronous_loop_resumes_at_the_next_row(retinue_server: LocalServer) -> None:
    """With the row after the last one."""

    async def collect() -> list[str]:
        key, secret, url = retinue_server.client_key, retinue_server.client_secret, retinue_server.url
        async with AsyncClient(key, secret, url) as client:
            listing, seen = client.following("anna"), list[str]()
            async for person in listing:
                seen.append(person.username)
                if len(seen) == 30:
                    break
            return seen + [person.username async for person in listing]

    assert NEWEST_FIRST == asyncio.run(collect())


@GRAPH
def test_a_list_page_by_page_and_from_a_cursor(client: Client) -> None:
    """Each page names the cursor of the next one, from which a client can resume."""
    first, second, *_ = client.following("anna", max_count=40).pages()
    assert (second.bound, second.has_more, len(second.body) > 100) == (first.cursor, True, True)

    rest = client.following("anna", cursor=second.cursor)
    assert NEWEST_FIRST[80:] == [person.username for person in rest]
    assert rest.is_over


@GRAPH
def test_user_info(client: Client) -> None:
    """A profile; what there is nothing of is empty."""
    profile = client.user_info("anna")
    assert (profile.display_name, profile.following_count, profile.bio_description) == ("Anna", 250, "")


@GRAPH
def test_a_list_as_it_stood(client: Client) -> None:
    """Servers that know `as_of` answer with the list of that second."""
    past = client.following("anna", as_of=1_600_000_009)
    assert NEWEST_FIRST[-10:] == [person.username for person in past]


@GRAPH
@pytest.mark.parametrize(("name", "reason"), [("nobody", "unknown"), ("secret", "private"), ("gone", "withheld")])
def test_unavailable_accounts_raise_with_their_reason(client: Client, name: str, reason: str) -> None:
    """The error says why, in the service's words too."""
    for ask in (lambda: list(client.following(name)), lambda: client.user_info(name)):
        with pytest.raises(AccountUnavailable, match="invalid_params") as caught:
            ask()
        assert caught.value.reason == reason


@GRAPH
def test_many_lists_at_once_with_one_token(retinue_server: LocalServer) -> None:
    """Tasks share connections and a token."""

    async def collect() -> list[int]:
        key, secret, url = retinue_server.client_key, retinue_server.client_secret, retinue_server.url
        async with AsyncClient(key, secret, url, connections=4) as client:

            async def count(limit: int) -> int:
                return len([person async for person in client.following("anna", max_count=limit)])

            return await asyncio.gather(*(count(limit) for limit in range(10, 42)))

    assert [250] * 32 == asyncio.run(collect())
    assert 1 == sum(record.endpoint == "token" for record in retinue_server.requests)


@GRAPH
def test_blocking_code_may_run_inside_an_event_loop(client: Client) -> None:
    """As in a notebook, where one runs already."""

    async def cell() -> int:
        return len(list(client.following("anna")))

    assert 250 == asyncio.run(cell())


@GRAPH
def test_an_error_keeps_the_collected_rows(retinue_server: LocalServer) -> None:
    """The server goes away in the middle of a list, and comes back: nothing is asked for twice."""
    policy = RetryPolicy(attempts=2, first_wait_seconds=0.01, longest_wait_seconds=0.01)
    with Client(retinue_server.client_key, retinue_server.client_secret, retinue_server.url, policy=policy) as client:
        listing = client.following("anna", max_count=100)
        pages = listing.pages()
        next(pages)
        client._client._transport._url = "http://127.0.0.1:9"  # nothing listens there
        with pytest.raises(GaveUp, match=r"tried 2 times.*(refused|Connect)") as caught:
            next(pages)
        assert NEWEST_FIRST[:100] == [person.username for person in caught.value.collected]
        assert caught.value.cursor == listing.cursor == 1_600_000_149

        client._client._transport._url = retinue_server.url
        assert NEWEST_FIRST[100:] == [person.username for person in listing]
        assert NEWEST_FIRST == [person.username for person in listing.collected]


@GRAPH
def test_wrong_credentials_raise(retinue_server: LocalServer) -> None:
    """An error at once, in the service's words."""
    with Client("nobody", "wrong", retinue_server.url) as client, pytest.raises(Refused, match="invalid_client"):
        client.user_info("anna")


@GRAPH
def test_a_spent_quota_raises(retinue_server: LocalServer) -> None:
    """The error names the time of the next quota; a client may wait for it."""
    slept = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        retinue_server.clock.advance(int(seconds) + 1)

    key, secret, url = retinue_server.client_key, retinue_server.client_secret, retinue_server.url
    outside = Runtime(clock=retinue_server.clock, sleep=sleep)
    retinue_server.limit(list_calls=3)
    with Client(key, secret, url, runtime=outside) as client:
        with pytest.raises(DailyQuotaExceeded) as caught:
            list(client.following("anna", max_count=50))
        now = retinue_server.clock.now()
        assert caught.value.resets_at - now in range(86_401)
        assert abs(caught.value.resets_at % 86_400) <= 1
        assert NEWEST_FIRST[:150] == [person.username for person in caught.value.collected]

    with Client(key, secret, url, policy=RetryPolicy(quota="wait"), runtime=outside) as client:
        rest = client.following("anna", cursor=caught.value.cursor, max_count=50)
        assert NEWEST_FIRST[150:] == [person.username for person in rest]
    assert 1 == len(slept)


@contextmanager
def dripping(piece: bytes, pause: float) -> Iterator[str]:
    """A server whose answers never end."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
                with suppress(OSError):
                    while True:
                        connection.sendall(piece)
                        time.sleep(pause)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


@pytest.mark.parametrize(
    ("piece", "pause", "timeout", "reason"),
    [(b" ", 0.05, 0.5, "TimeoutError"), (b" " * 60_000, 0, 30, "a response of more than 1000000 bytes")],
)
def test_a_truncated_response_is_an_error(
    monkeypatch: pytest.MonkeyPatch, piece: bytes, pause: float, timeout: float, reason: str
) -> None:
    """Neither one that comes byte by byte is waited for, nor one that is too large kept."""
    monkeypatch.setattr(transport, "MAX_BYTES", 1_000_000)
    policy = RetryPolicy(attempts=1, first_wait_seconds=0, longest_wait_seconds=0)
    with dripping(piece, pause) as url, Client("k", "s", url, policy=policy, timeout_seconds=timeout) as client:
        with pytest.raises(GaveUp, match=reason):
            client.user_info("anna")


@GRAPH
def test_a_closed_client_says_so(client: Client) -> None:
    """It may be closed twice, and is of no use then."""
    client.close()
    client.close()
    with pytest.raises(InputError, match="is closed"):
        client.user_info("anna")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Client("k", "s", "localhost:8642"), "is not the address of a service"),
        (lambda: Client("k", "s", "http://me:hidden@[::1"), r"^'http://\[::1' is not the address of a service"),
        (lambda: Client("k", "s", "http://h:99999"), "is not the address of a service"),
        (lambda: Client("k", "s", "http://me:hidden@localhost"), "'http://localhost' is not the address of a service"),
        (lambda: Client("k", "s").following("a", max_count=101), "max_count: expected an integer from 1 to 100"),
        (lambda: Client("k", "s").following("a", cursor=-1), "cursor: expected a Unix second"),
        (lambda: Client("k", "s").following("a", cursor="x"), "cursor: expected a Unix second, not 'x'"),  # type: ignore[arg-type]
        (lambda: Client("k", ""), "client_key and client_secret must not be empty"),
        (lambda: RetryPolicy(attempts=0), "at least one attempt"),
        (lambda: RetryPolicy(quota="never"), "quota: expected raise or wait"),  # type: ignore[arg-type]
    ],
)
def test_invalid_arguments_are_refused_at_once(make: Any, words: str) -> None:
    """Before anything is asked."""
    with pytest.raises(InputError, match=words):
        make()


def test_importing_the_client_loads_few_libraries() -> None:
    """It loads nothing of the server."""
    loaded = "import sys, retinue.client; print(*sorted(name.split('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert {"apsw", "duckdb", "numpy", "starlette", "typer", "uvicorn", "rich"} & set(done.stdout.split()) == set()
