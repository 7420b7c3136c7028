"""A server with the fast path and one without give the same bytes for every request, valid or not."""

import asyncio
import re
import socket
import threading
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.protocols.http.flow_control import FlowControl

from retinue.web.limits import MAX_HEAD_BYTES, ClientTimer, Limits
from support.both_paths import ASGI, CLOSE, FAST, request, responses_to
from support.golden import golden
from support.random_requests import BODIES
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN, Service
from support.thorough import examples

_FORM = b"client_key=x&client_secret=y&grant_type=client_credentials"
WRONG_SECRET = b"POST %b HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (TOKEN.encode(), len(_FORM), _FORM)


@pytest.mark.parametrize("method", [b"POST", b"HEAD"])
def test_a_response_is_one_packet(ports: tuple[int, int], method: bytes) -> None:
    """Head and body come together, and a head without a body comes too."""
    request = b"%b %b HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n" % (method, FOLLOWING.encode())
    with socket.create_connection(("127.0.0.1", ports[ASGI]), timeout=60) as connection:
        for _ in range(100):
            connection.sendall(request)
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            length = re.search(rb"content-length: ([0-9]+)", head)
            assert length is not None
            assert (len(body) == int(length[1])) == (method == b"POST")


def allow(monkeypatch: pytest.MonkeyPatch, *, seconds: float) -> None:
    """Give all connections so much time for a request, from now on."""
    limits = Limits(connections=1, read_seconds=seconds)
    monkeypatch.setattr(ClientTimer, "_limits", property(lambda _: limits, lambda *_: None))


@pytest.mark.parametrize("target", [FOLLOWING, FOLLOWERS])
def test_the_golden_bodies_are_answered_alike(service: Service, ports: tuple[int, int], target: str) -> None:
    """Pages and refusals of the contract's exchanges."""
    entries = [*golden("same", "group"), *golden("refusals", "refusal")]
    bodies = [body for entry in entries for body in entry["bodies"]]
    bodies += [
        '{"username":"p"}',
        '{"username":"p","max_count":100}',
        '{"username":"p","as_of":1640000000}',
        " " * 70_000,
    ]
    for body in bodies:
        sent = request(service.token, body.encode(), target=target) + request(service.token, b"", CLOSE, target=target)
        answer = responses_to(ports[FAST], sent)

        assert answer.startswith(b"HTTP/1.1 ")
        assert answer == responses_to(ports[ASGI], sent)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=BODIES,
    cuts=st.lists(st.integers(1, 400), max_size=3),
    targets=st.lists(st.sampled_from([FOLLOWING, FOLLOWERS, f"{INFO}?fields=follower_count"]), min_size=1, max_size=4),
)
def test_any_body_in_any_pieces_is_answered_alike(
    service: Service, ports: tuple[int, int], body: bytes, cuts: list[int], targets: list[str]
) -> None:
    """Whole, cut anywhere, and several in a row on one connection."""
    sent = b"".join(request(service.token, body, target=target) for target in targets)
    sent += request(service.token, body, CLOSE)
    places = [0, *sorted(cuts), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(places)]

    assert responses_to(ports[FAST], *pieces) == responses_to(ports[ASGI], *pieces)


@pytest.mark.parametrize(
    "headers",
    [
        [b"Connection: close"],
        [b"Connection: keep-alive"],
        [b"Connection: Upgrade", b"Upgrade: websocket"],
        [b"Expect: 100-continue"],
        [b"Authorization: Bearer other"],
        [b"Authorization: Basic eDp5"],
        [b"X-Empty:"],
        [b"Content-Length: 3"],
        [b"Transfer-Encoding: chunked"],
    ],
    ids=str,
)
@pytest.mark.parametrize("spelling", ["{}/", "{}", "{}/?x=1", "{}?", "http://h{}/"])
def test_unusual_requests_are_answered_alike(
    service: Service, ports: tuple[int, int], headers: list[bytes], spelling: str
) -> None:
    """Headers that change how a request is read, and other spellings of the target; an ordinary request follows."""
    after = request(service.token, b'{"username":"p","max_count":1}', CLOSE)
    for path in (FOLLOWING, FOLLOWERS):
        target = spelling.format(path.rstrip("/"))
        sent = request(service.token, b'{"username":"p"}', *headers, target=target) + after

        assert responses_to(ports[FAST], sent) == responses_to(ports[ASGI], sent)


@pytest.mark.parametrize("version", [b"1.0", b"1.1", b"2.0"])
@pytest.mark.parametrize("method", [b"GET", b"PUT", b"HEAD", b"POST"])
def test_other_methods_and_versions_are_answered_alike(ports: tuple[int, int], method: bytes, version: bytes) -> None:
    """Also with garbage behind them."""
    sent = b"%b %b HTTP/%b\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}" % (method, FOLLOWING.encode(), version)

    assert responses_to(ports[FAST], sent) == responses_to(ports[ASGI], sent)
    assert responses_to(ports[FAST], sent + b"\0garbage\r\n\r\n") == responses_to(
        ports[ASGI], sent + b"\0garbage\r\n\r\n"
    )


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("is_whole", [True, False])
def test_heads_that_are_too_long_are_refused_alike(
    service: Service, ports: tuple[int, int], before: int, is_whole: bool
) -> None:
    """Whole or without an end, first on the connection or behind others, in one piece or several."""
    ordinary = request(service.token, b'{"username":"p","max_count":1}')
    head = b"POST %b HTTP/1.1\r\nX: " % FOLLOWING.encode() + b"x" * MAX_HEAD_BYTES
    head += b"\r\nContent-Length: 0\r\n\r\n" * is_whole
    sent = ordinary * before + head
    for pieces in ([sent], [sent[:100], sent[100:9000], sent[9000:]], [*[ordinary] * before, head]):
        answer = responses_to(ports[FAST], *pieces)

        assert answer == responses_to(ports[ASGI], *pieces)
        assert 1 == answer.count(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        assert answer.endswith(b'"head: longer than 32768 bytes","log_id":"*"}}')


def test_slow_clients_are_cut_off(service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Sending nothing, half a head or half a body loses the connection; complete requests keep it."""
    allow(monkeypatch, seconds=0.3)
    whole = request(service.token, b'{"username":"p"}')
    for port in ports:
        for sent in (b"", b"\r\n", b"\r\n" + whole[:20], whole[:20], whole[:-3]):
            with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
                connection.sendall(sent)
                assert b"" == connection.recv(100)
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            for _ in range(3):
                connection.sendall(whole)
                answer = b""
                while not answer.endswith(b'"}}'):
                    answer += connection.recv(65536)
                assert answer.startswith(b"HTTP/1.1 200 OK")
                time.sleep(0.4)
            connection.sendall(b"\r\n")
            assert b"" == connection.recv(100)


@pytest.mark.parametrize("is_sent", [True, False])
def test_a_clients_time_does_not_run_while_the_server_does_not_read(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, is_sent: bool
) -> None:
    """A request behind a slow one is waited for; its rest must come once reading goes on."""
    allow(monkeypatch, seconds=0.3)
    lapsed = threading.Semaphore(0)
    cut_off = ClientTimer._cut_off

    def observed(timer: ClientTimer) -> None:
        lapsed.release()
        cut_off(timer)

    monkeypatch.setattr(ClientTimer, "_cut_off", observed)
    second = request(service.token, b'{"username":"p","max_count":1}', b"Connection: close")
    for port in ports:
        times: list[bool] = []
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:

            async def pause(connection: socket.socket = connection, times: list[bool] = times) -> None:
                connection.sendall(second[:-5])
                times.append(await asyncio.to_thread(lapsed.acquire, timeout=10))
                times.append(await asyncio.to_thread(lapsed.acquire, timeout=10))
                if is_sent:
                    connection.sendall(second[-5:])

            service.pause = pause
            connection.sendall(WRONG_SECRET)
            answers = received(connection)
        while lapsed.acquire(blocking=False):
            pass

        assert [True, True] == times
        assert [b"401", b"200"][: 1 + is_sent] == re.findall(rb"HTTP/1.1 ([0-9]{3})", answers)


def test_a_clients_time_begins_again_when_the_server_reads_on(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time that was set before the pause is replaced by the whole time from then on."""
    for port in ports:
        allow(monkeypatch, seconds=3600)
        paused = threading.Event()
        with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:

            async def pause(connection: socket.socket = connection, paused: threading.Event = paused) -> None:
                monkeypatch.setattr(FlowControl, "pause_reading", observed(paused))
                connection.sendall(request(service.token, b"{}")[:-1])
                await asyncio.to_thread(paused.wait, 10)
                await asyncio.sleep(0)  # the packet is dealt with to its end
                allow(monkeypatch, seconds=0.3)

            service.pause = pause
            connection.sendall(WRONG_SECRET)

            assert [b"401"] == re.findall(rb"HTTP/1.1 ([0-9]{3})", received(connection))
        assert paused.is_set()


PAUSE_READING = FlowControl.pause_reading


def observed(paused: threading.Event) -> Callable[[FlowControl], None]:
    """Pauses reading, and tells."""

    def pause_reading(flow: FlowControl) -> None:
        PAUSE_READING(flow)
        paused.set()

    return pause_reading


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    answers = b""
    while more := connection.recv(65536):
        answers += more
    return answers
