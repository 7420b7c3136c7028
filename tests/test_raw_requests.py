"""A running server as sockets: what it answers by itself to requests in any form."""

import http.client
import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from retinue.store.open import open_store
from running import Server, fresh_token, running_server
from support.commands import retinue
from support.served import connected, create_list, exchange
from support.service import problems_of

NOW = 1_700_000_000
FOLLOWING = "/v2/research/user/following/"


@pytest.fixture(scope="module")
def served_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one list of 300, which no test changes."""
    path = tmp_path_factory.mktemp("served") / "graph.db"
    create_list(path)
    return path


@pytest.fixture(scope="module")
def server(served_graph: Path) -> Iterator[Server]:
    """A server with two workers, which no test disturbs."""
    with running_server(served_graph, "--workers", "2") as server:
        yield server
    assert [] == problems_of(served_graph)


@pytest.mark.parametrize(
    "sent",
    [
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"POST /v2/research/user/following/ HTTP/9.9\r\n\r\n",
        b"POST /v2/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nBad Header\r\n\r\n",
        b"POST http://[ HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_answered_in_our_form(server: Server, sent: bytes) -> None:
    """Even then the answer is JSON with a log_id, and the connection is closed."""
    status, headers, body = exchange(server, sent)

    assert (400, "application/json", "close") == (status, headers["content-type"], headers["connection"])
    assert {} == body["data"]
    assert "invalid_params" == body["error"]["code"]
    assert headers["x-tt-logid"] == body["error"]["log_id"]


def test_a_body_that_is_announced_too_long_is_refused_at_once(server: Server, served_graph: Path) -> None:
    """The client need not send the body first."""
    head = b"POST /v2/research/user/following/ HTTP/1.1\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    token = fresh_token(server, served_graph).encode()
    for length in (65_537, 1_000_000, 2**63 - 1):
        assert 413 == exchange(server, head % (token, length))[0]


def test_a_half_closed_connection_gets_its_answers(server: Server, served_graph: Path) -> None:
    """Also those that take a while, and several in a row."""
    token = fresh_token(server, served_graph).encode()
    body = b'{"username":"p"}'
    asking = b"POST %b HTTP/1.1\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n%b"
    form = b"grant_type=client_credentials&client_key=x&client_secret=y"
    info = asking % (b"/v2/research/user/info/?fields=follower_count", token, len(body), body)
    listed = asking % (b"/v2/research/user/following/", token, len(body), body)
    tokens = asking.replace(b"\r\n\r\n", b"\r\nContent-Type: application/x-www-form-urlencoded\r\n\r\n") % (
        b"/v2/oauth/token/",
        token,
        len(form),
        form,
    )
    for sent, count in ((tokens, 1), (info + listed, 2), (listed + tokens + info + listed, 4), (tokens + info[:-3], 1)):
        with connected(server) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            received = b""
            while more := connection.recv(65536):
                received += more
            assert count == received.count(b"HTTP/1.1 ")


def test_a_body_in_pieces_and_in_chunks(server: Server, served_graph: Path) -> None:
    """How the body arrives does not matter, except that it may not grow too long."""
    token = fresh_token(server, served_graph).encode()
    head = b"POST /v2/research/user/following/ HTTP/1.1\r\nAuthorization: Bearer " + token + b"\r\n"
    body = b'{"username":"p","max_count":1}'
    chunked = b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    assert 200 == exchange(server, head + chunked)[0]
    with connected(server) as connection:
        for byte in head + b"Content-Length: %d\r\nExpect: 100-continue\r\n\r\n" % len(body):
            connection.sendall(bytes([byte]))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 Continue")
        for byte in body:
            connection.sendall(bytes([byte]))
        assert connection.recv(100).startswith(b"HTTP/1.1 200 OK")

    too_long = b"%x\r\n%s\r\n" % (40_000, b" " * 40_000) * 2
    status, _, answer = exchange(server, head + b"Transfer-Encoding: chunked\r\n\r\n" + too_long)
    assert (413, "invalid_params") == (status, answer["error"]["code"])


@pytest.mark.parametrize("size", [70_000, 5_000_000])
def test_a_client_sending_a_long_body_gets_the_refusal(server: Server, served_graph: Path, size: int) -> None:
    """The answer reaches a client that is still sending, and the connection can be used again."""
    token = fresh_token(server, served_graph)
    connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=60)
    for body, status in ((b" " * size, 413), (b'{"username":"p"}', 200)):
        connection.request("POST", FOLLOWING, body, {"Authorization": f"Bearer {token}"})
        answer = connection.getresponse()
        answer.read()
        assert status == answer.status
    connection.close()


@pytest.mark.parametrize("wish", ["h2c", "websocket", "h2c, websocket"])
@pytest.mark.parametrize("pause", [0.0, 0.2])
def test_an_upgrade_request_is_ignored_and_loses_nothing(
    server: Server, served_graph: Path, wish: str, pause: float
) -> None:
    """The request is answered as if it had no such wish, and its body is never taken for another request."""
    token = fresh_token(server, served_graph)
    body = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\n{{}}".encode()
    head = (
        f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade, HTTP2-Settings, close\r\n"
        f"Upgrade: {wish}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode()
    with connected(server) as connection:
        connection.sendall(head)
        time.sleep(pause)
        connection.sendall(body)
        received = b""
        while more := connection.recv(65536):
            received += more

    assert 1 == received.count(b"HTTP/1.1 ") == received.count(b"HTTP/1.1 400 ")
    assert b"body: expected a JSON object or form pairs" in received


def test_garbage_behind_a_request_does_not_take_its_answer(server: Server, served_graph: Path) -> None:
    """The request before it is answered; the garbage gets a 400, and the connection is closed."""
    created = json.loads(retinue("client", "create", "--store", served_graph, "--name", "x", "--json").stdout)
    form = f"client_key={created['client_key']}&client_secret={created['client_secret']}&grant_type=client_credentials"
    sent = f"POST /v2/oauth/token/ HTTP/1.1\r\nHost: x\r\nContent-Length: {len(form)}\r\n\r\n{form}garbage\r\n\r\n"

    with connected(server) as connection:
        connection.sendall(sent.encode())
        answers = connection.makefile("rb").read().decode().split("HTTP/1.1 ")[1:]

    assert ["200", "400"] == [answer.split()[0] for answer in answers]
    assert "Bearer" in answers[0]
    assert "connection: close" in answers[1].lower()


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Two requests in one packet get two answers, the refusals each with a log_id of its own."""
    request = b"POST /v2/%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    with connected(server) as connection:
        connection.sendall(request % b"oauth/token" + request % b"nowhere")
        received = b""
        while received.count(b"log_id") < 2:
            received += connection.recv(65536)

    assert received.index(b"Client key is missed") < received.index(b"Unsupported path")


def test_the_management_listener_is_separate(server: Server) -> None:
    """Health and version are on the management port alone."""
    for path, expected in (("/health", {"status": "ok"}), ("/version", None)):
        with urllib.request.urlopen(server.management_url + path) as answer:
            found = json.load(answer)
        assert expected is None or expected == found
        assert 404 == exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())[0]


def test_a_failed_start_says_why(served_graph: Path, tmp_path: Path, server: Server) -> None:
    """One clear line for each reason, exit code 2."""
    text = tmp_path / "text.db"
    text.write_text("no database" * 1000)
    idle = tmp_path / "idle.db"
    open_store(str(idle)).create()
    taken = str(urlsplit(server.base_url).port)
    cases: list[tuple[list[str | Path], str]] = [
        (["--store", idle, "--port", taken], f"--port {taken}: cannot listen on 127.0.0.1:{taken}: Address already"),
        (["--store", idle, "--port", "0", "--management-port", taken], f"--management-port {taken}: cannot listen"),
        (["--store", idle, "--port", "70000"], "--port 70000: cannot listen on 127.0.0.1:70000: not a port"),
        (["--store", idle, "--host", "not.a.host"], "cannot listen on not.a.host:8642"),
        (["--store", tmp_path / "none.db"], "there is no follow graph here"),
        (["--store", text], "not a Retinue follow graph"),
        (["--store", idle, "--workers", "0"], "--workers 0: expected 1 to 256"),
        (["--store", idle, "--max-connections", "0"], "--max-connections 0: expected 1 to 1000000"),
        (["--store", idle, "--block-cache-mib", "-1"], "--block-cache-mib -1: expected 0 to 1048576"),
        (
            ["--store", served_graph],
            "graph.audit: another server writes this audit log; one server serves",
        ),
        (
            ["--store", served_graph, "--audit-folder", tmp_path / "there"],
            "graph.db: another server serves this store",
        ),
        (["--store", idle, "--audit-file-mib", "0"], "--audit-file-mib 0: expected 1 to"),
        (["--store", idle, "--audit-max-mib", "-1"], "--audit-max-mib -1: expected 0 to"),
        (["--store", idle, "--audit-keep-days", "-1"], "--audit-keep-days -1: expected 0 to"),
        (["--store", idle, "--audit-folder", text], f"{text}: the audit log cannot be kept here: File exists"),
        (["--store", idle, "--log-level", "loud"], "--log-level loud: expected one of error, warning, info, debug"),
        (["--store", idle, "--log-format", "xml"], "--log-format xml: expected one of text, json"),
        (["--store", idle, "--tls-cert", "x.pem"], "--tls-cert and --tls-key: give both or neither"),
        (["--store", idle, "--tls-cert", text, "--tls-key", text], "--tls-cert"),
    ]
    for arguments, words in cases:
        done = retinue("serve", *arguments)
        assert 2 == done.returncode, arguments
        assert words in done.stderr
        assert 1 == done.stderr.count("\n")
