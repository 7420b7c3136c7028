"""Opens a new connection for each request at a fixed mean rate, and measures from when each was due.

The instants are drawn before anything is sent (open_loop.py), so a slow server gets no fewer requests. Each arrival
connects, sends one request, reads one answer and closes. A latency counts from the instant at which the arrival was
due: it includes the wait for the connection to be accepted. Arrivals come from many addresses of the loopback, so that
ports do not run out.

`python arrivals.py` reads a plan as JSON from standard input, prints "ready", waits for a line with the instant to
begin at (by the machine's monotonic clock), and prints the outcomes as JSON.
"""

import contextlib
import gc
import json
import resource
import select
import socket
import sys
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from open_loop import Plan, requests_of, schedule

ANSWER_SECONDS = 5.0  # an arrival without an answer after this time is given up
_SOURCES = 200
_BUSY_EVENTS = 256
_BYTES = 1 << 16
_SECOND = 1_000_000_000
_NO_DESCRIPTOR = "the sender had no file descriptor left"


@dataclass(slots=True)
class Outcomes:
    """Latencies in milliseconds by what became of the arrivals, each with the second in which it was due."""

    due: int = 0
    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    failed: dict[str, int] = field(default_factory=dict)
    late_milliseconds: list[float] = field(default_factory=list)  # of the sender itself


class _Arrivals:
    """Arrivals under way: what each has still to send, and when it was due."""

    def __init__(self, plan: Plan) -> None:
        address = urlsplit(plan.url)
        self._address = (address.hostname or "", address.port or 0)
        self._requests = requests_of(plan)
        self._poll = select.epoll()
        self._under_way: dict[int, tuple[socket.socket, int]] = {}  # by descriptor, oldest first
        self._unsent: dict[int, bytes] = {}
        self.outcomes = Outcomes()

    def run(self, instants: list[int], begin: int) -> None:
        """Let each arrive at its instant; then wait for the answers."""
        place, count = 0, len(instants)
        self.outcomes.due = count
        while place < count or self._under_way:
            now = time.monotonic_ns() - begin
            while place < count and instants[place] <= now:
                self._arrive(self._requests[place % len(self._requests)], place, instants[place], now)
                place += 1
                now = time.monotonic_ns() - begin
            for number, _ in self._poll.poll(0, _BUSY_EVENTS):
                self._go_on(number, begin)
            self._give_up(now)

    def _arrive(self, request: bytes, place: int, due: int, now: int) -> None:
        self.outcomes.late_milliseconds.append((now - due) / 1e6)
        try:
            connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        except OSError:
            self.outcomes.failed[_NO_DESCRIPTOR] = self.outcomes.failed.get(_NO_DESCRIPTOR, 0) + 1
            return
        connection.setsockopt(socket.IPPROTO_IP, 24, 1)  # IP_BIND_ADDRESS_NO_PORT
        connection.bind((f"127.0.1.{1 + place % _SOURCES}", 0))
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

    def _go_on(self, number: int, begin: int) -> None:
        connection, due = self._under_way[number]
        try:
            request = self._unsent.pop(number, None)
            if request is not None:
                connection.send(request)
                self._poll.modify(number, select.EPOLLIN)
                return
            data = connection.recv(_BYTES)
        except OSError as error:
            self._fail(number, type(error).__name__)
            return
        if not data:
            self._fail(number, "closed without an answer")
            return
        now = time.monotonic_ns() - begin
        outcome = self.outcomes.served if data[9:12] == b"200" else self.outcomes.refused
        if data[9:12] not in (b"200", b"503"):
            self._fail(number, f"status {data[9:12].decode('latin-1')}")
            return
        outcome.append((due / _SECOND, (now - due) / 1e6))
        self._end(number)

    def _give_up(self, now: int) -> None:
        while self._under_way:
            number, (_, due) = next(iter(self._under_way.items()))
            if now - due < ANSWER_SECONDS * _SECOND:
                return
            self._fail(number, f"no answer in {ANSWER_SECONDS:.0f} s")

    def _fail(self, number: int, reason: str) -> None:
        self.outcomes.failed[reason] = self.outcomes.failed.get(reason, 0) + 1
        self._end(number)

    def _end(self, number: int) -> None:
        self._unsent.pop(number, None)
        self._under_way.pop(number)[0].close()  # which takes it out of the poll


def main() -> None:
    """Read the plan, wait for the beginning, send, print."""
    plan = Plan(**json.loads(sys.stdin.readline()))
    instants = schedule(plan)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    arrivals = _Arrivals(plan)
    print("ready", flush=True)
    begin = int(sys.stdin.readline())
    gc.collect()
    gc.disable()  # a collection would be a pause of the sender's own
    while time.monotonic_ns() < begin:
        pass
    arrivals.run(instants, begin)
    outcomes = arrivals.outcomes
    print(
        json.dumps(
            {
                "due": outcomes.due,
                "served": outcomes.served,
                "refused": outcomes.refused,
                "failed": outcomes.failed,
                "late": outcomes.late_milliseconds,
            }
        )
    )


if __name__ == "__main__":
    main()
