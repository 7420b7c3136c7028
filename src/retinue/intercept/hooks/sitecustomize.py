"""Start-up hook of Python under `retinue run`: TikTok's hosts lead to the relay, and certifi trusts it.

For clients that ignore proxy and certificate variables, such as aiohttp and `verify=certifi.where()`. It is copied
beside its settings, imports nothing of Retinue, and runs on Python 3.6.
"""

import importlib
import importlib.machinery
import importlib.util
import json
import socket
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SETTINGS = json.loads((HERE / "redirect.json").read_text("utf-8"))
HTTPS = (443, "443", "https", b"443", b"https")
LOCAL_HOSTS = ("", "localhost", "::1", "0.0.0.0", "::")  # noqa: S104 - compared


def host_text(host: Any) -> str:
    """Return a host argument of a resolver or socket as text."""
    text = host.decode("latin-1") if isinstance(host, (bytes, bytearray)) else str(host or "")
    return text.lower().rstrip(".")


def redirected_host(host: Any) -> Any:
    """Return the host to resolve instead. Raises `OSError` for a blocked one."""
    if host_text(host) in SETTINGS["hosts"]:
        return SETTINGS["address"]
    if host_text(host) != socket.gethostname().lower():
        refuse_other(host)
    return host


def destination(address: Any) -> Any:
    """Return the address to connect to instead. Raises `OSError` for a blocked one."""
    if not isinstance(address, tuple):
        return address  # of a Unix socket
    if host_text(address[0]) not in (SETTINGS["address"], *SETTINGS["hosts"]):
        refuse_other(address[0])
        return address
    if address[1] not in HTTPS:
        raise OSError("TikTok is blocked by retinue run; only https leads to the server")
    return ("127.0.0.1", SETTINGS["port"])


def refuse_other(host: Any) -> None:
    """Raise `OSError` for a blocked host."""
    text = host_text(host)
    if not (SETTINGS["allow_network"] or text in LOCAL_HOSTS or text.startswith("127.")):
        raise OSError(text + " is blocked by retinue run; --allow-network lets it through")


def redirect() -> None:
    """Lead TikTok's hosts to the relay for users of Python's `socket`."""
    resolve, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex
    resolve_alone, resolve_with_aliases = socket.gethostbyname, socket.gethostbyname_ex

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        return resolve(redirected_host(host), port, *rest, **named)

    def gethostbyname(host: Any) -> Any:
        return resolve_alone(redirected_host(host))

    def gethostbyname_ex(host: Any) -> Any:
        return resolve_with_aliases(redirected_host(host))

    def connect_to(self: socket.socket, address: Any) -> None:
        connect(self, destination(address))

    def connect_to_ex(self: socket.socket, address: Any) -> int:
        return connect_ex(self, destination(address))

    vars(socket).update(getaddrinfo=getaddrinfo, gethostbyname=gethostbyname, gethostbyname_ex=gethostbyname_ex)
    setattr(socket.socket, "connect", connect_to)  # noqa: B010 - a type checker would take it for a mistake
    setattr(socket.socket, "connect_ex", connect_to_ex)  # noqa: B010 - the same


def block() -> None:
    """Block other hosts for callers of the C functions, such as gevent."""

    def refuse(event: str, arguments: Any) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            refuse_other(arguments[1][0])
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            redirected_host(arguments[0])

    if hasattr(sys, "addaudithook"):  # since Python 3.8
        sys.addaudithook(refuse)


def trust() -> None:
    """Let certifi, if installed, return the bundle with the relay's authority."""
    try:
        import certifi  # noqa: PLC0415 - it may not be installed
        import certifi.core  # noqa: PLC0415 - the same
    except ImportError:
        return

    def where() -> str:
        return str(SETTINGS["bundle"])

    def contents() -> str:
        return Path(where()).read_text("ascii")

    for module in (certifi, certifi.core):
        vars(module).update(where=where, contents=contents)


def run_shadowed() -> None:
    """Run the `sitecustomize` that this one shadows."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


redirect()
trust()
if not SETTINGS["allow_network"]:
    block()
run_shadowed()
