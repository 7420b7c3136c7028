"""Every listener holds to the same limits and says the same of a request that it cannot read."""

import http.client
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import Struct

from retinue.local import LocalServer
from retinue.store.open import open_store
from retinue.web.limits import MAX_HEAD_BYTES
from retinue.web.management import MAX_EVENTS_BYTES
from retinue.wire.parsing import MAX_BODY_BYTES
from running import Server, running_server
from support.listeners import rest_of
from support.served import records
from support.service import FOLLOWING, TOKEN

LISTENERS = ("public", "sandbox", "management", "fixture")
STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
LOG_ID = re.compile(rb"x-tt-logid: (\S+)")


class Listeners(Struct):
    """One address of each kind of listener, and the server whose management listener it is."""

    urls: dict[str, str]
    server: Server
    store: Path

    def connect(self, listener: str) -> socket.socket:
        """Return a bare connection."""
        address = urlsplit(self.urls[listener])
        return socket.create_connection((address.hostname or "", address.port or 0), timeout=60)


@pytest.fixture(scope="module")
def listeners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Listeners]:
    """A server, a sandbox, and a server inside the test's own process."""
    folder = tmp_path_factory.mktemp("listeners")
    stores = [folder / f"{name}.db" for name in ("graph", "sandbox")]
    for store in stores:
        open_store(str(store)).create()
    (folder / "fixture").mkdir()
    local = LocalServer(folder / "fixture")
    with running_server(stores[0]) as server, running_server(stores[1], "--sandbox") as sandbox, local.answering():
        urls = {
            "public": server.base_url,
            "sandbox": sandbox.base_url,
            "management": server.management_url,
            "fixture": local.url,
        }
        yield Listeners(urls, server, stores[0])


def error_of(received: bytes) -> tuple[int, str, str]:
    """Return status, code and message of a refusal in JSON."""
    head, _, content = received.partition(b"\r\n\r\n")
    status, error = STATUS.match(head), json.loads(content)["error"]
    assert status
    assert LOG_ID.search(head)
    assert b"content-type: application/json" in head
    return int(status[1]), error["code"], error["message"]


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize(
    "sent",
    [b"nonsense\r\n\r\n", b"\0", b"CONNECT x:1 HTTP/1.1\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"],
)
def test_bytes_that_are_not_http_are_refused_in_json(listeners: Listeners, listener: str, sent: bytes) -> None:
    """With a log_id, on every listener."""
    with listeners.connect(listener) as connection:
        connection.sendall(sent)

        assert (400, "invalid_params", "The bytes received are not a valid HTTP request.") == error_of(
            rest_of(connection)
        )


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("start", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"])
def test_the_refusal_arrives_while_the_client_is_sending(listeners: Listeners, listener: str, start: bytes) -> None:
    """A connection that is closed while the client sends would be reset, and the answer be lost."""
    with listeners.connect(listener) as connection:
        connection.sendall(start + b"x" * 3_000_000)
        received = rest_of(connection)

    assert b"400" == STATUS.findall(received)[-1]
    assert received.endswith(b"}}")
    assert b"The bytes received are not a valid HTTP request." in received


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("end", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n"])
def test_requests_before_bytes_that_are_not_http_are_answered(listeners: Listeners, listener: str, end: bytes) -> None:
    """In order, those that wait behind a slow one too; then comes the refusal."""
    form = b"client_key=x&client_secret=y&grant_type=client_credentials"
    slow = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (TOKEN.encode(), len(form), form)
    quick = b"POST /nowhere HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    with listeners.connect(listener) as connection:
        connection.sendall(slow + quick + slow + end)
        statuses = STATUS.findall(rest_of(connection))

    first = b"404" if listener == "management" else b"401"
    assert [first, b"404", first, b"400"] == statuses


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("start", [b"POST / HTTP/1.1\r\nX: ", b"POST /", b"POST / HTTP/1.1\r\n"])
def test_a_head_that_never_ends_is_refused(listeners: Listeners, listener: str, start: bytes) -> None:
    """As soon as it is too long, and the refusal is read although more is on its way."""
    with listeners.connect(listener) as connection:
        connection.sendall(start + b"x" * 3_000_000)

        assert (431, "invalid_params", f"head: longer than {MAX_HEAD_BYTES} bytes") == error_of(rest_of(connection))


def test_a_head_that_never_ends_costs_no_memory(listeners: Listeners) -> None:
    """The coordinator drops what it does not read."""
    before = listeners.server.memory()
    for _ in range(3):
        with listeners.connect("management") as connection, suppress(ConnectionError):
            connection.sendall(b"POST /events HTTP/1.1\r\nX: ")
            for _ in range(50):
                connection.sendall(b"x" * 1_000_000)

    assert listeners.server.memory() - before < 30_000_000


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_that_is_too_long_is_refused_without_a_reset(
    listeners: Listeners, listener: str, *, is_chunked: bool
) -> None:
    """The client sends all of it before it reads, and still reads a whole answer; then the connection goes on."""
    limit = MAX_EVENTS_BYTES if listener == "management" else MAX_BODY_BYTES
    target = "/events" if listener == "management" else TOKEN
    body = b" " * (limit + 1)
    length = b"Transfer-Encoding: chunked" if is_chunked else b"Content-Length: %d" % len(body)
    token = listeners.store.with_suffix(".management-token").read_bytes().strip()
    head = b"POST %b HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n%b\r\n\r\n"
    last = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with listeners.connect(listener) as connection:
        connection.sendall(head % (target.encode(), token, length))
        connection.sendall(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if is_chunked else body)
        connection.sendall(last)
        answers = rest_of(connection)

    assert [b"413", b"404"] == STATUS.findall(answers)
    assert str(limit).encode() in answers


@pytest.mark.parametrize("listener", LISTENERS)
@pytest.mark.parametrize("name", ["Host", "Authorization"])
def test_a_repeated_header_is_refused(listeners: Listeners, listener: str, name: str) -> None:
    """A proxy may have read the other value; the refusal names the header."""
    for target in ("/nowhere", TOKEN, FOLLOWING, "/events", "/health"):
        head = f"POST {target} HTTP/1.1\r\n{name}: localhost\r\nX: y\r\n{name.lower()}: localhost\r\n"
        with listeners.connect(listener) as connection:
            connection.sendall(f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            received = rest_of(connection)

        if target == TOKEN and listener != "management":
            answer = json.loads(received.partition(b"\r\n\r\n")[2])
            assert ("invalid_request", f"header {name}: given more than once") == (
                answer["error"],
                answer["error_description"],
            )
            assert [b"400"] == STATUS.findall(received)
        else:
            assert (400, "invalid_params", f"header {name}: given more than once") == error_of(received)


@pytest.mark.parametrize("listener", LISTENERS)
def test_an_options_request_for_the_whole_server_is_answered(listeners: Listeners, listener: str) -> None:
    """`OPTIONS *` asks for no path."""
    with listeners.connect(listener) as connection:
        connection.sendall(b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")

        assert (404, "unsupported_path") == error_of(rest_of(connection))[:2]


def test_a_slow_client_is_cut_off(listeners: Listeners) -> None:
    """Half a head, half a body, or nothing, on any listener: the connection ends when the time for it is over."""
    body = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf"
    with ExitStack() as opened:
        connections = [opened.enter_context(listeners.connect(listener)) for listener in LISTENERS for _ in range(3)]
        for connection, sent in zip(connections, (b"", b"POST / HTTP/1.1\r\nX: half", body) * 4, strict=True):
            connection.settimeout(120)
            connection.sendall(sent)

        assert [[], [], [b"404"]] * 4 == [STATUS.findall(rest_of(connection)) for connection in connections]


def test_a_flooded_management_port_does_not_starve_others(listeners: Listeners) -> None:
    """Idle connections and endless heads on it: health, the audit log and the public port go on."""
    stop = threading.Event()

    def flood() -> None:
        while not stop.is_set():
            with listeners.connect("management") as connection, suppress(ConnectionError):
                connection.sendall(b"POST /events HTTP/1.1\r\nX: ")
                while not stop.is_set():
                    connection.sendall(b"x" * 1_000_000)

    floods = [threading.Thread(target=flood) for _ in range(4)]
    with ExitStack() as idle:
        for _ in range(330):
            idle.enter_context(listeners.connect("management"))
        for thread in floods:
            thread.start()
        try:
            health = [status_of(listeners.urls["management"], "GET", "/health") for _ in range(5)]
            public = [status_of(listeners.urls["public"], "POST", "/nowhere") for _ in range(300)]
        finally:
            stop.set()
            for thread in floods:
                thread.join()

    assert ({200}, {404}) == (set(health), set(public))


def status_of(url: str, method: str, path: str) -> int:
    """Return the status of one answer, on a connection of its own."""
    with closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)) as connection:
        connection.request(method, path)
        return connection.getresponse().status


def test_unread_requests_on_the_management_port_are_recorded(store_path: Path) -> None:
    """Also those that are no requests, and not what monitoring reads."""
    open_store(str(store_path)).create()
    sent = {
        "- -": b"nonsense\r\n\r\n",
        "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /...": b"GET /clt.secret HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /health": b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        "PUT /faults": b"PUT /faults HTTP/1.1\r\nHost: x\r\nHost: y\r\nConnection: close\r\n\r\n",
        "": b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n",
    }
    with running_server(store_path) as server:
        answers = []
        for request in sent.values():
            address = urlsplit(server.management_url)
            with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
                connection.sendall(request)
                answers.append(rest_of(connection))
    found = [record for record in records(store_path) if record["endpoint"] == "management"]

    assert [400, 404, 404, 421, 400] == [record["status"] for record in found]
    assert [action for action in sent if action] == [record["action"] for record in found]
    assert [LOG_ID.findall(answer)[0].decode() for answer in answers[:-1]] == [record["log_id"] for record in found]
    assert not any("secret" in json.dumps(record) for record in found)
