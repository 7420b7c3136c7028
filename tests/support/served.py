"""A running server with one list, its clients, and its audit log."""

import asyncio
import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from retinue.model import FollowRecord
from retinue.store.open import open_store
from running import Client, Server, Session
from support.commands import retinue
from support.frozen_clock import FrozenClock
from support.management import token_path
from support.service import FOLLOWING


def create_list(path: Path) -> None:
    """Make a store in which p follows 300 accounts."""
    now = 1_700_000_000
    open_store(str(path)).create()
    with closing(open_store(str(path)).writer(FrozenClock())) as writer:
        asyncio.run(writer.add_follows([FollowRecord("p", f"f{n}", now - n, now) for n in range(300)]))


def exchange(server: Server, sent: bytes) -> tuple[int, dict[str, str], Any]:
    """Send raw bytes; return status, headers and JSON of the answer."""
    with connected(server) as connection:
        connection.sendall(sent)
        return answer_on(connection)


def answer_on(connection: socket.socket) -> tuple[int, dict[str, str], Any]:
    """Return status, headers and JSON of the next answer on a connection."""
    response = http.client.HTTPResponse(connection)
    response.begin()
    return response.status, {name.lower(): value for name, value in response.getheaders()}, json.load(response)


@contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    """Yield a connection without HTTP or TLS."""
    address = urlsplit(server.base_url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=60) as connection:
        yield connection


@pytest.fixture
def list_store(store_path: Path, tmp_path: Path) -> Path:
    """A store with one list."""
    follows = tmp_path / "in" / "follows.csv"
    follows.parent.mkdir()
    follows.write_text("follower,followee,followed_at\n" + "".join(f"p,f{n},{1_000_000 + n}\n" for n in range(50)))
    assert 0 == retinue("import", "--store", store_path, follows).returncode
    return store_path


@pytest.fixture
def client(list_store: Path) -> Client:
    """A registered client."""
    made = json.loads(retinue("client", "create", "--store", list_store, "--name", "x", "--json").stdout)
    return Client(made["client_key"], made["client_secret"])


def token_of(server: Server, client: Client) -> str:
    """Return a fresh token."""
    with Session(server.base_url) as session:
        return session.token(client)


def posted(server: Server, path: str, body: str, token: str = "") -> tuple[int, dict[str, str], Any]:
    """Return one answer of the public listener, on a connection of its own."""
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(body)}\r\n\r\n"
    return exchange(server, (head + body).encode())


def audit(store: Path, *arguments: str) -> tuple[int, str]:
    """Return exit code and output of an audit command."""
    done = retinue("audit", *arguments, "--store", store)
    return done.returncode, done.stdout + done.stderr


def records(store: Path) -> Iterator[dict[str, Any]]:
    """Yield every record in the log."""
    for path in sorted(store.with_suffix(".audit").glob("*.jsonl")):
        yield from map(json.loads, path.read_text().splitlines())


def checkpoint_count(store: Path) -> int:
    """Return the number of records in the store's checkpoint."""
    with closing(open_store(str(store)).access()) as access:
        return asyncio.run(access.audit_checkpoint()).count


def pages_written(store: Path) -> int:
    """Return how many requests for following lists are in the log."""
    paths = sorted(store.with_suffix(".audit").glob("*.jsonl"))
    return sum(path.read_bytes().count(b'"endpoint":"following"') for path in paths)


def answers(server: Server, token: str) -> bool:
    """Return whether the server answers a query."""
    try:
        return posted(server, FOLLOWING, '{"username":"p"}', token)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def metrics(server: Server, store: Path) -> dict[str, float]:
    """Return all samples of the metrics page."""
    with closing(http.client.HTTPConnection(urlsplit(server.management_url).netloc, timeout=60)) as connection:
        headers = {"Authorization": f"Bearer {token_path(store).read_text().strip()}"}
        connection.request("GET", "/metrics", headers=headers)
        lines = connection.getresponse().read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}
