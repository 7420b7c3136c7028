"""uvicorn as we run it: one protocol, its limits and options, for every listener of workers, keeper and tests."""

import socket
from functools import partial
from typing import Any

import uvicorn

from retinue.settings import Settings
from retinue.web.asgi import Application
from retinue.web.hot import Hot
from retinue.web.limits import MANAGEMENT_LIMITS, Limits
from retinue.web.management_front import ManagementApplication
from retinue.web.protocol import Protocol
from retinue.web.replies import Asgi

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
) -> uvicorn.Server:
    """Return the server of the public application, with the hot way if that is given. Tests give another protocol.

    An application in `front` gets what goes neither the short way nor the hot one.
    """
    limits = Limits(settings.max_connections)
    http = partial(protocol, application=application, limits=limits, inline=application, hot=hot)
    return _server(
        front or application, http, limits, ssl_certfile=settings.tls_cert or None, ssl_keyfile=settings.tls_key or None
    )


def management_server(application: ManagementApplication) -> uvicorn.Server:
    """Return the server of the management application."""
    http = partial(Protocol, application=application, limits=MANAGEMENT_LIMITS)
    return _server(application, http, MANAGEMENT_LIMITS)


def _server(application: Any, http: Any, limits: Limits, **options: Any) -> uvicorn.Server:
    # uvicorn refuses when the limit is reached, we when it is passed.
    return uvicorn.Server(
        uvicorn.Config(application, http=http, limit_concurrency=limits.connections + 1, **options, **_OPTIONS)
    )


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
