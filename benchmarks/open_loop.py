"""Sends requests at a fixed mean rate, however slowly they are answered, and measures how long each answer takes.

The instants are drawn before anything is sent: gaps of a Poisson process from a seeded generator, so that no rhythm of
the sender meets one of the server. A latency is counted from the instant at which its request was due, not from when it
could be sent: a server that stops for a while is charged for every request that would have come meanwhile. Each of the
connections has one request under way; a request that is due while all are taken waits, and its waiting counts.

The sender spins on one core (`epoll` without waiting) and sends bytes that were made before. It says by how much it was
itself late, that is, how long after a request was due and a connection free it was sent. If that is more than a
millisecond for more than one in a hundred, or if answers to many requests are still missing at the end, the schedule
was not kept, and the latencies are not worth much.

`python open_loop.py` reads a plan as JSON from standard input and prints what it saw as JSON.
"""

import gc
import json
import re
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

MOST_LATE_MILLISECONDS = 1.0
MOST_MISSING_SHARE = 0.01
GRACE_SECONDS = 2.0  # so long after the last instant may answers come

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]+)")
_MOST_BYTES = 1 << 18
_SECOND = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send, where, and how often: `targets` has a body to POST or a path to GET on each line."""

    url: str
    targets: str
    token: str
    rate: float
    seconds: float
    connections: int
    seed: int
    first: int = 0  # begin after so many targets


@dataclass(frozen=True, slots=True)
class Seen:
    """What came of it. Latencies are from the instant at which each request was due."""

    due: int
    answered: int
    refused: int
    p50_milliseconds: float
    p99_milliseconds: float
    late_p99_milliseconds: float  # of the sender itself
    kept_schedule: bool


def schedule(plan: Plan) -> list[int]:
    """The instants, in nanoseconds from the beginning."""
    random = np.random.default_rng(plan.seed)
    count = max(1, round(plan.rate * plan.seconds))
    gaps = random.exponential(_SECOND / plan.rate, size=count)
    return [int(instant) for instant in np.cumsum(gaps).tolist()]


def requests_of(plan: Plan) -> list[bytes]:
    """Each target as the bytes of a whole request."""
    address = urlsplit(plan.url)
    lines = Path(plan.targets).read_bytes().splitlines()
    host = address.netloc.encode()
    post = f"POST {address.path} HTTP/1.1\r\n".encode() + b"Host: " + host + b"\r\n"
    post += f"Authorization: Bearer {plan.token}\r\nContent-Type: application/json\r\n".encode()
    return [
        b"GET %b HTTP/1.1\r\nHost: %b\r\n\r\n" % (line, host)
        if line.startswith(b"/")
        else b"%bContent-Length: %d\r\n\r\n%b" % (post, len(line), line)
        for line in lines
    ]


def summary(due: int, latencies: Sequence[int], lateness: Sequence[int], refused: int) -> Seen:
    """The figures of a run, from nanoseconds."""
    p50, p99 = (float(each) / 1e6 for each in np.percentile(latencies, (50, 99)))
    late = float(np.percentile(lateness, 99)) / 1e6
    is_whole = len(latencies) >= due * (1 - MOST_MISSING_SHARE)
    return Seen(due, len(latencies), refused, p50, p99, late, is_whole and late <= MOST_LATE_MILLISECONDS)


class _Sender:
    """Connections, which request each has under way, and what was measured up to now."""

    def __init__(self, plan: Plan) -> None:
        address = urlsplit(plan.url)
        sockets = [socket.create_connection((address.hostname, address.port)) for _ in range(plan.connections)]
        self._poll = select.epoll()
        self._sockets = {each.fileno(): each for each in sockets}
        for number, each in self._sockets.items():
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(number, select.EPOLLIN)
        self._idle = deque((number, 0) for number in self._sockets)  # each with the instant since when
        self._under_way: dict[int, int] = {}
        self._parts: dict[int, bytes] = {}
        self.latencies: list[int] = []
        self.lateness: list[int] = []
        self.refused = 0

    def run(self, instants: Sequence[int], requests: Sequence[bytes], first: int) -> None:
        """Send each request at its instant, or as soon as a connection is free after it."""
        count, place = len(instants), 0
        begin = time.perf_counter_ns()
        end = instants[-1] + int(GRACE_SECONDS * _SECOND)
        while place < count or self._under_way:
            now = time.perf_counter_ns() - begin
            if now > end:
                return
            while place < count and instants[place] <= now and self._idle:
                self._send(requests[(first + place) % len(requests)], instants[place], now)
                place += 1
            for number, _ in self._poll.poll(0):
                self._receive(number, begin)

    def close(self) -> None:
        """End all connections."""
        self._poll.close()
        for each in self._sockets.values():
            each.close()

    def _send(self, request: bytes, due: int, now: int) -> None:
        number, since = self._idle.popleft()
        self.lateness.append(now - max(due, since))
        self._under_way[number] = due
        self._sockets[number].send(request)

    def _receive(self, number: int, begin: int) -> None:
        data = self._parts.pop(number, b"") + self._sockets[number].recv(_MOST_BYTES)
        now = time.perf_counter_ns() - begin
        head = data.find(b"\r\n\r\n")
        length = _LENGTH.search(data, 0, head) if head > 0 else None
        if length is None or len(data) < head + 4 + int(length[1]):
            if not data:
                raise ConnectionError("the server closed a connection")
            self._parts[number] = data
            return
        self.refused += data[9:12] != b"200"
        self.latencies.append(now - self._under_way.pop(number))
        self._idle.append((number, now))


def run(plan: Plan) -> Seen:
    """Do what a plan says."""
    instants, requests = schedule(plan), requests_of(plan)
    sender = _Sender(plan)
    gc.collect()
    gc.disable()  # a collection would be a pause of the sender's own
    try:
        sender.run(instants, requests, plan.first)
    finally:
        gc.enable()
        sender.close()
    return summary(len(instants), sender.latencies, sender.lateness, sender.refused)


def main() -> None:
    """Read the plan, send, print."""
    print(json.dumps(asdict(run(Plan(**json.load(sys.stdin))))))


if __name__ == "__main__":
    main()
