"""A running server, as processes and sockets: what it answers by itself, how it starts, lives and stops."""

import asyncio
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from retinue.cli.serve import serve
from retinue.model import FollowRecord
from retinue.serving import supervisor
from retinue.store.open import open_store
from running import Server, Session, fresh_token, running, running_server
from support.commands import retinue
from support.frozen_clock import FrozenClock
from support.served import connected, exchange
from support.service import problems_of
from support.waiting import waiting_for, waiting_until_accepted, waiting_until_read

NOW = 1_700_000_000
FOLLOWING = "/v2/research/user/following/"


def _fill(path: Path) -> None:
    """Make a store with one list of 300."""
    open_store(str(path)).create()
    with closing(open_store(str(path)).writer(FrozenClock())) as writer:
        asyncio.run(writer.add_follows([FollowRecord("p", f"f{n}", NOW - n, NOW) for n in range(300)]))


@pytest.fixture
def graph(store_path: Path) -> Path:
    """A store with one list of 300."""
    _fill(store_path)
    return store_path


@pytest.fixture(scope="module")
def served_graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of `server`, which no test changes."""
    path = tmp_path_factory.mktemp("served") / "graph.db"
    _fill(path)
    return path


@pytest.fixture(scope="module")
def server(served_graph: Path) -> Iterator[Server]:
    """A server with two workers for all tests that do not disturb it."""
    with running_server(served_graph, "--workers", "2") as server:
        yield server
    assert [] == problems_of(served_graph)


@pytest.fixture
def own_server(graph: Path) -> Iterator[Server]:
    """A server with two workers for one test, on its store."""
    with running_server(graph, "--workers", "2") as server:
        yield server


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


def test_busy_clients_lose_no_answer_when_the_server_stops(graph: Path) -> None:
    """Requests that arrive together with the signal are answered; then the client is told to close."""
    lost: list[Exception] = []
    answered: list[int] = []

    def ask(server: Server, token: str) -> None:
        connection = http.client.HTTPConnection(urlsplit(server.base_url).netloc, timeout=60)
        try:
            while True:
                connection.request("POST", FOLLOWING, b'{"username":"p"}', {"Authorization": f"Bearer {token}"})
                answer = connection.getresponse()
                answer.read()
                answered.append(answer.status)
                if answer.will_close:
                    return
        except (OSError, http.client.HTTPException) as error:
            lost.append(error)

    with running_server(graph) as server:
        token = fresh_token(server, graph)
        clients = [threading.Thread(target=ask, args=(server, token)) for _ in range(6)]
        for client in clients:
            client.start()
        waiting_for(lambda: len(answered) > 2 * len(clients))
        os.kill(server.pid, signal.SIGTERM)
        for client in clients:
            client.join()

    assert [] == lost
    assert {200} == set(answered)


def test_a_low_limit_of_open_files_is_reported(graph: Path) -> None:
    """The limit is raised where that is allowed; where it is not, the error names both numbers."""
    command = f"ulimit -n 100; exec {sys.executable} -m retinue serve --store {graph} --port 0 --management-port 0"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)

    assert 2 == done.returncode
    assert "retinue: --max-connections 4096: this system allows 100 open files (ulimit -n)\n" == done.stderr


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Two requests in one packet get two answers, the refusals each with a log_id of its own."""
    request = b"POST /v2/%s/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
    with connected(server) as connection:
        connection.sendall(request % b"oauth/token" + request % b"nowhere")
        received = b""
        while received.count(b"log_id") < 2:
            received += connection.recv(65536)

    assert received.index(b"Client key is missed") < received.index(b"Unsupported path")


def test_a_whole_list_over_http_while_an_import_goes_on(own_server: Server, graph: Path, tmp_path: Path) -> None:
    """Every existing follow is returned exactly once during concurrent writes."""
    more = tmp_path / "more.csv"
    rows = [f"p,g{n},{NOW - 3 * n}" for n in range(5_000)] + [f"q{n},p,{NOW}" for n in range(20_000)]
    more.write_text("follower,followee,followed_at\n" + "\n".join(rows))
    token = fresh_token(own_server, graph)
    command = [sys.executable, "-m", "retinue", "import", "--store", str(graph), str(more)]
    with Session(own_server.base_url, token) as session:
        importing = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        walks = 0
        while importing.poll() is None or not walks:
            names = [row["username"] for row in walk(session, "p", 7)]
            assert [f"f{n}" for n in range(300)] == [name for name in names if name.startswith("f")]
            assert len(names) == len(set(names))
            walks += 1
        assert 0 == importing.wait()
        assert 5_300 == len(walk(session, "p", 100))


def walk(session: Session, username: str, max_count: int) -> list[dict[str, str]]:
    """All rows of a list."""
    rows: list[dict[str, str]] = []
    query: dict[str, Any] = {"username": username, "max_count": max_count}
    while True:
        data = session.following(query)
        rows += data["user_following"]
        if not data["has_more"]:
            return rows
        query["cursor"] = data["cursor"]


def test_every_worker_refuses_a_revoked_client_within_a_second(own_server: Server, graph: Path) -> None:
    """The CLI revokes while the server runs; new connections reach all workers."""
    created = json.loads(retinue("client", "create", "--store", graph, "--name", "x", "--json").stdout)
    form = f"client_key={created['client_key']}&client_secret={created['client_secret']}&grant_type=client_credentials"
    with urllib.request.urlopen(f"{own_server.base_url}/v2/oauth/token/", form.encode()) as answer:
        token = json.load(answer)["access_token"]

    def status() -> int:
        head = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 16\r\n\r\n"
        return exchange(own_server, head.encode() + b'{"username":"p"}')[0]

    assert [200] * 20 == [status() for _ in range(20)]
    retinue("client", "revoke", created["client_key"], "--store", graph)
    time.sleep(1)  # the promise: at most one second

    assert [401] * 20 == [status() for _ in range(20)]


def test_a_killed_child_is_replaced_and_answers_go_on(own_server: Server, graph: Path) -> None:
    """Workers and coordinator are restarted automatically."""
    token = fresh_token(own_server, graph)
    before = own_server.processes()
    for pid, role in before.items():
        if role != "supervisor":
            os.kill(pid, signal.SIGKILL)

    def is_replaced() -> bool:
        try:
            now = own_server.processes()
        except (FileNotFoundError, ProcessLookupError):
            return False  # one of them ended while we looked
        is_complete = ["coordinator", "supervisor", "worker", "worker"] == sorted(now.values())
        return is_complete and {own_server.pid} == now.keys() & before.keys()

    waiting_for(is_replaced)
    with Session(own_server.base_url, token) as session:
        assert 300 == len(walk(session, "p", 100))


def test_children_end_with_their_supervisor(graph: Path) -> None:
    """Even SIGKILL of the supervisor leaves no process behind."""
    command = [sys.executable, "-m", "retinue", "serve", "--store", str(graph), "--port", "0", "--management-port", "0"]
    supervisor = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert supervisor.stdout is not None
    supervisor.stdout.readline()
    listing = Path(f"/proc/{supervisor.pid}/task/{supervisor.pid}/children")
    waiting_for(lambda: len(listing.read_text().split()) == 2)
    children = listing.read_text().split()
    supervisor.kill()
    supervisor.wait()
    supervisor.stdout.close()

    waiting_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children))


def test_files_in_the_working_folder_are_not_imported(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A researcher's own json.py or dis.py beside the store stays out of the server's processes."""
    scripts = tmp_path / "scripts"
    scripts.mkdir()
    for module in ("json", "dis", "uvloop"):
        (scripts / f"{module}.py").write_text("raise SystemExit('imported by accident')\n")
    monkeypatch.chdir(scripts)
    program = str(Path(sys.executable).with_name("retinue"))
    command = [program, "serve", "--store", str(graph), "--port", "0", "--management-port", "0"]

    with running(command) as server:
        status, _, _ = exchange(server, f"POST {FOLLOWING} HTTP/1.1\r\nContent-Length: 0\r\n\r\n".encode())

    assert 401 == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_can_be_stopped_as_soon_as_it_says_that_it_serves(graph: Path, number: int) -> None:
    """A signal right after the announcement is an orderly stop with exit code 0."""
    command = [sys.executable, "-m", "retinue", "serve", "--store", str(graph), "--port", "0", "--management-port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as supervisor:
        assert supervisor.stdout is not None
        supervisor.stdout.readline()
        supervisor.send_signal(number)
        assert 0 == supervisor.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_finish_when_the_server_stops(graph: Path, number: int) -> None:
    """A request whose body is still on its way when the signal comes is answered; idle connections are closed."""
    with running_server(graph) as server:
        token = fresh_token(server, graph)
        body = b'{"username":"p","max_count":1}'
        head = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
        with connected(server) as busy, connected(server) as idle:
            busy.sendall(head.encode() + body[:5])
            waiting_until_read(busy)
            waiting_until_accepted(idle)
            os.kill(server.pid, number)
            assert b"" == idle.recv(100)
            busy.sendall(body[5:])
            answer = busy.recv(65536)
            while b"log_id" not in answer:
                answer += busy.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 OK")


def test_a_request_that_never_ends_does_not_hold_up_the_stop(graph: Path) -> None:
    """The server ends after SIGTERM, whatever its clients do."""
    with running_server(graph) as server, connected(server) as slow:
        slow.sendall(f"POST {FOLLOWING} HTTP/1.1\r\nContent-Length: 10\r\n\r\n".encode())
        waiting_until_read(slow)
        children = [pid for pid, role in server.processes().items() if role != "supervisor"]
        os.kill(server.pid, signal.SIGTERM)

        waiting_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


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


def test_a_quiet_server_writes_one_line(graph: Path) -> None:
    """Nothing but the announcement is printed by default, and refused requests do not fill a log."""
    command = [sys.executable, "-m", "retinue", "serve", "--store", str(graph), "--port", "0", "--management-port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    line = process.stdout.readline()
    base_url = line.split(" on ")[1].split()[0]
    server = Server(base_url, "", process.pid)
    assert 405 == exchange(server, b"GET /v2/oauth/token/ HTTP/1.1\r\nHost: x\r\n\r\n")[0]
    assert 400 == exchange(server, b"nonsense\r\n\r\n")[0]
    process.terminate()
    rest, errors = process.communicate()

    assert line.startswith(f"Serving {graph} on http://127.0.0.1:")
    assert "" == rest
    assert "" == errors


def test_the_greeting_does_not_contain_a_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The store in the first line is the location without user, password and options."""
    monkeypatch.setattr(supervisor, "serve", lambda _settings, announce: announce("http://x:1", "http://y:2"))

    serve("cassandra://someone:secret%21@node:9042/graph?consistency=ONE")

    expected = "Serving cassandra://node:9042/graph on http://x:1 (management on http://y:2). Ctrl-C stops.\n"
    assert expected == capsys.readouterr().out


def test_many_clients_at_once_get_tokens_and_pages(server: Server, served_graph: Path) -> None:
    """Tokens from several workers at the same time, each good in all of them at once."""
    found: list[int] = []

    def one() -> None:
        token = fresh_token(server, served_graph)
        with Session(server.base_url, token) as session:
            found.append(len(walk(session, "p", 100)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [300] * 6 == found
