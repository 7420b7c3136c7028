"""A running server as processes: how it starts, lives and stops."""

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from retinue.cli.serve import serve
from retinue.serving import supervisor
from running import Server, Session, fresh_token, running, running_server
from support.commands import retinue
from support.served import connected, create_list, exchange
from support.waiting import waiting_for, waiting_until_accepted, waiting_until_read

NOW = 1_700_000_000
FOLLOWING = "/v2/research/user/following/"


@pytest.fixture
def graph(store_path: Path) -> Path:
    """A store with one list of 300."""
    create_list(store_path)
    return store_path


@pytest.fixture
def server(graph: Path) -> Iterator[Server]:
    """A server with two workers."""
    with running_server(graph, "--workers", "2") as server:
        yield server


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


def test_a_whole_list_over_http_while_an_import_goes_on(server: Server, graph: Path, tmp_path: Path) -> None:
    """Every existing follow is returned exactly once during concurrent writes."""
    more = tmp_path / "more.csv"
    rows = [f"p,g{n},{NOW - 3 * n}" for n in range(5_000)] + [f"q{n},p,{NOW}" for n in range(20_000)]
    more.write_text("follower,followee,followed_at\n" + "\n".join(rows))
    token = fresh_token(server, graph)
    command = [sys.executable, "-m", "retinue", "import", "--store", str(graph), str(more)]
    with Session(server.base_url, token) as session:
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


def test_every_worker_refuses_a_revoked_client_within_a_second(server: Server, graph: Path) -> None:
    """The CLI revokes while the server runs; new connections reach all workers."""
    created = json.loads(retinue("client", "create", "--store", graph, "--name", "x", "--json").stdout)
    form = f"client_key={created['client_key']}&client_secret={created['client_secret']}&grant_type=client_credentials"
    with urllib.request.urlopen(f"{server.base_url}/v2/oauth/token/", form.encode()) as answer:
        token = json.load(answer)["access_token"]

    def status() -> int:
        head = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: 16\r\n\r\n"
        return exchange(server, head.encode() + b'{"username":"p"}')[0]

    assert [200] * 20 == [status() for _ in range(20)]
    retinue("client", "revoke", created["client_key"], "--store", graph)
    time.sleep(1)  # the promise: at most one second

    assert [401] * 20 == [status() for _ in range(20)]


def test_a_killed_child_is_replaced_and_answers_go_on(server: Server, graph: Path) -> None:
    """Workers and coordinator are restarted automatically."""
    token = fresh_token(server, graph)
    before = server.processes()
    for pid, role in before.items():
        if role != "supervisor":
            os.kill(pid, signal.SIGKILL)

    def is_replaced() -> bool:
        try:
            now = server.processes()
        except (FileNotFoundError, ProcessLookupError):
            return False  # one of them ended while we looked
        is_complete = ["coordinator", "supervisor", "worker", "worker"] == sorted(now.values())
        return is_complete and {server.pid} == now.keys() & before.keys()

    waiting_for(is_replaced)
    with Session(server.base_url, token) as session:
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


def test_many_clients_at_once_get_tokens_and_pages(server: Server, graph: Path) -> None:
    """Tokens from several workers at the same time, each good in all of them at once."""
    found: list[int] = []

    def one() -> None:
        token = fresh_token(server, graph)
        with Session(server.base_url, token) as session:
            found.append(len(walk(session, "p", 100)))

    threads = [threading.Thread(target=one) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [300] * 6 == found
