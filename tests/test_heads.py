"""How long a request's head may be, over real connections to a running server."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from retinue.store.open import open_store
from retinue.web.limits import MAX_HEAD_BYTES
from running import Server, fresh_token, running_server
from support.listeners import rest_of
from support.service import FOLLOWERS, FOLLOWING, INFO, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, str]]:
    """A server with one worker on an empty store, and a token."""
    store: Path = tmp_path_factory.mktemp("heads") / "graph.db"
    open_store(str(store)).create()
    with running_server(store) as server:
        yield server, fresh_token(server, store)


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    """A bare connection on which nothing is held back."""
    address = urlsplit(server.base_url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def ordinary(token: str, body: bytes = b'{"username":"p"}') -> bytes:
    """Return a request for an unknown user."""
    head = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def with_head_of(length: int, target: str, *, in_target: bool = False) -> bytes:
    """A request with a head of that length, all of it in one header or in the request line."""
    form = f"POST {target}%s HTTP/1.1\r\nConnection: keep-alive\r\nContent-Length: 0\r\nX: %s\r\n\r\n"
    filling = "x" * (length - len(form) + 4)
    return (form % (("?" + filling[1:], "") if in_target else ("", filling))).encode()


def is_refusal(received: bytes) -> bool:
    """Whether all that was received is one refusal for the length of the head, in our form."""
    head, _, content = received.partition(b"\r\n\r\n")
    error: dict[str, Any] = json.loads(content)["error"]
    return (
        head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")
        and b"connection: close" in head
        and f"x-tt-logid: {error['log_id']}".encode() in head
        and {} == json.loads(content)["data"]
        and ("invalid_params", "head: longer than 32768 bytes") == (error["code"], error["message"])
    )


@pytest.mark.parametrize("target", [FOLLOWING, FOLLOWERS, INFO, TOKEN, "/nowhere"])
@pytest.mark.parametrize("in_target", [True, False])
def test_the_limit_of_a_head_is_exact(served: tuple[Server, str], target: str, *, in_target: bool) -> None:
    """A head of the greatest length is answered as usual and the connection stays; one byte more is too much."""
    fits = with_head_of(MAX_HEAD_BYTES, target, in_target=in_target)
    too_long = with_head_of(MAX_HEAD_BYTES + 1, target, in_target=in_target)
    for pieces in ([fits, too_long], [fits[:-9], fits[-9:], too_long[:-9], too_long[-9:]], [fits + too_long]):
        with connected(served[0]) as connection:
            for piece in pieces:
                connection.sendall(piece)
            first, second = rest_of(connection).split(b"HTTP/1.1 ")[1:]

        assert first[:3] in {b"400", b"401", b"404"}
        assert is_refusal(b"HTTP/1.1 " + second)


@pytest.mark.parametrize(
    ("start", "filling"),
    [
        (b"POST /", b"x"),
        (b"POST /?", b"x=1&"),
        (b"POST / HTTP/1.1\r\n", b"x"),
        (b"POST / HTTP/1.1\r\n", b"x:y\r\n"),
        (b"POST / HTTP/1.1\r\nX: ", b"x"),
        (b"POST / HTTP/1.1\r\nX: ", b" "),
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_an_endless_head_is_refused(
    served: tuple[Server, str], start: bytes, filling: bytes, *, is_first: bool
) -> None:
    """As soon as it is too long, wherever it does not end; also on a connection that has been used."""
    piece = filling * (1000 // len(filling))
    with connected(served[0]) as connection:
        if not is_first:
            connection.sendall(ordinary(served[1]))
            answer = b""
            while not answer.endswith(b'"}}'):
                answer += connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 400 ")
        connection.sendall(start)
        for _ in range(MAX_HEAD_BYTES // len(piece) + 1):
            connection.sendall(piece)

        assert is_refusal(rest_of(connection))


def test_a_client_still_sending_gets_the_refusal(served: tuple[Server, str]) -> None:
    """The answer is not lost because more was on its way."""
    for _ in range(10):
        with connected(served[0]) as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nX: " + b"x" * 3_000_000)

            assert is_refusal(rest_of(connection))


def test_requests_before_a_long_head_are_answered(served: tuple[Server, str]) -> None:
    """Requests before a long head are answered, in one packet with it or in others; later ones are not."""
    form = b"POST /v2/oauth/token/ HTTP/1.1\r\nContent-Length: 0\r\n\r\n"
    before = [ordinary(served[1]), form, form, ordinary(served[1])]
    for end in (with_head_of(MAX_HEAD_BYTES + 1, FOLLOWING) + form, b"POST / HTTP/1.1\r\nX: " + b"x" * MAX_HEAD_BYTES):
        for pieces in ([b"".join(before) + end], [*before, end]):
            with connected(served[0]) as connection:
                for piece in pieces:
                    connection.sendall(piece)

                assert [b"400"] * 4 + [b"431"] == STATUS.findall(rest_of(connection))


def test_many_heads_and_long_bodies_do_not_count_as_one_head(served: tuple[Server, str]) -> None:
    """The limit is for each head alone, however much comes in one packet."""
    long = ordinary(served[1], b'{"username":"p"}' + b" " * 60_000)
    chunks = b"1\r\n \r\n" * 9000
    chunked = f"POST {FOLLOWING} HTTP/1.1\r\nAuthorization: Bearer {served[1]}\r\nTransfer-Encoding: chunked\r\n\r\n"
    sent = ordinary(served[1]) * 400 + (long + chunked.encode() + chunks + b"0\r\n\r\n") * 5
    for size in (len(sent), 50_000, 3_000):
        with connected(served[0]) as connection:
            for start in range(0, len(sent), size):
                connection.sendall(sent[start : start + size])
            connection.sendall(with_head_of(200, FOLLOWING).replace(b"keep-alive", b"close"))
            statuses = STATUS.findall(rest_of(connection))

        assert [b"400"] * 410 + [b"401"] == statuses


def test_memory_stays_bounded(served: tuple[Server, str]) -> None:
    """However much is sent where the head should end, or behind the body, hardly any of it is kept."""
    chunked = b"POST %b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n \r\n0\r\n" % FOLLOWING.encode()
    starts = [b"POST / HTTP/1.1\r\nX: ", b"POST /", ordinary(served[1]) + b"POST /", chunked + b"X: "]
    before = served[0].worker_memory()
    for start in starts * 3:
        with connected(served[0]) as connection, suppress(ConnectionError):
            connection.sendall(start)
            for _ in range(50):
                connection.sendall(b"x" * 1_000_000)

    assert served[0].worker_memory() - before < 20_000_000


def test_bytes_behind_the_body_are_not_headers(served: tuple[Server, str]) -> None:
    """A token in a trailer is none."""
    for target in (FOLLOWING, TOKEN):
        head = f"POST {target} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n"
        with connected(served[0]) as connection:
            connection.sendall(f"{head}Authorization: Bearer {served[1]}\r\nConnection: close\r\n\r\n".encode())
            status = STATUS.findall(connection.recv(65536))

        assert [b"401" if target == FOLLOWING else b"400"] == status
