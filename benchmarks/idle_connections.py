"""Hold connections open in a program of its own: each gets one answer, then stays silent until told to ask again.

`idle_connections.py URL BODY COUNT`, with the access token in the environment as TOKEN, prints a line of JSON when all
connections are open, and another one for each line on standard input, for which every connection asks once more: the
number of answers with 200, the number without and the first reason why. It ends with its input.
"""

import asyncio
import json
import os
import resource
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from running import Cores, Failed, Server, on_cores
from workload import Traffic

CONCURRENCY = 200
ANSWER_SECONDS = 30.0
OPENING_SECONDS = 120.0
OTHER_OPEN_FILES = 32


class Holder:
    """The program that holds connections; `opened` is the outcome of opening them."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.opened = self._read()

    def ask(self) -> dict[str, Any]:
        """Let every connection ask once more; return the outcome."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], OPENING_SECONDS)[0]:
            raise Failed(f"the connections were not all answered within {OPENING_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        if not line:
            raise Failed("the program that holds connections ended without output")
        outcome: dict[str, Any] = json.loads(line)
        return outcome


def require_all(outcome: dict[str, Any], count: int) -> None:
    """Raise `Failed` unless all connections got an answer with 200."""
    if outcome["answered"] != count:
        raise Failed(f"of {count:,} connections {outcome['broken']:,} got no good answer: {outcome['reason']}")


@contextmanager
def idle_connections(server: Server, traffic: Traffic, count: int, core: Cores) -> Iterator[Holder]:
    """Hold connections open until the end of the block."""
    with traffic.bodies.open() as bodies:
        body = bodies.readline().strip()
    command = [sys.executable, str(Path(__file__)), server.list_url(traffic.direction), body, str(count)]
    environment = {**os.environ, "TOKEN": traffic.token}
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            on_cores(core, command),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        )
        try:
            yield Holder(process)
        finally:
            process.kill()
            process.communicate()


# --- the program -----------------------------------------------------------------------------------------------------


class Connection:
    """One connection that stays open."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._address = (host, port)
        self._request = request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> str:
        """Ask once; return the status of the answer, or the error."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(*self._address)
                return await self._answer(*self._streams)
        except (OSError, EOFError) as error:  # or TimeoutError
            return repr(error)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(self._request)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        await reader.readexactly(int(fields["content-length"]))
        return status.split()[1]


async def ask_all(connections: list[Connection]) -> str:
    """Ask on every connection; return the outcome as JSON."""
    turns = asyncio.Semaphore(CONCURRENCY)

    async def ask(connection: Connection) -> str:
        async with turns:
            return await connection.ask()

    started = perf_counter()
    outcomes = Counter(await asyncio.gather(*map(ask, connections)))
    answered = outcomes.pop("200", 0)
    reason = next(iter(outcomes), "")
    seconds = perf_counter() - started
    return json.dumps({"answered": answered, "broken": outcomes.total(), "reason": reason, "seconds": seconds})


async def hold(url: str, body: str, count: int) -> None:
    """Open connections, and ask again for each line of input."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    head = (
        f"POST {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {os.environ['TOKEN']}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    )
    connections = [Connection(address.hostname, address.port, (head + body).encode()) for _ in range(count)]
    print(await ask_all(connections), flush=True)
    while await asyncio.to_thread(sys.stdin.readline):
        print(await ask_all(connections), flush=True)


def main() -> None:
    """Raise the limit of open files, and hold."""
    url, body, count = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count) + OTHER_OPEN_FILES, hard))
    asyncio.run(hold(url, body, int(count)))


if __name__ == "__main__":
    main()
