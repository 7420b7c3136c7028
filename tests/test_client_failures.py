"""Malformed tokens, missing responses and closed clients end in clear errors."""

import asyncio
import json
import pickle
import socket
import threading
import time
from contextlib import suppress
from typing import cast

import pytest

from retinue.client import AccountUnavailable, AsyncClient, Client, DailyQuotaExceeded, GaveUp, Refused, RetryPolicy
from retinue.errors import InputError
from support.collecting import SHORT, odd
from support.scripted_service import TOKEN, Said, enveloped, page, scripted

MALFORMED_TOKENS = {
    "in another encoding": '{"error":"invalid_client","error_description":"cl\u00e9"}'.encode("latin-1"),
    "too deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", MALFORMED_TOKENS.values(), ids=MALFORMED_TOKENS)
def test_malformed_tokens_are_requested_again(body: bytes) -> None:
    """And said in the end."""
    with scripted(odd, lambda: Said(body)) as url, Client("k", "s", url, policy=SHORT) as client:
        with pytest.raises(GaveUp, match="tried 3 times"):
            client.user_info("anna")


def test_a_token_may_never_expire() -> None:
    """It is renewed after a day."""
    token = b'{"access_token":"clt.good","expires_in":' + b"9" * 400 + b"}"
    with scripted(odd, lambda: Said(token)) as url, Client("k", "s", url, policy=SHORT) as client:
        assert client.user_info("anna").follower_count == client.user_info("anna").follower_count == 3


@pytest.mark.parametrize("said", [b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n"])
def test_a_response_that_never_begins_times_out(said: bytes) -> None:
    """However busily a service says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    while True:
                        connection.sendall(said)
                        time.sleep(0.1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        policy = RetryPolicy(attempts=1)
        with Client("k", "s", url, policy=policy, timeout_seconds=1) as client, pytest.raises(GaveUp):
            client.user_info("anna")
    thread.join(10)


@pytest.mark.parametrize("header", ["9" * 5_000, "99999999999999999999", "-5", "soon", "90000"])
def test_a_quota_without_reset_time_resets_at_midnight(header: str) -> None:
    """An impossible reset time of a service is ignored."""
    spent = Said(
        enveloped({}, "daily_quota_limit_exceeded", "spent", 429).body, 429, (("RateLimit-Reset", header),)
    )  # fmt: skip
    with scripted(lambda _path, _body: spent) as url, Client("k", "s", url) as client:
        with pytest.raises(DailyQuotaExceeded) as caught:
            client.user_info("anna")
    assert caught.value.resets_at % 86_400 == 0


def test_a_token_unfit_for_a_header_is_refused() -> None:
    """It is asked for again, and said in the end."""
    token = json.dumps({"access_token": "clt.a\nb", "expires_in": 7200}).encode()
    with scripted(odd, lambda: Said(token)) as url, Client("k", "s", url, policy=SHORT) as client:
        with pytest.raises(GaveUp, match="the token cannot be sent in a header"):
            client.user_info("anna")


def test_errors_can_be_sent_to_other_processes() -> None:
    """With everything that is in them."""
    for error in (
        Refused(403, "scope_not_authorized", "no", "log"),
        AccountUnavailable("private", 403, "c", "m", "log"),
        DailyQuotaExceeded(86_400, 429, "c", "m", "log"),
        GaveUp("tried 3 times"),
    ):
        error.cursor = 5
        copied = pickle.loads(pickle.dumps(error))  # noqa: S301 - it is ours
        assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize("slow", ["token", "page"])
def test_closing_a_client_fails_its_pending_calls(slow: str) -> None:
    """Calls in other threads fail while a token or a page is fetched, and so do later calls."""
    let_go, came, ended = threading.Event(), threading.Event(), list[str]()

    def late(said: Said) -> Said:
        came.set()
        let_go.wait(30)
        return said

    def ask(client: Client) -> None:
        with pytest.raises(InputError) as caught:
            list(client.following("anna"))
        ended.append(str(caught.value))

    token = (lambda: late(TOKEN)) if slow == "token" else (lambda: TOKEN)
    with scripted(lambda _path, _body: late(page([])), token) as url:
        client = Client("k", "s", url)
        waiting = threading.Thread(target=ask, args=(client,))
        waiting.start()
        assert came.wait(30)
        client.close()
        waiting.join(30)
        let_go.set()
        ask(client)
    assert ended == ["the client is closed"] * 2


def test_a_closed_asynchronous_client_says_so() -> None:
    """As the other one does."""

    async def ask() -> None:
        client = AsyncClient("k", "s", "http://127.0.0.1:9")
        await client.close()
        await client.user_info("anna")

    with pytest.raises(InputError, match="the client is closed"):
        asyncio.run(ask())


def test_a_username_unfit_for_a_request_is_refused() -> None:
    """Before anything is asked."""
    with Client("k", "s", "http://127.0.0.1:9") as client:
        for username in ("\ud800", "", None, b"anna"):
            for ask in (client.following, client.user_info):
                with pytest.raises(InputError, match=r"^username: "):
                    ask(cast("str", username))
