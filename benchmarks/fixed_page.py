"""The limit for anything on uvicorn: the plainest ASGI application, which answers every request with one page.

Reads no header and understands no body. `python fixed_page.py FILE` serves the file's bytes on a free port and prints
the line that a Retinue server prints.
"""

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import uvicorn

from retinue.web.listener import bind


def application(page: bytes) -> Callable[..., Awaitable[None]]:
    """The application."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(page)).encode())]

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": page})

    return answer


def main() -> None:
    """Serve until SIGTERM."""
    listener = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving {sys.argv[1]} on {address} (management on {address}).", flush=True)
    config = uvicorn.Config(
        application(Path(sys.argv[1]).read_bytes()),
        interface="asgi3",
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
