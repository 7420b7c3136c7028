"""Failures that waiting does not cure end at once, with the remedy in the message."""

import asyncio
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import trustme

from retinue.client import AsyncClient, Client, ClientError, GaveUp, Policy, Refused
from retinue.errors import InputError
from retinue.local import LocalServer
from support.scripted_service import TOKEN, Said, enveloped, page, scripted

# With these waits a test that is not refused soon never ends.
PATIENT = Policy(attempts=20, first_wait_seconds=0.01, longest_wait_seconds=0.01)


def odd(_path: str, _body: dict[str, Any]) -> Said:
    """Answer everything."""
    return enveloped({"follower_count": 3})


def failure(url: str, kind: type[ClientError] = ClientError) -> tuple[str, int]:
    """Return the error of a first call, and how often the client waited before it."""
    waits: list[float] = []
    with Client("k", "s", url, policy=PATIENT, on_wait=lambda seconds, _: waits.append(seconds)) as client:
        with pytest.raises(kind) as caught:
            client.user_info("anna")
    return str(caught.value), len(waits)


def server_context(name: str, authority: trustme.CA | None = None, **validity: datetime) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for a name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued = (authority or trustme.CA()).issue_cert(name, **validity)  # type: ignore[arg-type]  # of all it takes
    issued.configure_cert(context)
    return context


ANSWERS: dict[str, tuple[Said, str]] = {
    "404": (Said(b"<html>no</html>", 404), "is not part of the API; expected the address of a service"),
    "404 in the envelope": (enveloped({}, "unsupported_path", "no", 404), "is not part of the API"),
    "404 of TikTok": (Said(b"Unsupported path(Janus)", 404), "is not part of the API"),
    "405": (Said(b"", 405), "is not part of the API"),
    "407": (Said(b"", 407), "the proxy asks for a login: set http_proxy"),
    **{
        str(status): (
            Said(b"", status, (("Location", "https://new.example/api/v2/oauth/token/"),)),
            "use https://new.example/api ",
        )
        for status in (301, 302, 303, 307, 308)
    },
    "a redirect elsewhere": (
        Said(b"", 302, (("Location", "/login\x1b[31m"),)),
        r"/login\u001b[31m; use the address of",
    ),
}


@pytest.mark.parametrize(("said", "words"), ANSWERS.values(), ids=ANSWERS)
def test_answers_of_another_server_are_final_at_first(said: Said, words: str) -> None:
    """A wrong address is told at the first answer, with what was asked and what to use."""
    with scripted(odd, lambda: said) as url:
        message, waits = failure(url, Refused)
    assert (waits, words in message) == (0, True), message


def test_answers_of_another_server_are_final_after_a_gateways_error() -> None:
    """An error page does not prove that the service is there."""
    replies = iter([Said(b"<html>busy</html>", 503), Said(b"", 200)])
    with scripted(odd, lambda: next(replies, Said(b"", 404))) as url:
        assert failure(url, Refused)[1] == 2


FOREIGN = {name: each for name, each in ANSWERS.items() if name != "404 in the envelope"}


@pytest.mark.parametrize(("said", "words"), FOREIGN.values(), ids=FOREIGN)
def test_answers_of_another_server_are_asked_for_again_later(said: Said, words: str) -> None:
    """With a token the address is known to be right, but not the path: four attempts. The error has the remedy."""
    with scripted(lambda _path, _body: said) as url:
        message, waits = failure(url, GaveUp)
    assert (waits, words in f"{message} ") == (3, True), message


def test_a_refusal_of_the_service_itself_is_final_at_any_time() -> None:
    """A path that the API does not have is refused in the API's own form."""
    with scripted(lambda _path, _body: ANSWERS["404 in the envelope"][0]) as url:
        message, waits = failure(url, Refused)
    assert ("unsupported_path: no" in message, waits) == (True, 0), message


@pytest.mark.parametrize("said", [each[0] for each in FOREIGN.values()], ids=FOREIGN)
def test_one_gateway_error_ends_no_list(said: Said) -> None:
    """A single foreign answer, to a page or to a renewed token, loses no row."""
    pages = iter([page([{"username": "a"}], 9, has_more=True), said, enveloped({}, "access_token_invalid", "", 401)])
    tokens = iter([TOKEN, said])
    with scripted(lambda _path, _body: next(pages, page([{"username": "b"}])), lambda: next(tokens, TOKEN)) as url:
        with Client("k", "s", url, policy=PATIENT) as client:
            assert [person.username for person in client.following("anna")] == ["a", "b"]


@pytest.mark.parametrize("status", [500, 502, 503, 403, 408, 304])
def test_temporary_failures_are_retried(status: int) -> None:
    """Other statuses end only after all attempts."""
    with scripted(odd, lambda: Said(b"", status)) as url:
        assert failure(url, GaveUp)[1] == PATIENT.attempts - 1


def test_a_path_in_the_address_is_named(retinue_server: LocalServer) -> None:
    """The API's own prefix is a usual mistake."""
    message, waits = failure(f"{retinue_server.url}/v2", Refused)
    assert "/v2/v2/oauth/token/ is not part of the API" in message
    assert "expected the address of a service as https://host[:port], without /v2;" in message
    assert waits == 0


@pytest.mark.parametrize("address", ["http://h/?x=1", "http://h/#x"])
def test_an_address_with_more_than_a_path_is_refused(address: str) -> None:
    """A query or fragment would swallow the paths of the API."""
    with pytest.raises(InputError, match="is no address of a service"):
        Client("k", "s", address)


def test_an_untrusted_certificate_is_final(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to trust it, and names the file if the environment names one."""
    with scripted(odd, tls=server_context("127.0.0.1")) as url:
        monkeypatch.delenv("SSL_CERT_FILE", raising=False)
        assert "name its certificate in SSL_CERT_FILE" in (found := failure(url))[0]
        assert found[1] == 0
        monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
        assert "is not in /nowhere/ca.pem, which SSL_CERT_FILE names" in failure(url)[0]


ASK = """
import sys
from retinue.client import Client

with Client("k", "s", sys.argv[1]) as client:
    client.user_info("anna")
"""
PAST = {"not_before": datetime(2020, 1, 1, tzinfo=UTC), "not_after": datetime(2021, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(
    ("name", "validity", "words"),
    [
        ("127.0.0.1", PAST, "the certificate of the service has expired, or the clock of this machine is wrong"),
        ("another.example", {}, "the certificate is for another host"),
        ("127.0.0.1", {}, ""),
    ],
)
def test_a_wrong_certificate_is_told_from_an_unknown_authority(
    tmp_path: Path, name: str, validity: dict[str, datetime], words: str
) -> None:
    """An expired certificate and one for another host have remedies of their own; a good one is trusted."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    with scripted(odd, tls=server_context(name, authority=authority, **validity)) as url:
        done = subprocess.run(
            [sys.executable, "-c", ASK, url],
            env=os.environ | {"SSL_CERT_FILE": str(tmp_path / "ca.pem")},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
    assert (words in done.stderr, done.returncode) == (True, 1 if words else 0), done.stderr
    assert not words or "asked once" in done.stderr


def test_plain_http_to_a_tls_port_is_final() -> None:
    """Servers hang up without a word; the client finds out why."""
    with scripted(odd, tls=server_context("127.0.0.1")) as url:
        message, waits = failure(url.replace("https", "http"))
    assert (f"speaks TLS; use {url}" in message, waits) == (True, 0), message


def test_tls_to_a_plain_port_is_final() -> None:
    """The message has the address that works."""
    with scripted(odd) as url:
        message, waits = failure(url.replace("http", "https"))
    assert (f"does not speak TLS; use {url}" in message, waits) == (True, 0), message


def test_tls_to_retinue_is_final(retinue_server: LocalServer) -> None:
    """Retinue itself speaks plain HTTP."""
    message, waits = failure(retinue_server.url.replace("http", "https"))
    assert ("does not speak TLS" in message, waits) == (True, 0), message


@pytest.mark.parametrize("variable", ["https_proxy", "all_proxy"])
def test_a_socks_proxy_is_refused(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """Before anything is sent, and not for hosts that no_proxy lists."""
    monkeypatch.setenv(variable, "socks5://me:hidden@127.0.0.1:1080")
    with pytest.raises(InputError, match=f"{variable} in the environment names a socks5 proxy") as caught:
        Client("k", "s")
    assert "hidden" not in str(caught.value)
    monkeypatch.setenv("no_proxy", "open.tiktokapis.com")
    Client("k", "s").close()


@pytest.mark.parametrize(("status", "words"), [(407, "the proxy asks for a login"), (None, "is not a proxy")])
def test_a_proxy_that_opens_no_tunnel_is_final(monkeypatch: pytest.MonkeyPatch, status: int | None, words: str) -> None:
    """One that asks for a password, and a web server that is none."""
    with hanging_up(f"HTTP/1.1 {status or 501} No\r\nContent-Length: 0\r\n\r\n".encode()) as (url, _):
        monkeypatch.setenv("https_proxy", url)
        message, waits = failure("https://service.invalid")
    assert (words in message, waits) == (True, 0), message


@pytest.mark.parametrize("place", ["http://127.0.0.1:{port}", "http://nobody.invalid", "http://a..b"])
def test_a_service_that_never_answered_is_soon_given_up(place: str) -> None:
    """A wrong host or port is told after a few attempts, in which a server may start."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    message, waits = failure(place.format(port=port), GaveUp)
    assert waits <= 3, message
    assert place.format(port=port) in message


@contextmanager
def hanging_up(said: bytes) -> Iterator[tuple[str, list[bytes]]]:
    """A server that says the same to each connection and closes it."""
    listener, heard = socket.create_server(("127.0.0.1", 0)), list[bytes]()

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                heard.append(connection.recv(65_536))
                connection.sendall(said)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", heard
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(10)


def test_a_service_that_answered_is_waited_for() -> None:
    """A server that goes away in the middle is asked as often as the policy says."""
    waits: list[float] = []
    last = odd("", {})._replace(headers=(("Connection", "close"),))
    with scripted(lambda _path, _body: last) as url:
        client = Client("k", "s", url, policy=PATIENT, on_wait=lambda seconds, _: waits.append(seconds))
        assert client.user_info("anna").follower_count == 3
    with client, pytest.raises(GaveUp, match="asked 20 times"):
        client.user_info("anna")
    assert len(waits) == 19


def test_a_server_that_starts_is_waited_for() -> None:
    """A client that is started at the same time as its server finds it."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    starting = threading.Event()

    def start(_seconds: float, _reason: str) -> None:
        starting.set()

    def serve() -> None:
        assert starting.wait(30)
        with socket.create_server(("127.0.0.1", port)) as listener:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65_536)
                token = json.dumps({"access_token": "clt.x", "expires_in": 60}).encode()
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(token), token))
                time.sleep(0.1)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()

    async def log_in() -> None:
        async with AsyncClient("k", "s", f"http://127.0.0.1:{port}", on_wait=start) as client:
            await client.log_in()

    asyncio.run(log_in())
    thread.join(30)


@pytest.mark.parametrize("options", [{"connections": 0}, {"timeout_seconds": 0}, {"timeout_seconds": float("nan")}])
def test_options_that_allow_no_response_are_refused(options: Any) -> None:
    """No connections at all would mean an endless wait."""
    with pytest.raises(InputError, match=f"{next(iter(options))}: expected"):
        Client("k", "s", **options)


def test_a_missing_endpoint_is_reported() -> None:
    """A list that a service does not serve is given up after a few attempts."""
    with scripted(lambda path, _body: Said(b"", 404) if "followers" in path else page([])) as url:
        with Client("k", "s", url, policy=PATIENT) as client:
            assert list(client.following("anna")) == []
            with pytest.raises(GaveUp, match=r"asked 4 times; at last: .*followers/ is not part of the API"):
                list(client.followers("anna"))

    pages = iter([page([{"username": "a"}], 9, has_more=True)])
    with scripted(lambda _path, _body: next(pages, Said(b"", 404))) as url:
        with Client("k", "s", url, policy=PATIENT) as client:
            with pytest.raises(GaveUp, match=r"asked 20 times; at last: .*following/ is not part of the API"):
                list(client.following("anna"))
