"""The fast path and the ASGI path give the same bytes."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from retinue.audit.record import AuditRecord
from retinue.model import Direction, RateLimit, Visibility
from retinue.web import fast_path
from retinue.web.protocol import Protocol
from running import running_server
from support.both_paths import (
    ASGI,
    CHANGING,
    CLOSE,
    FAST,
    PLAIN,
    read_response,
    request,
    response_to,
    responses_after_shutdown,
    responses_to,
)
from support.golden import golden
from support.random_requests import BODIES
from support.service import FOLLOWERS, FOLLOWING, Service
from support.thorough import examples

EARLY = 1_600_000_000


def test_ordinary_requests_really_go_the_fast_path(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second request with a head on, from any connection, nothing is parsed; all is recorded and counted."""
    parsed: list[Any] = []
    with socket.create_connection(("127.0.0.1", ports[FAST]), timeout=60) as connection:
        connection.sendall(request(service.token, PLAIN))
        first = read_response(connection)
        learned = dict(service.fast_path.heads)
        monkeypatch.setattr(Protocol, "on_message_begin", parsed.append)
        connection.sendall(request(service.token, PLAIN))
        second = read_response(connection)
    with socket.create_connection(("127.0.0.1", ports[FAST]), timeout=60) as connection:
        connection.sendall(request(service.token, PLAIN))
        third = read_response(connection)

    assert 1 == len(learned)
    assert [] == parsed
    rows = [json.loads(answer.partition(b"\r\n\r\n")[2])["data"] for answer in (first, second, third)]
    assert rows[0] == rows[1] == rows[2]
    changing = {"time": 0, "log_id": "", "microseconds": 0}
    records = [structs.replace(record, **changing) for record in service.records[-3:]]
    assert records[0] == records[1] == records[2]
    left = [answer.partition(b"ratelimit-remaining: ")[2].partition(b"\r\n")[0] for answer in (first, second, third)]
    assert [b"19999", b"19998", b"19997"] == left


def make_known(service: Service, port: int, body: bytes, target: str = FOLLOWING) -> None:
    """Get a page with the head of a request with this body, unless the body is too short."""
    plain = PLAIN + b" " * (len(body) - len(PLAIN))
    if len(plain) == len(body):
        response_to(port, request(service.token, plain, target=target))


@pytest.mark.parametrize("target", [FOLLOWING, FOLLOWERS])
def test_the_golden_bodies_are_answered_alike(service: Service, ports: tuple[int, int], target: str) -> None:
    """Pages and refusals of the contract's exchanges, behind heads that are known."""
    entries = [*golden("same", "group"), *golden("refusals", "refusal")]
    bodies = [body for entry in entries for body in entry["bodies"]]
    bodies += [
        '{"username":"p","max_count":100}',
        '{"username":"p","as_of":1640000000}',
        '{"username":"P","cursor":null}',
    ]
    for body in bodies:
        sent = request(service.token, body.encode(), target=target)
        make_known(service, ports[FAST], body.encode(), target)

        assert response_to(ports[FAST], sent) == response_to(ports[ASGI], sent)


@settings(max_examples=examples(150), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=BODIES,
    cuts=st.lists(st.integers(1, 600), max_size=3),
    targets=st.lists(st.sampled_from([FOLLOWING, FOLLOWERS]), min_size=1, max_size=4),
)
def test_any_body_in_any_pieces_is_answered_alike(
    service: Service, ports: tuple[int, int], body: bytes, cuts: list[int], targets: list[str]
) -> None:
    """Alone, cut anywhere, and several in a row, behind heads that are known."""
    for target in targets:
        make_known(service, ports[FAST], body, target)
        alone = request(service.token, body, target=target)
        assert response_to(ports[FAST], alone) == response_to(ports[ASGI], alone)
    sent = b"".join(request(service.token, body, target=target) for target in targets)
    sent += request(service.token, body, CLOSE)
    places = [0, *sorted(cuts), len(sent)]
    pieces = [sent[start:end] for start, end in pairwise(places)]

    assert responses_to(ports[FAST], *pieces) == responses_to(ports[ASGI], *pieces)


def test_a_head_is_remembered_only_where_it_says_all(service: Service, ports: tuple[int, int]) -> None:
    """Not without one length, not where the request was refused, not without end, and never too many."""
    chunked = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nTransfer-Encoding: chunked\r\n\r\n" % (
        FOLLOWING.encode(),
        service.token.encode(),
    )
    response_to(ports[FAST], chunked + b"10\r\n" + PLAIN + b"\r\n0\r\n\r\n")
    response_to(ports[FAST], request("wrong", PLAIN))
    response_to(ports[FAST], request(service.token, PLAIN, CLOSE))
    response_to(ports[FAST], request(service.token, PLAIN, b"X: " + b"x" * fast_path.MAX_HEAD_BYTES))
    assert [] == [head for head, cached in service.fast_path.heads.items() if cached is not None]

    service.fast_path.heads.update(
        {b"%d" % n: fast_path.Head(Direction.FOLLOWING, "", b"", (), 0) for n in range(fast_path.MAX_HEADS)}
    )
    response_to(ports[FAST], request(service.token, PLAIN))
    assert 1 == len(service.fast_path.heads)


def test_heads_that_never_repeat_take_the_fast_path(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Request ids and trace headers differ each time; the first request alone is parsed."""
    parsed: list[Any] = []
    with socket.create_connection(("127.0.0.1", ports[FAST]), timeout=60) as connection:
        for number in range(4):
            lines = (b"X-Request-Id: %d" % number, b"User-Agent: a/%d" % number, b"traceparent: 00-%032x-01" % number)
            connection.sendall(request(service.token, PLAIN, *lines))
            assert read_response(connection).startswith(b"HTTP/1.1 200 OK")
            monkeypatch.setattr(Protocol, "on_message_begin", parsed.append)

    assert [] == parsed


IGNORED = [b"X-Request-Id", b"traceparent", b"Content-Type", b"Accept", b"Cookie", b"TE", b"Keep-Alive", b"X_Y"]
HEEDED = [b"Authorization", b"host", b"Content-Length", b"CONTENT-LENGTH ", b"Transfer-Encoding", b"Connection"]
HEEDED += [b"Proxy-Connection", b"Expect", b"Upgrade", b"X-Forwarded-For", b"", b" ", b"X\0"]
SAID = [b"", b"1", b"16", b"close", b"upgrade", b"chunked", b"100-continue", b"x", b"a\tb", b"\xff", b"a\r\n b"]
LINES = st.builds(
    lambda *parts: b"".join(parts),
    st.one_of(st.sampled_from(IGNORED), st.sampled_from(HEEDED), st.binary(max_size=6)),
    st.sampled_from([b":", b": "]),
    st.one_of(st.sampled_from(SAID), st.binary(max_size=8)),
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=st.lists(LINES, min_size=1, max_size=3))
def test_any_header_beside_a_cached_head_is_answered_alike(
    service: Service, ports: tuple[int, int], lines: list[bytes]
) -> None:
    """Header lines of any name and value, well-formed or not, are never ignored if the ASGI path heeds them."""
    make_known(service, ports[FAST], PLAIN)
    sent = request(service.token, PLAIN, *lines)

    assert responses_after_shutdown(ports[FAST], sent) == responses_after_shutdown(ports[ASGI], sent)


def test_revoked_access_ends_fast_responses(service: Service, ports: tuple[int, int]) -> None:
    """A revoked client is refused behind a head that is known within a second, as on any other way."""
    with socket.create_connection(("127.0.0.1", ports[FAST]), timeout=60) as connection:
        for _ in range(3):
            connection.sendall(request(service.token, PLAIN))
            assert read_response(connection).startswith(b"HTTP/1.1 200 OK")
        asyncio.run(service.clients.revoke(service.client_key))
        service.clock.advance(1)
        connection.sendall(request(service.token, PLAIN))
        assert read_response(connection).startswith(b"HTTP/1.1 401 ")


def test_an_empty_page_is_refused_too_where_no_row_is_left(service: Service, ports: tuple[int, int]) -> None:
    """Behind a head that is known, as on any other way; and costs no call."""
    service.client_key, service.secret = service.register(list_rows=2)
    service.token = service.fresh_token()
    service.add_account("q")
    service.follow("p", ("a", EARLY), ("b", EARLY + 1))
    full = request(service.token, b'{"username":"p","max_count":2}')
    empty = request(service.token, b'{"username":"q","max_count":2}')

    assert response_to(ports[FAST], full).startswith(b"HTTP/1.1 200 ")
    assert response_to(ports[FAST], empty) == response_to(ports[ASGI], empty)
    assert service.records[-1].code == "daily_quota_limit_exceeded"
    assert [200, 429, 429] == [record.status for record in service.records[-3:]]


REFUSED = {
    "unknown": b'{"username":"nobody"}',
    "unknown, at a cursor": b'{"username":"@Nobody","cursor":1640000000}',
    "unknown, at a later cursor": b'{"username":"nobody","cursor":1900000000}',
    "private": b'{"username":"private"}',
    "withheld": b'{"username":"withheld"}',
}
QUOTAS: dict[str, dict[str, Any]] = {
    "calls": {"list_calls": 1},
    "rows": {"list_rows": 20},
    "rate": {"list_calls": 9, "rate": RateLimit(1, 30)},
}


def refusal_of(service: Service, port: int, body: bytes) -> tuple[bytes, AuditRecord]:
    """Return the response to a body and its record, without what changes from answer to answer."""
    answer = response_to(port, request(service.token, body))
    changing = {"time": 0, "log_id": "", "microseconds": 0}
    return answer, structs.replace(service.records[-1], **changing)


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_accounts_take_the_fast_path(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Response and record equal those of the ASGI path, although nothing is parsed."""
    service.add_account("private", visibility=Visibility.PRIVATE)
    service.add_account("withheld", visibility=Visibility.WITHHELD)
    expected = refusal_of(service, ports[ASGI], REFUSED[kind])
    refusal_of(service, ports[FAST], REFUSED[kind])  # caches the head
    monkeypatch.setattr(Protocol, "on_message_begin", lambda _: pytest.fail("parsed"))

    assert expected == refusal_of(service, ports[FAST], REFUSED[kind])
    assert expected[0].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("limits", QUOTAS)
@pytest.mark.parametrize("body", [b'{"username":"p"}', b'{"username":"nobody"}'])
def test_spent_quotas_are_refused_on_the_fast_path(
    service: Service, ports: tuple[int, int], monkeypatch: pytest.MonkeyPatch, limits: str, body: bytes
) -> None:
    """A spent quota is refused before the account is looked up, with the same response and record on both paths."""
    service.client_key, service.secret = service.register(**QUOTAS[limits])
    service.token = service.fresh_token()
    response_to(ports[FAST], request(service.token, PLAIN))
    expected = refusal_of(service, ports[ASGI], body)
    refusal_of(service, ports[FAST], body)  # caches the head
    monkeypatch.setattr(Protocol, "on_message_begin", lambda _: pytest.fail("parsed"))

    assert expected == refusal_of(service, ports[FAST], body)
    assert expected[0].startswith(b"HTTP/1.1 429 ")
    assert (None, "") == (expected[1].account, expected[1].name)


def test_an_account_in_an_unreadable_store_is_not_unknown(service: Service, ports: tuple[int, int]) -> None:
    """Both paths answer that the service is unavailable."""
    make_known(service, ports[FAST], PLAIN)
    service.sqlite_connection.close()

    answer = response_to(ports[FAST], request(service.token, b'{"username":"q"}'))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert answer == response_to(ports[ASGI], request(service.token, b'{"username":"q"}'))


@pytest.fixture
def running(service: Service) -> Iterator[int]:
    """The port of a server as it really runs, on the service's store."""
    with running_server(Path(service.store)) as server:
        port = urlsplit(server.base_url).port
        assert port is not None
        response_to(port, request(service.token, PLAIN))
        yield port


def test_half_closed_connections_get_their_response(service: Service, running: int) -> None:
    """Clients that send a request and close their sending half in one go, some at the same time."""
    service.follow("p", ("f", EARLY))
    sent = request(service.token, PLAIN)
    expected = response_to(running, sent)
    for _ in range(20):
        with ExitStack() as opened:
            clients = [opened.enter_context(socket.create_connection(("127.0.0.1", running), 10)) for _ in range(8)]
            for client in clients:
                client.sendall(sent)
                client.shutdown(socket.SHUT_WR)
            assert [expected] * 8 == [CHANGING.sub(b"*", read_response(client)) for client in clients]


def test_a_closed_connection_takes_no_response_of_others(service: Service, running: int) -> None:
    """Clients that break off right after asking do not hold up those that asked at the same time."""
    service.follow("p", ("f", EARLY))
    sent = request(service.token, PLAIN)
    expected = response_to(running, sent)
    for _ in range(30):
        with ExitStack() as opened:
            leaving, staying = (
                [opened.enter_context(socket.create_connection(("127.0.0.1", running), 10)) for _ in range(8)]
                for _ in range(2)
            )
            for one, other in zip(leaving, staying, strict=True):
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.sendall(sent)
                other.sendall(sent)
                one.close()
            assert [expected] * 8 == [CHANGING.sub(b"*", read_response(client)) for client in staying]
