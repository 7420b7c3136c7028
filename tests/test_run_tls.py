"""The summary of a run tells failures of TLS and broken connections apart."""

import sys
from pathlib import Path

import pytest
import trustme

from retinue.intercept.exchanges import Exchanges
from retinue.intercept.traffic import Traffic
from support.frozen_clock import FrozenClock
from support.intercepted import NODE, run
from support.summarized_runs import NAIVE, counted, python, verdicts

RAW = """
import os, socket, ssl, struct
def tunnel():
    host, _, port = os.environ["https_proxy"].removeprefix("http://").partition(":")
    raw = socket.create_connection((host, int(port)))
    raw.sendall(b"CONNECT open.tiktokapis.com:443 HTTP/1.1\\r\\n\\r\\n")
    assert b" 200 " in raw.recv(1000)
    return raw
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
"""


RESET_AFTER_HANDSHAKE = """
opened = context.wrap_socket(tunnel())
opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
opened.close()
"""
NOT_TLS = 'opened = tunnel(); opened.sendall(b"GET / HTTP/1.1\\r\\n\\r\\n"); opened.recv(1000)'
CLOSED_AFTER_HANDSHAKE = "opened = context.wrap_socket(tunnel()); opened.unwrap(); opened.close()"
TLS_CLIENTS = {
    "requests": "import requests, sys; requests.get('https://open.tiktokapis.com/', verify=sys.argv[1])",
    "aiohttp": (
        "import aiohttp, asyncio, os, ssl, sys\n"
        "async def ask():\n"
        "    context = ssl.create_default_context(cafile=sys.argv[1])\n"
        "    async with aiohttp.ClientSession() as session:\n"
        "        await session.get('https://open.tiktokapis.com/', ssl=context, proxy=os.environ['https_proxy'])\n"
        "asyncio.run(ask())"
    ),
    "a reset after the handshake": RAW + RESET_AFTER_HANDSHAKE,
}


@pytest.mark.parametrize("client", TLS_CLIENTS)
def test_tls_failures_are_counted(lengths_store: Path, tmp_path: Path, client: str) -> None:
    """Whether a client tells so by an alert or by a reset, during the handshake or after it."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "other.pem")
    script = TLS_CLIENTS[client]

    done = run("--store", lengths_store, "--", sys.executable, "-c", script, tmp_path / "other.pem")

    assert 1 == counted(done, "did not trust the certificate"), done.stderr


def test_tls_failures_of_node_are_counted(lengths_store: Path) -> None:
    """Node finishes the handshake before it looks at the certificate."""
    script = "require('tls').connect({ host: 'open.tiktokapis.com', port: 443, ca: [] }).on('error', () => {});"

    done = run("--store", lengths_store, "--", NODE, "-e", script)

    assert 1 == counted(done, "did not trust the certificate"), done.stderr


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (RAW + CLOSED_AFTER_HANDSHAKE, "1 sent no request after TLS (was the certificate not trusted?)"),
        (RAW + NOT_TLS, "1 failed in TLS (HTTP_REQUEST)"),
    ],
)
def test_other_ends_in_tls_are_told_apart(lengths_store: Path, script: str, said: str) -> None:
    """Neither is distrust for certain."""
    done = run("--store", lengths_store, "--", sys.executable, "-c", script)

    assert said in done.stderr
    assert 0 == counted(done, "did not trust the certificate")


def test_silence_is_reported_only_without_requests(lengths_store: Path) -> None:
    """A connection that was broken off did come, and a command that does not exist cannot have asked."""
    broken = Traffic(FrozenClock())
    broken.add_unanswered(b"/", b"", by_client=False)
    absent = run("--store", lengths_store, "--", "no-such-command")
    silent = run("--store", lengths_store, "--", "true")

    assert not broken.is_silent
    assert 127 == absent.returncode
    assert [False, True] == ["no request reached" in done.stderr for done in (absent, silent)]


def test_answers_that_are_not_waited_for(lengths_store: Path) -> None:
    """A client that gives up has got nothing, and the server broke nothing off."""
    asked = """
headers = {"Authorization": "Bearer " + token()}
query = {"username": "anna", "max_count": 100}
try:
    requests.post(API + "/research/user/following/", json=query, headers=headers, timeout=0.01)
except requests.Timeout:
    print("gave up")
"""
    done = python(
        lengths_store, NAIVE.split("\nheaders =", maxsplit=1)[0] + asked, flags=("--faults", "delay_seconds=2")
    )

    assert "gave up\n" == done.stdout
    assert (1, 0) == (counted(done, "given up by the command before the answer"), counted(done, "broken off"))
    assert {"anna": "0 of 230 rows, broken off after an answer that was not waited for"} == verdicts(done)


def test_an_error_with_an_unread_body_is_a_response() -> None:
    """A client may close after the status of an error; a truncated page is an abandoned one."""
    ends = []
    for status in (b"500 Internal Server Error", b"200 OK"):
        traffic = Traffic(FrozenClock())
        exchanges = Exchanges(traffic)
        exchanges.sent(b'POST /v2/research/user/following/ HTTP/1.1\r\nContent-Length: 16\r\n\r\n{"username":"a"}')
        exchanges.delivered(b"HTTP/1.1 %b\r\nContent-Length: 99\r\n\r\n{" % status)
        exchanges.ended(by_client=True)
        ends.append(str(traffic))

    assert "1 requests, 1 refusals, 0 rows" == ends[0]
    assert "0 requests, 0 refusals, 0 rows; 1 given up by the command before the answer" == ends[1]
