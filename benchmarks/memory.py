"""How much memory a server has after a million requests: answers, refusals of every kind, and clients that hang up.

Between rounds of lists as fast as one core asks for them, other connections send what is refused: wrong tokens,
unknown accounts, bad parameters, other paths and methods, bytes that are not HTTP, heads and bodies that are too long,
and requests that are broken off. After each round the resident memory of all processes is printed.
"""

import argparse
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from graphs import CACHE, Size, generated
from process_tree import require_cores
from running import Failed, Server, fresh_token, running_server
from traffic import Traffic, draw_bodies, drive, require_wrk

_MIB = 1024 * 1024
_PATH = b"/v2/research/user/following/"
_ANSWERED_SECONDS = 30


@dataclass(frozen=True, slots=True)
class Options:
    """How much to ask for."""

    requests: int
    seconds: int
    odd: int


def main() -> int:
    """Ask, and print a line a round; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000, help="answers, beside the refusals")
    parser.add_argument("--seconds", type=int, default=20, help="length of a round")
    parser.add_argument("--odd", type=int, default=2_000, help="refusals and broken requests after each round")
    options = Options(**vars(parser.parse_args()))
    try:
        require_wrk()
        require_cores(0, 1)
        graph = generated(Size(10_000, 100_000))
        bodies = CACHE / "bodies-memory.jsonl"
        bodies.write_bytes(b"\n".join(draw_bodies(graph / "accounts.csv", graph / "follows.csv", 20)))
        with running_server(graph / "graph.db", core=0) as server:
            _measure(server, Traffic(bodies, fresh_token(server, graph / "graph.db")), options)
    except Failed as failure:
        sys.stderr.write(f"memory: {failure}\n")
        return 1
    return 0


def _measure(server: Server, traffic: Traffic, options: Options) -> None:
    print(f"{'answers':>10} {'others':>8} {'all MiB':>8} {'worker MiB':>10} {'open files':>10}")
    answered = others = 0
    while answered < options.requests:
        answered += drive(server, traffic, options.seconds, core=1, first=answered).requests
        for request in _odd_requests(traffic.token, options.odd):
            _exchange(server, request)
        others += options.odd
        files = sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.workers())
        memory, worker = server.memory() / _MIB, server.worker_memory() / _MIB
        print(f"{answered:>10,} {others:>8,} {memory:>8.1f} {worker:>10.1f} {files:>10}", flush=True)


def _odd_requests(token: str, count: int) -> list[bytes]:
    """As many requests as wanted, of each kind in turn."""
    kinds = [
        _post(_PATH, b"{}", "wrong"),
        _post(_PATH, b'{"username":"no.such.account"}', token),
        _post(_PATH, b'{"username":"x","max_count":0}', token),
        _post(_PATH, b"[" * 50_000, token),
        _post(_PATH, b"x" * 70_000, token),
        _post(b"/v2/other/", b"{}", token),
        b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % _PATH,
        b"\x16\x03\x01 not HTTP\r\n\r\n",
        b"POST / HTTP/1.1\r\nX: %b\r\n\r\n" % (b"y" * 40_000),
        _post(_PATH, b'{"username":"x"}', token)[:-5],  # broken off
    ]
    return [kinds[number % len(kinds)] for number in range(count)]


def _post(path: bytes, body: bytes, token: str) -> bytes:
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
    return head % (path, token.encode(), len(body)) + body


def _exchange(server: Server, request: bytes) -> None:
    """Send a request on a connection of its own, read what comes, and hang up."""
    address = urlsplit(server.base_url)
    with (
        suppress(OSError),  # it may refuse before it has read all
        socket.create_connection((address.hostname, address.port), timeout=_ANSWERED_SECONDS) as connection,
    ):
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65_536):
            pass


if __name__ == "__main__":
    sys.exit(main())
