"""uvicorn as every listener runs it, and TLS."""

import asyncio
import socket
import ssl
from functools import partial
from typing import Any

import uvicorn

from retinue.errors import Overloaded
from retinue.key_pair import KeyPair
from retinue.settings import Settings
from retinue.web.admission import Admission, Callbacks
from retinue.web.asgi import Application
from retinue.web.fast_path import FastPath
from retinue.web.limits import Limits, SendDeadline
from retinue.web.management_front import ManagementApplication
from retinue.web.protocol import Protocol
from retinue.web.replies import Asgi, Scope, Served, encode_reply

STOP_SECONDS = 3
KEEP_ALIVE_SECONDS = 75  # longer than most clients pause, so that few use a connection while it is being closed
MANAGEMENT_LIMITS = Limits(connections=512)
BACKLOG = 4096  # connections that wait to be accepted

# TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others.
CIPHERS = "@SECLEVEL=2:ECDHE+AESGCM:ECDHE+CHACHA20"
ALPN = ["http/1.1"]

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


class ListenerTls:
    """A TLS context for new connections, with a replaceable certificate."""

    def __init__(self, pair: KeyPair) -> None:
        self.context = _server_context(pair)  # for the next connection

    def replace(self, pair: KeyPair) -> None:
        """Use another key pair for new connections."""
        # A context that is loaded again keeps its earlier certificate if that has another kind of key.
        self.context = _server_context(pair)


def _server_context(pair: KeyPair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(ALPN)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    # No session tickets: their key would open recorded TLS 1.2 connections for as long as the process lives. Each
    # worker has a key of its own anyway, so few tickets would be of use.
    context.options |= ssl.OP_NO_TICKET
    context.num_tickets = 0
    pair.load_into(context)
    return context


class Server(uvicorn.Server):
    """uvicorn's server with our admission of connections."""

    def __init__(
        self,
        application: Served,
        limits: Limits,
        *,
        front: Asgi | None = None,
        fast_path: FastPath | None = None,
        tls: ListenerTls | None = None,
        is_shared: bool = False,
    ) -> None:
        self._application = application
        self._tls = tls
        self._admission = Admission(limits, is_shared=is_shared)
        self._send_deadline = SendDeadline(self._admission.places, limits.send_seconds)
        called: Any = front or application
        http: Any = partial(
            Protocol, application=application, limits=limits, admission=self._admission, fast_path=fast_path
        )
        super().__init__(uvicorn.Config(called, http=http, **_OPTIONS))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start accepting on one listener."""
        await super().startup(sockets=[])  # so that uvicorn accepts from none
        (listener,) = sockets or []
        protocol: Any = self.config.http_protocol_class
        state, loop = self.server_state, asyncio.get_running_loop()
        callbacks = Callbacks(
            partial(protocol, config=self.config, server_state=state, app_state={}),
            self._refuse,
            lambda: state.total_requests,
            lambda: None if self._tls is None else self._tls.context,
        )
        self._admission.start(listener, callbacks)
        self._send_deadline.start(loop)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop accepting, and let requests in flight finish."""
        await self._admission.stop()
        await super().shutdown(sockets)
        self._send_deadline.stop()

    def _refuse(self, scope: Scope) -> bytes:
        reply = encode_reply(self._application.refuse(scope, Overloaded()), self.server_state.default_headers)
        return reply.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if scope["method"] == "HEAD" else reply


def public_server(
    application: Application,
    settings: Settings,
    fast_path: FastPath | None = None,
    front: Asgi | None = None,
    limits: Limits | None = None,
    tls: ListenerTls | None = None,
) -> Server:
    """Return the server of the public application. `front` is an ASGI application to call instead of it."""
    limits, is_shared = limits or Limits(settings.max_connections), settings.workers > 1
    return Server(application, limits, front=front, fast_path=fast_path, tls=tls, is_shared=is_shared)


def management_server(application: ManagementApplication) -> Server:
    """Return the server of the management application."""
    return Server(application, MANAGEMENT_LIMITS)


def bind(host: str, port: int) -> socket.socket:
    """Return a listening socket. Raises `OSError`."""
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
