"""Requests that come many at a time: each gets its answer, in order, and none of them costs others anything."""

import re
import socket
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from retinue.local import LocalServer
from retinue.store.open import open_store
from retinue.web.limits import Limits
from running import running_server
from support.listeners import serving
from support.served import audit, records
from support.service import TOKEN, Service

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
END = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
UPGRADE = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SMALL = b"GET / HTTP/1.1\r\n\r\n"
FORM = b"client_key=x&client_secret=y&grant_type=client_credentials"
SLOW = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (TOKEN.encode(), len(FORM), FORM)  # waits half a second


@pytest.fixture
def store(store_path: Path) -> Path:
    """An empty store."""
    open_store(str(store_path)).create()
    return store_path


def statuses(port: int, sent: bytes, *, ends: bool = False) -> list[bytes]:
    """Send, from a thread, and read to the end; the statuses of all answers."""
    with socket.create_connection(("127.0.0.1", port), timeout=120) as connection:

        def send() -> None:
            connection.sendall(sent)
            if ends:
                connection.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = bytearray()
        while data := connection.recv(65_536):
            received += data
        sender.join()
    return STATUS.findall(received)


def port_of(url: str) -> int:
    """The port in a URL."""
    return int(url.rpartition(":")[2])


def test_pipelined_upgrade_requests_are_answered(
    store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """However many come in one packet, on every listener; none leaves a traceback in the log."""
    (tmp_path / "local").mkdir()
    local = LocalServer(tmp_path / "local")
    with running_server(store) as server, local.answering():
        for url in (server.base_url, server.management_url, local.url):
            assert [b"404"] * 3001 == statuses(port_of(url), UPGRADE * 3000 + END)
    assert "" == capfd.readouterr().err


@pytest.mark.parametrize("ends", [False, True])
def test_thousands_of_pipelined_requests_are_answered_in_order(service: Service, *, ends: bool) -> None:
    """Also behind a slow one, and if the client says that it sends no more."""
    sent = SLOW + SMALL * 20_000 + (SMALL if ends else END)
    with serving(service, Limits(10)) as running:
        assert [b"401", *[b"404"] * 20_001] == statuses(running.port, sent, ends=ends)


def test_pending_pipelined_requests_use_little_memory(store: Path) -> None:
    """Pending requests stay bytes behind a slow one; other clients are answered, and every record is written."""
    with running_server(store) as server, ExitStack() as opened:
        before = server.worker_memory()
        for _ in range(20):
            connection = opened.enter_context(socket.create_connection(("127.0.0.1", port_of(server.base_url))))
            connection.setblocking(False)
            connection.send(SLOW + SMALL * 20_000)
        assert [b"404"] == statuses(port_of(server.base_url), END)
        assert server.worker_memory() - before < 120_000_000
    assert not any("lost" in record for record in records(store))
    assert 0 == audit(store, "verify")[0]


def test_a_steady_stream_of_requests_is_not_cut_off(service: Service) -> None:
    """The time limit of a request begins with its first byte."""
    half = len(SMALL) // 2
    with serving(service, Limits(10, read_seconds=0.5)) as running, running.connect() as connection:
        connection.sendall(SMALL[:half])
        for _ in range(12):
            time.sleep(0.1)
            connection.sendall(SMALL[half:] + SMALL[:half])
            assert b"404" in STATUS.findall(connection.recv(65_536))


def test_a_received_request_keeps_its_connection(service: Service) -> None:
    """A place is needed in a turn of the event loop in which the oldest idle client has asked again."""
    limits = Limits(1, idle_seconds=0)
    with serving(service, limits) as running, running.connect() as old:
        old.sendall(SMALL)
        assert [b"404"] == STATUS.findall(old.recv(65_536))
        (protocol,) = running.server.server_state.connections
        asleep = threading.Event()
        protocol.loop.call_soon_threadsafe(asleep.set)
        protocol.loop.call_soon_threadsafe(time.sleep, 0.5)
        assert asleep.wait(60)
        with running.connect() as new:  # seen first, since it comes first
            old.sendall(SMALL)

            assert [b"404"] == STATUS.findall(old.recv(65_536))
            new.sendall(END)
            assert STATUS.findall(new.recv(65_536))[0] in {b"404", b"503"}


def test_refusals_of_the_management_listener_do_not_fill_the_log(store: Path) -> None:
    """Without the token any refusal can be caused; each kind is summed up beyond a rate, and counted."""
    count = 700
    kinds = {
        b"404": b"GET /nowhere HTTP/1.1\r\n\r\n",
        b"405": b"DELETE /health HTTP/1.1\r\n\r\n",
        b"421": b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    }
    long = b"GET /" + b"/" * 20_000 + b" HTTP/1.1\r\nConnection: close\r\n\r\n"
    with running_server(store) as server:
        port = port_of(server.management_url)
        assert [b"404"] == statuses(port, long)
        for status, request in kinds.items():
            last = request[:-2] + b"Connection: close\r\n\r\n"
            assert [status] * count == statuses(port, request * (count - 1) + last)
    found = list(records(store))

    assert len(found) < 1000
    assert len(kinds) * count + 1 == sum(record.get("summed", 1) for record in found)
    assert {"DELETE /health", "GET /health"} <= {record["action"] for record in found if "summed" in record}
    assert all(len(record["action"]) < 50 for record in found)
    assert 0 == audit(store, "verify")[0]
