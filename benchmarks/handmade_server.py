"""Serves the hand-made service: `handmade_server.py DATABASE`, on a free port that it prints as a server does."""

import socket
import sys

import uvicorn

from handmade.service import make_application


def main() -> None:
    """Serve until SIGTERM."""
    config = uvicorn.Config(
        make_application(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        log_level="error",
    )
    listener = socket.create_server(("127.0.0.1", 0), backlog=config.backlog)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving a hand-made service on {address} (management on {address}).", flush=True)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    main()
