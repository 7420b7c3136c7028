"""Log lines of a running server: their form, and secrets that are never logged."""

import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from retinue.store.open import open_store
from retinue.web.limits import MAX_HEAD_BYTES
from running import Client, Server, command_of, create_client
from support.service import FOLLOWING, TOKEN
from support.waiting import waiting_for

LOG_ID = re.compile(r"\d{14}[0-9A-F]{20}")
REQUEST = re.compile(
    r"log_id=(?P<log_id>\S+) method=(?P<method>\S+) path='(?P<path>[ -~]*)' status=(?P<status>\d+)"
    r" duration_ms=(?P<duration>\d+\.\d{3})"
)
RESET = b"\1\0\0\0\0\0\0\0"  # closing drops what is not sent, and tells the other end


@pytest.fixture
def store(store_path: Path) -> Path:
    """An empty store."""
    open_store(str(store_path)).create()
    return store_path


@contextmanager
def logging_server(store: Path, log: Path, *flags: str) -> Iterator[Server]:
    """A running server that logs into a file, which is complete after the block."""
    command = command_of("serve", "--store", store, "--port", "0", "--management-port", "0", *flags)
    with (
        log.open("w") as stderr,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True) as process,
    ):
        assert process.stdout is not None
        try:
            base_url, management_url = re.findall(r"http://[0-9.:]+", process.stdout.readline())
            yield Server(base_url, management_url, process.pid)
        finally:
            process.terminate()


def answered(server: Server, sent: bytes) -> str:
    """All that raw bytes get until the server closes."""
    address = urlsplit(server.base_url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.sendall(sent)
        received = b""
        while more := connection.recv(65536):
            received += more
    return received.decode()


def post(target: str, body: str, *headers: str, last: bool = True) -> bytes:
    """A POST, which ends its connection unless told."""
    lines = [f"POST {target} HTTP/1.1", f"Content-Length: {len(body)}", *headers, *["Connection: close"] * last]
    return "\r\n".join([*lines, "", body]).encode()


def form_of(client: Client) -> str:
    """The body of a token request."""
    return f"client_key={client.key}&client_secret={client.secret}&grant_type=client_credentials"


def asked_in_every_way(server: Server, client: Client) -> tuple[str, str]:
    """All answers to requests of every kind, and the token that one of them gave."""
    got_token = answered(server, post(TOKEN, form_of(client)))
    token = re.findall(r"clt\.[\w-]+", got_token)[0]
    bearer = f"Authorization: Bearer {token}"
    page = post(FOLLOWING, '{"username":"nobody"}', bearer, last=False)
    answers = [
        got_token,
        answered(server, page * 2 + post(FOLLOWING, "{}", bearer)),  # an answer for each
        answered(server, post(f"/no%0a%1b[1m%e4%bd%a0{'x' * 300}?token={token}", token, bearer)),
        answered(server, b"GET " + post(FOLLOWING, "", bearer).removeprefix(b"POST ")),
        answered(server, f"nonsense {token}\r\n\r\n".encode()),
        answered(server, post("/", "", f"X: {token}{'x' * MAX_HEAD_BYTES}")),
    ]
    return "".join(answers), token


def test_each_answered_request_is_one_json_line(store: Path, tmp_path: Path) -> None:
    """Whichever way the answer left; the line has its log_id, and nothing that the client sent but method and path."""
    client = create_client(store)
    log = tmp_path / "log"
    flags = ("--log-format", "json", "--log-level", "info")
    with logging_server(store, log, *flags) as server:
        answers, token = asked_in_every_way(server, client)

    text = log.read_text()
    lines: list[dict[str, Any]] = [json.loads(line) for line in text.splitlines()]
    found = [REQUEST.fullmatch(line["message"]) for line in lines if line["logger"] == "retinue.web"]
    assert [*dict.fromkeys(LOG_ID.findall(answers))] == [match["log_id"] for match in found if match]
    others = [line["message"] for line in lines if line["logger"] != "retinue.web"]
    assert [True] == [message.startswith("confinement: ") for message in others]
    assert [
        ("POST", TOKEN, "200"),
        ("POST", FOLLOWING, "400"),
        ("POST", FOLLOWING, "400"),
        ("POST", FOLLOWING, "400"),
        ("POST", "/...", "404"),
        ("GET", FOLLOWING, "405"),
        ("-", "-", "400"),
        ("-", "-", "431"),
    ] == [match.group("method", "path", "status") for match in found if match]
    assert not any(word in text for word in (token, client.secret, client.key, "clt.", "Bearer", "nobody", "?"))


def test_a_json_line_has_all_fields(store: Path, tmp_path: Path) -> None:
    """Each of its fields, and no others where there is no traceback."""
    log = tmp_path / "log"
    with logging_server(store, log, "--log-format", "json", "--log-level", "info") as server:
        answered(server, post(TOKEN, ""))
        (worker,) = [pid for pid, role in server.processes().items() if role == "worker"]

    confined, line = [json.loads(line) for line in log.read_text().splitlines()]
    assert ("supervisor", "retinue.serving") == (confined["process"], confined["logger"])
    message = line.pop("message")
    assert REQUEST.fullmatch(message)
    moment = line.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", moment)
    second = datetime.strptime(message[7:21] + "+0000", "%Y%m%d%H%M%S%z")
    assert abs(datetime.fromisoformat(moment) - second) < timedelta(seconds=2)
    assert {"level": "info", "logger": "retinue.web", "process": "worker", "pid": worker} == line


@pytest.mark.parametrize("form", ["json", "text"])
def test_ends_of_processes_are_logged_in_the_same_form(store: Path, tmp_path: Path, form: str) -> None:
    """By the child, with the reason, and by the supervisor that sees it end."""
    log = tmp_path / "log"
    away = store.with_suffix(".away")
    with logging_server(store, log, "--log-format", form) as server:
        answered(server, post(TOKEN, ""))
        store.rename(away)
        for pid, role in server.processes().items():
            if role == "worker":
                os.kill(pid, signal.SIGKILL)
        waiting_for(lambda: log.read_text().count("worker ended after") > 1)
        away.rename(store)

    reason = "there is no follow graph here"
    if form == "text":
        text = log.read_text()
        assert re.search(r"^\S+ \S+ ERROR retinue\.serving worker ended after .* s; restarting$", text, re.MULTILINE)
        assert re.search(rf"^\S+ \S+ ERROR retinue\.serving worker ends: .*{reason}", text, re.MULTILINE)
    else:
        lines = json_lines(log)
        assert ("supervisor", "error") in {(each["process"], each["level"]) for each in lines}
        assert any(each["process"] == "worker" and reason in each["message"] for each in lines)


BROKEN_WORKER = """
import sys
if "retinue.serving.worker" in sys.orig_argv:
    from retinue.store.sqlite.backend import SqliteStore
    SqliteStore.served_graph = lambda *_: 1 / 0
"""


@pytest.mark.parametrize("form", ["json", "text"])
def test_unexpected_errors_are_logged_with_their_traceback(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """In the form of the log, by the process that they end."""
    (tmp_path / "hook").mkdir()
    (tmp_path / "hook" / "sitecustomize.py").write_text(BROKEN_WORKER)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "hook"))
    log = tmp_path / "log"
    with logging_server(store, log, "--log-format", form):
        waiting_for(lambda: log.read_text().count("worker ended after") > 1)

    if form == "text":
        text = log.read_text()
        assert re.search(r"^\S+ \S+ CRITICAL retinue this process ends by an error\n    Traceback", text, re.MULTILINE)
    else:
        critical = [each for each in json_lines(log) if each["level"] == "critical"]
        assert {"worker"} == {each["process"] for each in critical}
        tracebacks = [each["traceback"] for each in critical]
        assert all(each.startswith("Traceback") and "ZeroDivisionError" in each for each in tracebacks)


def json_lines(log: Path) -> list[dict[str, Any]]:
    """The lines of a log, without the command's own last word."""
    return [json.loads(line) for line in log.read_text().splitlines() if not line.startswith("retinue: ")]


def test_requests_are_logged_as_text_too(store: Path, tmp_path: Path) -> None:
    """Text is the form unless told."""
    log = tmp_path / "log"
    with logging_server(store, log, "--log-level", "info") as server:
        answers = answered(server, post(TOKEN, ""))

    confined, line = log.read_text().splitlines()
    assert " retinue.serving confinement: " in confined
    date, clock, level, logger, message = line.split(" ", 4)
    found = REQUEST.fullmatch(message)
    assert ("INFO", "retinue.web", 10, 12) == (level, logger, len(date), len(clock))
    assert found is not None
    assert found["log_id"] in answers


def test_a_token_in_a_path_is_not_logged(store: Path, tmp_path: Path) -> None:
    """Only the words of the paths that are served are shown; the rest of a path may be anything."""
    client, log = create_client(store), tmp_path / "log"
    with logging_server(store, log, "--log-level", "info") as server:
        token = re.findall(r"clt\.[\w-]+", answered(server, post(TOKEN, form_of(client))))[0]
        for path in (
            f"/{token}",
            f"{FOLLOWING}{token}",
            f"{FOLLOWING}?x={token}",
            f"/v2/{token}/user",
            f"/%63{token[1:]}",
        ):
            answered(server, post(path, ""))

    text = log.read_text()
    shown = [match["path"] for match in REQUEST.finditer(text)]
    assert [TOKEN, "/...", f"{FOLLOWING}...", FOLLOWING, "/v2/...", "/..."] == shown
    assert token[1:] not in text


@pytest.mark.parametrize("target", [TOKEN, "/nowhere", FOLLOWING])
@pytest.mark.parametrize("flags", [(), ("--sandbox",)])
def test_a_client_that_hangs_up_leaves_no_traceback(
    store: Path, tmp_path: Path, target: str, flags: tuple[str]
) -> None:
    """Many requests in a row, and the connection is closed or reset before they are answered, on either port."""
    body = form_of(Client("x", "y"))
    log = tmp_path / "log"
    with logging_server(store, log, *flags) as server:
        for url in (server.base_url, server.management_url):
            address = urlsplit(url)
            for number in range(20):
                with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
                    connection.sendall(post(target, body, "Host: localhost", last=False) * 50)
                    if number % 2:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            answered(server, post("/", ""))

    assert "" == log.read_text()
