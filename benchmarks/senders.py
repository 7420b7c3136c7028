"""Send requests at a fixed mean rate, however slow the answers.

The instants are drawn before anything is sent: gaps of a Poisson process from a seeded generator. A latency counts from
the instant at which its request was due, so a server that stops for a while is charged for all requests of that while.

`senders.py paced` reads a plan as JSON and prints a `Sent` as JSON. It keeps some connections open, each with one
request under way; a request that is due while all are taken waits, and its waiting counts. It spins on one core and
says by how much it was itself late.

`senders.py arrivals` reads a plan, prints "ready", waits for a line with the instant to begin at (monotonic clock,
nanoseconds), and prints its `Arrived` as JSON. Each request comes on a new connection, from many addresses of the
loopback so that ports do not run out; a latency includes the wait for the connection to be accepted.
"""

import contextlib
import gc
import json
import re
import resource
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

MAX_LATE_MILLISECONDS = 1.0  # the schedule is kept if at least 99 % of the requests were sent in time
MAX_MISSING_SHARE = 0.01  # of the answers at the end
GRACE_SECONDS = 2.0  # after the last instant, for answers
ANSWER_SECONDS = 5.0  # an arrival without an answer is given up

_LENGTH = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: *([0-9]+)")
_READ_BYTES = 1 << 18
_SECOND = 1_000_000_000
_SOURCE_ADDRESSES = 200
_POLLED_EVENTS = 256
_NO_DESCRIPTOR = "the sender had no file descriptor left"


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests, their rate and the length of a run: `targets` has a body to POST or a path to GET on each line."""

    url: str
    targets: str
    token: str
    rate: float
    seconds: float
    connections: int
    seed: int
    first: int = 0  # begin after so many targets


@dataclass(frozen=True, slots=True)
class Sent:
    """The outcome of a paced run."""

    due: int
    answered: int
    refused: int
    p50_milliseconds: float
    p99_milliseconds: float
    late_p99_milliseconds: float  # of the sender itself
    kept_schedule: bool


@dataclass(slots=True)
class Arrived:
    """The outcome of arrivals: (second in which it was due, milliseconds) of each answer, failures by their reason."""

    due: int = 0
    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    late: list[float] = field(default_factory=list)  # milliseconds, of the sender itself


def schedule(plan: Plan) -> list[int]:
    """Return the instants of a plan, in nanoseconds from the beginning."""
    random = np.random.default_rng(plan.seed)
    count = max(1, round(plan.rate * plan.seconds))
    gaps = random.exponential(_SECOND / plan.rate, size=count)
    return [int(instant) for instant in np.cumsum(gaps).tolist()]


def requests_of(plan: Plan) -> list[bytes]:
    """Return each target as the bytes of a whole request."""
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


def summary(due: int, latencies: Sequence[int], lateness: Sequence[int], refused: int) -> Sent:
    """Return the figures of a paced run, from nanoseconds."""
    p50, p99 = (float(each) / 1e6 for each in np.percentile(latencies, (50, 99)))
    late = float(np.percentile(lateness, 99)) / 1e6
    is_whole = len(latencies) >= due * (1 - MAX_MISSING_SHARE)
    return Sent(due, len(latencies), refused, p50, p99, late, is_whole and late <= MAX_LATE_MILLISECONDS)


class _PacedSender:
    """Open connections, the request that each has under way, and the measurements."""

    def __init__(self, plan: Plan) -> None:
        address = urlsplit(plan.url)
        sockets = [socket.create_connection((address.hostname, address.port)) for _ in range(plan.connections)]
        self._poll = select.epoll()
        self._sockets = {each.fileno(): each for each in sockets}
        for number, each in self._sockets.items():
            each.setblocking(False)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._poll.register(number, select.EPOLLIN)
        self._idle = deque((number, 0) for number in self._sockets)  # each with the instant since which it is free
        self._under_way: dict[int, int] = {}
        self._parts: dict[int, bytes] = {}
        self.latencies: list[int] = []
        self.lateness: list[int] = []
        self.refused = 0

    def run(self, instants: Sequence[int], requests: Sequence[bytes], first: int) -> None:
        """Send each request at its instant, or once a connection is free."""
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
        """Close all connections."""
        self._poll.close()
        for each in self._sockets.values():
            each.close()

    def _send(self, request: bytes, due: int, now: int) -> None:
        number, since = self._idle.popleft()
        self.lateness.append(now - max(due, since))
        self._under_way[number] = due
        self._sockets[number].send(request)

    def _receive(self, number: int, begin: int) -> None:
        data = self._parts.pop(number, b"") + self._sockets[number].recv(_READ_BYTES)
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


def send_paced(plan: Plan) -> Sent:
    """Send the requests of a plan over its connections."""
    instants, requests = schedule(plan), requests_of(plan)
    sender = _PacedSender(plan)
    with _no_garbage_collection():
        try:
            sender.run(instants, requests, plan.first)
        finally:
            sender.close()
    return summary(len(instants), sender.latencies, sender.lateness, sender.refused)


@contextlib.contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from pausing the sender."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# --- arrivals -------------------------------------------------------------------------------------------------------


class _Arrivals:
    """Arrivals under way."""

    def __init__(self, plan: Plan) -> None:
        address = urlsplit(plan.url)
        self._address = (address.hostname or "", address.port or 0)
        self._requests = requests_of(plan)
        self._poll = select.epoll()
        self._under_way: dict[int, tuple[socket.socket, int]] = {}  # by descriptor, oldest first
        self._unsent: dict[int, bytes] = {}
        self.outcome = Arrived()

    def run(self, instants: list[int], begin: int) -> None:
        """Start each arrival at its instant, then wait for the answers."""
        place, count = 0, len(instants)
        self.outcome.due = count
        while place < count or self._under_way:
            now = time.monotonic_ns() - begin
            while place < count and instants[place] <= now:
                self._arrive(self._requests[place % len(self._requests)], place, instants[place], now)
                place += 1
                now = time.monotonic_ns() - begin
            for number, _ in self._poll.poll(0, _POLLED_EVENTS):
                self._continue(number, begin)
            self._give_up(now)

    def _arrive(self, request: bytes, place: int, due: int, now: int) -> None:
        self.outcome.late.append((now - due) / 1e6)
        try:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            self.outcome.failed[_NO_DESCRIPTOR] = self.outcome.failed.get(_NO_DESCRIPTOR, 0) + 1
            return
        connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        connection.bind((f"127.0.1.{1 + place % _SOURCE_ADDRESSES}", 0))
        number = connection.fileno()
        self._under_way[number] = connection, due
        with contextlib.suppress(BlockingIOError):
            connection.connect(self._address)
        try:
            connection.send(request)  # over the loopback a connection is there at once, unless the queue is full
            self._poll.register(number, select.EPOLLIN)
        except BlockingIOError:
            self._unsent[number] = request
            self._poll.register(number, select.EPOLLOUT | select.EPOLLIN)

    def _continue(self, number: int, begin: int) -> None:
        connection, due = self._under_way[number]
        try:
            request = self._unsent.pop(number, None)
            if request is not None:
                connection.send(request)
                self._poll.modify(number, select.EPOLLIN)
                return
            data = connection.recv(_READ_BYTES)
        except OSError as error:
            self._fail(number, type(error).__name__)
            return
        if not data:
            self._fail(number, "closed without an answer")
            return
        now = time.monotonic_ns() - begin
        answers = self.outcome.served if data[9:12] == b"200" else self.outcome.refused
        if data[9:12] not in (b"200", b"503"):
            self._fail(number, f"status {data[9:12].decode('latin-1')}")
            return
        answers.append((due / _SECOND, (now - due) / 1e6))
        self._end(number)

    def _give_up(self, now: int) -> None:
        while self._under_way:
            number, (_, due) = next(iter(self._under_way.items()))
            if now - due < ANSWER_SECONDS * _SECOND:
                return
            self._fail(number, f"no answer in {ANSWER_SECONDS:.0f} s")

    def _fail(self, number: int, reason: str) -> None:
        self.outcome.failed[reason] = self.outcome.failed.get(reason, 0) + 1
        self._end(number)

    def _end(self, number: int) -> None:
        self._unsent.pop(number, None)
        self._under_way.pop(number)[0].close()  # which takes it out of the poll


def send_arrivals(plan: Plan) -> Arrived:
    """Send each request on a new connection, from a common beginning."""
    instants = schedule(plan)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    arrivals = _Arrivals(plan)
    print("ready", flush=True)
    begin = int(sys.stdin.readline())
    with _no_garbage_collection():
        while time.monotonic_ns() < begin:
            pass
        arrivals.run(instants, begin)
    return arrivals.outcome


def main() -> None:
    """Read the plan, send, print."""
    plan = Plan(**json.loads(sys.stdin.readline()))
    outcome = send_arrivals(plan) if sys.argv[1] == "arrivals" else send_paced(plan)
    print(json.dumps(asdict(outcome)))


if __name__ == "__main__":
    main()
