"""Admission: how connections are accepted, which make room, and how the surplus is refused."""

import asyncio
import json
import logging
import os
import resource
import signal
import socket
import ssl
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from retinue.key_pair import read_key_pair
from retinue.settings import Settings
from retinue.store.open import open_store
from retinue.web.admission import BATCH as ADMITTED
from retinue.web.admission import CALM_SECONDS, OVERLOADED_SECONDS, Overload
from retinue.web.eviction import BATCH, Awaited, Wait, evictable
from retinue.web.limits import Limits
from retinue.web.listener import ListenerTls, bind, public_server
from retinue.web.sockets import is_crowded, waited_seconds
from retinue.web.surplus import MAX_REFUSALS
from running import running_server
from support.listeners import Running, serving
from support.service import FOLLOWING, TOKEN, Service
from support.waiting import PATIENCE_SECONDS, waiting_for

FOREVER = 86_400.0
ASKED = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
UNKNOWN = ASKED % (b"/", 0)
PART = b"POST / HTTP/1.1\r\nHost: x\r\n"  # takes a place that is not free before the rest has come


@pytest.fixture
def certificate(tmp_path: Path) -> dict[str, Any]:
    """The TLS of a server, and of its clients."""
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(key)
    key.chmod(0o600)
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return {"tls": ListenerTls(read_key_pair(cert, key)), "context": context}


def answer(connection: socket.socket, sent: bytes = b"") -> tuple[int, dict[str, str], Any]:
    """Send; status, headers and JSON of the answer."""
    if sent:
        connection.sendall(sent)
    received = b""
    while b"\r\n\r\n" not in received:
        data = connection.recv(65_536)
        assert data, f"closed after {received!r}"
        received += data
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    while len(body) < int(headers["content-length"]) and (data := connection.recv(65_536)):
        body += data
    return int(first.split()[1]), headers, json.loads(body) if body else None


def is_closed(connection: socket.socket) -> bool:
    """Wait until the server says something; whether it was the end."""
    with suppress(ConnectionResetError):
        return connection.recv(1) == b""
    return True


def taken(running: Running, opened: ExitStack, count: int) -> None:
    """Take so many places with requests that are not whole."""
    for _ in range(count):
        opened.enter_context(running.connect()).sendall(PART)
    waiting_for(lambda: running.connections() == count)


# --- accepting ------------------------------------------------------------------------------------------------------


def unix_listener(path: Path) -> socket.socket:
    """A listener on a socket in a folder, as the server of `retinue run` has it."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(4096)
    return listener


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX])
def test_waiting_connections_are_accepted_within_few_loop_iterations(
    service: Service, tmp_path: Path, family: socket.AddressFamily
) -> None:
    """The event loop's own server accepts one connection in each turn, however long that is."""
    limits, count = Limits(4096, burst_seconds=FOREVER, idle_seconds=FOREVER), 300

    async def turns() -> int:
        listener = bind("127.0.0.1", 0) if family == socket.AF_INET else unix_listener(tmp_path / "socket")
        with ExitStack() as opened:
            for _ in range(count):
                connection = opened.enter_context(socket.socket(family))
                connection.connect(listener.getsockname())
            server = public_server(service.application, Settings(), service.fast_path, limits=limits)
            serving = asyncio.create_task(server.serve(sockets=[listener]))
            passed = 0
            while len(server.server_state.connections) < count:
                await asyncio.sleep(0)
                passed += 1
            server.should_exit = True
            await serving
        return passed

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(turns()) < count / 4


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 2)), max_size=40), st.floats(0.1, 5))
def test_timeouts_are_short_for_a_while_after_an_overload(events: list[tuple[bool, float]], burst: float) -> None:
    """For every order of events."""
    overload, now, noted = Overload(burst), 0.0, float("-inf")
    for is_overloaded, passed in events:
        now += passed
        assert overload.patience(now) == (OVERLOADED_SECONDS if now < noted + CALM_SECONDS else burst)
        if is_overloaded:
            overload.note(now)
            noted = now


def test_connections_that_waited_too_long_are_refused_and_the_first_ones_served(service: Service) -> None:
    """A server that was stopped for a while answers recent connections first."""
    limits = Limits(4096, burst_seconds=0, idle_seconds=FOREVER)
    listener = bind("127.0.0.1", 0)
    with ExitStack() as opened:
        clients = [opened.enter_context(socket.create_connection(listener.getsockname())) for _ in range(200)]
        for client in clients:
            client.settimeout(PATIENCE_SECONDS)
            client.sendall(UNKNOWN)
        waiting_for(lambda: waited_seconds(clients[-1]) > 0.05)
        with serving(service, limits, listener):
            statuses = [answer(client)[0] for client in clients]
        assert {404, 503} == set(statuses)
        assert [404] * ADMITTED == statuses[:ADMITTED]


def test_a_listener_reports_the_length_of_its_queue() -> None:
    """And an accepted connection, for how long it waited."""
    with ExitStack() as opened:
        listener = opened.enter_context(bind("127.0.0.1", 0))
        listener.listen(8)
        for _ in range(4):
            opened.enter_context(socket.create_connection(listener.getsockname()))
        assert not is_crowded(listener)
        opened.enter_context(socket.create_connection(listener.getsockname()))
        assert is_crowded(listener)
        accepted = opened.enter_context(listener.accept()[0])
        waiting_for(lambda: waited_seconds(accepted) > 0.1)


# --- refusing -------------------------------------------------------------------------------------------------------


def test_surplus_connections_are_refused_in_the_form_of_their_endpoint(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """Each refusal has its log_id, its record and its line in the log; the connection ends, and others are served."""
    caplog.set_level(logging.INFO, "retinue.web")
    with serving(service, Limits(2, read_seconds=FOREVER, stalled_seconds=FOREVER)) as running, ExitStack() as opened:
        taken(running, opened, 2)
        late = opened.enter_context(running.connect())
        enveloped = answer(late, ASKED % (FOLLOWING.encode(), 0))
        flat = answer(opened.enter_context(running.connect()), ASKED % (TOKEN.encode() + b"?x=y", 0))

        assert (503, "1", "close") == (enveloped[0], enveloped[1]["retry-after"], enveloped[1]["connection"])
        assert ({}, "internal_error") == (enveloped[2]["data"], enveloped[2]["error"]["code"])
        assert enveloped[1]["x-tt-logid"] == enveloped[2]["error"]["log_id"]
        assert (503, "temporarily_unavailable") == (flat[0], flat[2]["error"])
        assert is_closed(late)
        assert [503, 503] == [record.status for record in service.records]
        assert any(FOLLOWING in line and "status=503" in line for line in caplog.text.splitlines())
        opened.close()
        waiting_for(lambda: running.connections() == 0)
        assert 404 == answer(opened.enter_context(running.connect()), UNKNOWN)[0]


@pytest.mark.parametrize(
    "sent",
    [
        [b"POST /v2/oau", b"th/token/ HTTP/1.1\r\nHost: x\r\n", b"Content-Length: 10\r\n\r\n"],
        [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"],
        [b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
        [b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n" + bytes(300_000)],
        [b"nonsense\r\n\r\n"],
        [],
    ],
)
def test_surplus_connections_are_refused_for_any_request(service: Service, sent: list[bytes]) -> None:
    """Also in parts, without HTTP, with a long body, or nothing at all."""
    limits = Limits(1, read_seconds=FOREVER, stalled_seconds=FOREVER, linger_seconds=1)
    with serving(service, limits) as running, ExitStack() as opened:
        taken(running, opened, 1)
        late = opened.enter_context(running.connect())
        for part in sent:
            with suppress(ConnectionError):
                late.sendall(part)
        status, headers, body = answer(late)

        assert (503, "1") == (status, headers["retry-after"])
        assert headers["x-tt-logid"] == (body["error"]["log_id"] if "data" in body else body["log_id"])


def test_a_refusal_of_a_head_request_has_no_body(service: Service) -> None:
    """Its length is announced all the same."""
    with serving(service, Limits(1, read_seconds=FOREVER, stalled_seconds=FOREVER)) as running, ExitStack() as opened:
        taken(running, opened, 1)
        late = opened.enter_context(running.connect())
        late.sendall(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        received = b""
        while data := late.recv(65_536):
            received += data
        assert received.startswith(b"HTTP/1.1 503")
        assert received.endswith(b"\r\n\r\n")


def test_silent_surplus_connections_hold_few_descriptors(service: Service) -> None:
    """The oldest is refused for another one, so that it never waits in vain."""
    limits = Limits(1, read_seconds=FOREVER, stalled_seconds=FOREVER, linger_seconds=FOREVER, burst_seconds=FOREVER)
    with serving(service, limits) as running, ExitStack() as opened:
        taken(running, opened, 1)
        silent = [opened.enter_context(running.connect()) for _ in range(MAX_REFUSALS + 1)]
        assert 503 == answer(silent[0])[0]
        assert 503 == answer(silent[-1], UNKNOWN)[0]


def test_all_requests_are_answered_while_a_worker_is_stopped(store_path: Path) -> None:
    """The other one serves as many as it has places for, and refuses the surplus; later both serve again."""
    open_store(str(store_path)).create()
    with running_server(store_path, "--workers", "2", "--max-connections", "2") as server, ExitStack() as opened:
        address = ("127.0.0.1", int(server.base_url.rpartition(":")[2]))

        def connected() -> socket.socket:
            return opened.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS))

        def is_refused_beyond_the_places() -> bool:
            opened.close()
            for _ in range(2):
                connected().sendall(PART)
            return answer(connected(), UNKNOWN)[0] == 503

        stopped = server.workers()[0]
        os.kill(stopped, signal.SIGSTOP)
        try:
            assert 404 == answer(connected(), UNKNOWN)[0]
            waiting_for(is_refused_beyond_the_places)
        finally:
            os.kill(stopped, signal.SIGCONT)
        waiting_for(lambda: answer(connected(), UNKNOWN)[0] == 404)


def test_a_full_worker_leaves_connections_to_the_others(service: Service) -> None:
    """It pauses before it refuses what waits on a listener that others share."""
    full, free = Limits(1, read_seconds=FOREVER, stalled_seconds=FOREVER), Limits(500, idle_seconds=FOREVER)
    listener = bind("127.0.0.1", 0)
    with serving(service, full, listener, workers=2) as running, ExitStack() as opened:
        taken(running, opened, 1)
        shared = socket.socket(fileno=os.dup(listener.fileno()))
        with serving(service, free, shared, workers=2) as other:
            waiting_for(lambda: answer(opened.enter_context(running.connect()), UNKNOWN)[0] == 404)
            assert other.connections() > 0


# --- making room ----------------------------------------------------------------------------------------------------


def test_silent_connections_make_room_for_new_ones(service: Service) -> None:
    """Those that never asked go first, then the longest idle; a request that is being answered is never ended."""
    with serving(service, Limits(3, idle_seconds=0, stalled_seconds=FOREVER)) as running, ExitStack() as opened:
        old, older, stranger = (opened.enter_context(running.connect()) for _ in range(3))
        for client in (older, old):
            assert 404 == answer(client, UNKNOWN)[0]
            time.sleep(0.05)  # the event loop's clock tells milliseconds apart
        waiting_for(lambda: running.connections() == 3)

        new = opened.enter_context(running.connect())
        assert 404 == answer(new, UNKNOWN)[0]
        assert is_closed(stranger)
        newest = opened.enter_context(running.connect())
        assert 404 == answer(newest, UNKNOWN)[0]
        assert is_closed(older)
        for client in (old, new, newest):
            assert 404 == answer(client, UNKNOWN)[0]


@dataclass(frozen=True)
class Place:
    """A connection that waits, or is being answered."""

    waiting: Wait | None
    transport: None = None

    def wait(self) -> Wait | None:
        """Return what the server waits for."""
        return self.waiting


WAITS = st.none() | st.builds(Wait, st.sampled_from(Awaited), st.floats(0, 100))


@given(st.lists(st.builds(Place, WAITS), max_size=60), st.integers(1, 200), st.floats(0, 100), st.floats(0, 100))
def test_the_least_useful_connections_are_closed_first(
    places: list[Place], limit: int, idle: float, stalled: float
) -> None:
    """For every set: none that is answered or new, few at once, in the order of what they wait for and since when."""
    waited_since = {Awaited.FIRST_REQUEST: idle, Awaited.NEXT_REQUEST: idle, Awaited.REST: stalled}
    closed = evictable(places, limit, waited_since)

    allowed = [wait for place in places if (wait := place.waiting) and wait.since <= waited_since[wait.awaited]]
    expected = sorted((wait.awaited, wait.since) for wait in allowed)[: max(1, limit // BATCH)]
    assert expected == [(place.waiting.awaited, place.waiting.since) for place in closed if place.waiting]
    assert len(expected) == len(closed)


def test_a_client_that_never_reads_is_disconnected(service: Service) -> None:
    """It has as long as the send deadline, and holds its place for no longer."""
    service.follow("p", *((f"f{n}", 1_600_000_000 + n) for n in range(100)))
    body = b'{"username":"p","max_count":100}'
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    asked = (head % (FOLLOWING.encode(), service.token.encode(), len(body)) + body) * 100
    limits = Limits(10, send_seconds=0.2, idle_seconds=FOREVER, stalled_seconds=FOREVER, read_seconds=FOREVER)
    with serving(service, limits) as running, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(PATIENCE_SECONDS)
        client.connect(("127.0.0.1", running.port))

        def is_gone() -> bool:
            try:
                client.setblocking(False)
                client.send(asked)
            except BlockingIOError:
                return running.connections() == 0
            except ConnectionError:
                return True
            return False

        waiting_for(is_gone)
        waiting_for(lambda: running.connections() == 0)


# --- TLS ------------------------------------------------------------------------------------------------------------


def test_an_unfinished_handshake_has_a_deadline(service: Service, certificate: dict[str, Any]) -> None:
    """A connection over which nothing is sent ends, and served ones stay."""
    limits = Limits(10, handshake_seconds=0.5, idle_seconds=FOREVER)
    with serving(service, limits, **certificate) as running, ExitStack() as opened:
        silent = opened.enter_context(running.connect())
        assert is_closed(silent)


def test_unfinished_handshakes_are_limited(service: Service, certificate: dict[str, Any]) -> None:
    """The oldest ends for another one, and clients that finish theirs are served."""
    limits = Limits(10, handshakes=3, handshake_seconds=FOREVER, idle_seconds=FOREVER)
    with serving(service, limits, **certificate) as running, ExitStack() as opened:
        silent = [opened.enter_context(running.connect()) for _ in range(4)]
        assert is_closed(silent[0])
        client = opened.enter_context(running.connect_securely())
        assert 404 == answer(client, UNKNOWN)[0]
        assert is_closed(silent[1])
        silent[3].settimeout(0)
        with pytest.raises(BlockingIOError):
            silent[3].recv(1)


def test_unfinished_handshakes_make_room(service: Service, certificate: dict[str, Any]) -> None:
    """They wait for a client as idle connections do, and no longer than these."""
    limits = Limits(2, handshake_seconds=FOREVER, idle_seconds=0)
    with serving(service, limits, **certificate) as running, ExitStack() as opened:
        silent = [opened.enter_context(running.connect()) for _ in range(2)]
        client = opened.enter_context(running.connect_securely())
        assert 404 == answer(client, UNKNOWN)[0]
        assert is_closed(silent[0])


def test_surplus_connections_are_refused_over_tls(service: Service, certificate: dict[str, Any]) -> None:
    """After a handshake, in the same form."""
    limits = Limits(1, read_seconds=FOREVER, stalled_seconds=FOREVER)
    with serving(service, limits, **certificate) as running, ExitStack() as opened:
        opened.enter_context(running.connect_securely()).sendall(PART)
        waiting_for(lambda: running.connections() == 1)
        status, headers, body = answer(opened.enter_context(running.connect_securely()), UNKNOWN)
        assert (503, "1", "close") == (status, headers["retry-after"], headers["connection"])
        assert "internal_error" == body["error"]["code"]


# --- descriptors ----------------------------------------------------------------------------------------------------


def test_a_process_without_file_descriptors_still_answers(store_path: Path) -> None:
    """It refuses with one that it kept for that, even late requests, and serves again afterwards."""
    open_store(str(store_path)).create()
    with running_server(store_path) as server, ExitStack() as opened:
        (worker,) = server.workers()
        address = ("127.0.0.1", int(server.base_url.rpartition(":")[2]))
        with socket.create_connection(address) as first:  # until then the worker opens files of its own
            assert 404 == answer(first, UNKNOWN)[0]
        files = max(int(each.name) for each in Path(f"/proc/{worker}/fd").iterdir()) + 1
        _, hard = resource.prlimit(worker, resource.RLIMIT_NOFILE)
        resource.prlimit(worker, resource.RLIMIT_NOFILE, (files + 5, hard))
        busy = [opened.enter_context(socket.create_connection(address, timeout=PATIENCE_SECONDS)) for _ in range(30)]
        waiting_for(Path(f"/proc/{worker}/fd/{files + 4}").is_symlink)
        time.sleep(0.1)  # the first one that is refused has sent nothing until then
        for connection in busy:
            connection.sendall(ASKED % (b"/", 0))
        statuses = [answer(connection)[0] for connection in busy]
        assert {404, 503} == set(statuses)
        opened.close()
        waiting_for(lambda: answer(opened.enter_context(socket.create_connection(address)), UNKNOWN)[0] == 404)
