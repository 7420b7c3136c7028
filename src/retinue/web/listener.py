"""uvicorn as we run it: one place for its options, used by workers, keeper and tests."""

import socket
import ssl
from functools import partial
from typing import Any

import uvicorn

from retinue.settings import Settings
from retinue.web.asgi import Application, Asgi
from retinue.web.hot import Hot
from retinue.web.protocol import Protocol

STOP_SECONDS = 3
KEEP_ALIVE_SECONDS = 75  # longer than most clients pause, so that few meet a connection that is just being closed
BACKLOG = 2048

_OPTIONS: dict[str, Any] = {
    "interface": "asgi3",
    "lifespan": "off",
    "ws": "none",
    "access_log": False,
    "log_config": None,
    "server_header": False,
    "proxy_headers": False,
    "backlog": BACKLOG,
    "timeout_keep_alive": KEEP_ALIVE_SECONDS,
    "timeout_graceful_shutdown": STOP_SECONDS,
}


def public_server(
    application: Application,
    settings: Settings,
    hot: Hot | None = None,
    protocol: type[Protocol] = Protocol,
    front: Asgi | None = None,
    tls: ssl.SSLContext | None = None,
) -> uvicorn.Server:
    """The server of the public application, with the hot way if that is given. Tests give another protocol.

    What stands in front of the application gets what goes neither the short way nor the hot one.
    """
    http: Any = partial(protocol, application=application, hot=hot)
    served: Any = front or application
    # uvicorn refuses when the limit is reached, we when it is passed.
    config = uvicorn.Config(served, http=http, limit_concurrency=settings.max_connections + 1, **_OPTIONS)
    config.load()
    config.ssl = tls  # not by options: what uvicorn makes of those depends on its version
    return uvicorn.Server(config)


def management_server(application: Any) -> uvicorn.Server:
    """The server of the management application."""
    return uvicorn.Server(uvicorn.Config(application, http="httptools", **_OPTIONS))


def bind(host: str, port: int) -> socket.socket:
    """A bound and listening socket: from now on connections wait instead of failing. Raises `OSError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
        listener.set_inheritable(True)
    except OSError:
        listener.close()
        raise
    return listener
