"""The limit for anything in Python: a protocol on uvloop that answers each packet with the same bytes, unread.

`python fixed_answer.py BYTES` serves on a free port answers with so many bytes of body, and prints the line that a
Retinue server prints.
"""

import asyncio
import sys

import uvloop

from retinue.web.listener import bind


class FixedAnswer(asyncio.Protocol):
    """Sends its answer whenever something arrives."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport = asyncio.Transport()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP's are such
        """A client is there."""
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        """Answer."""
        self._transport.write(self._answer)


async def serve(body_bytes: int) -> None:
    """Serve until SIGTERM."""
    listener = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving {body_bytes} on {address} (management on {address}).", flush=True)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (body_bytes, b"x" * body_bytes)
    server = await asyncio.get_running_loop().create_server(lambda: FixedAnswer(answer), sock=listener)
    await server.serve_forever()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(int(sys.argv[1])))
