"""Opens connections, lets each of them have one answer, and holds them open: `hold.py URL BODY COUNT`.

The access token is in the environment as TOKEN. Prints a line of JSON when all are open, and another one for each line
on standard input, for which every connection asks once more: how many were answered with 200, how many were not, and
the first reason why not. Ends with the end of its input.
"""

import asyncio
import json
import os
import resource
import sys
from collections import Counter
from time import perf_counter
from urllib.parse import urlsplit

AT_ONCE = 200
ANSWER_SECONDS = 30.0
_OTHER_OPEN_FILES = 32


class Connection:
    """One connection that stays open."""

    def __init__(self, host: str, port: int, request: bytes) -> None:
        self._address = (host, port)
        self._request = request
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self) -> str:
        """Ask once: the status of the answer, or what went wrong. The first time it connects, and only then."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                if self._streams is None:
                    self._streams = await asyncio.open_connection(*self._address)
                return await self._answer(*self._streams)
        except (OSError, EOFError) as error:  # a closed connection, or a time that is over
            return repr(error)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        writer.write(self._request)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        fields = dict(line.split(": ", 1) for line in lines if line)
        await reader.readexactly(int(fields["content-length"]))
        return status.split()[1]


async def ask_all(connections: list[Connection]) -> str:
    """Ask on every connection, on some at a time; how that went."""
    turns = asyncio.Semaphore(AT_ONCE)

    async def ask(connection: Connection) -> str:
        async with turns:
            return await connection.ask()

    started = perf_counter()
    words = Counter(await asyncio.gather(*map(ask, connections)))
    answered = words.pop("200", 0)
    reason = next(iter(words), "")
    seconds = perf_counter() - started
    return json.dumps({"answered": answered, "broken": words.total(), "reason": reason, "seconds": seconds})


async def hold(url: str, body: str, count: int) -> None:
    """Open, and ask again whenever that is wished."""
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
    """Let this process have so many files open, and hold."""
    url, body, count = sys.argv[1:]
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (int(count) + _OTHER_OPEN_FILES, hard))
    asyncio.run(hold(url, body, int(count)))


if __name__ == "__main__":
    main()
