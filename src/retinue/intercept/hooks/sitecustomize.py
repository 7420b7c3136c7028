"""Runs when a Python starts under `retinue run`: connections to TikTok's hosts go to the relay, certifi trusts it.

For what obeys neither proxy nor certificate variables: aiohttp, sessions without `trust_env`, `verify=certifi.where()`.
It is copied beside its settings, imports nothing of ours, and keeps to what Python 3.6 knows.
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
HERE_ITSELF = ("", "localhost", "::1", "0.0.0.0", "::")  # noqa: S104 - compared


def text_of(host: Any) -> str:
    """Return a host, as resolvers and sockets are given it, as text."""
    text = host.decode("latin-1") if isinstance(host, (bytes, bytearray)) else str(host or "")
    return text.lower().rstrip(".")


def led(host: Any) -> Any:
    """Return what to resolve instead of a host: TikTok's names have one address. Raises `OSError`."""
    if text_of(host) in SETTINGS["hosts"]:
        return SETTINGS["address"]
    if text_of(host) != socket.gethostname().lower():
        refuse_other(host)
    return host


def destination(address: Any) -> Any:
    """Return what to connect to instead of an address. Raises `OSError`."""
    if not isinstance(address, tuple):
        return address  # of a Unix socket
    if text_of(address[0]) not in (SETTINGS["address"], *SETTINGS["hosts"]):
        refuse_other(address[0])
        return address
    if address[1] not in HTTPS:
        raise OSError("TikTok is blocked by retinue run; only https leads to the server")
    return ("127.0.0.1", SETTINGS["port"])


def refuse_other(host: Any) -> None:
    """Raise `OSError` for a host that may not be reached."""
    text = text_of(host)
    if not (SETTINGS["others"] or text in HERE_ITSELF or text.startswith("127.")):
        raise OSError(text + " is blocked by retinue run; --allow-network lets it through")


def redirect() -> None:
    """Lead TikTok's hosts to the relay, for all that resolves or connects by Python's `socket`."""
    resolve, connect, connect_ex = socket.getaddrinfo, socket.socket.connect, socket.socket.connect_ex
    resolve_alone, resolve_with_aliases = socket.gethostbyname, socket.gethostbyname_ex

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        return resolve(led(host), port, *rest, **named)

    def gethostbyname(host: Any) -> Any:
        return resolve_alone(led(host))

    def gethostbyname_ex(host: Any) -> Any:
        return resolve_with_aliases(led(host))

    def connect_to(self: socket.socket, address: Any) -> None:
        connect(self, destination(address))

    def connect_to_ex(self: socket.socket, address: Any) -> int:
        return connect_ex(self, destination(address))

    vars(socket).update(getaddrinfo=getaddrinfo, gethostbyname=gethostbyname, gethostbyname_ex=gethostbyname_ex)
    setattr(socket.socket, "connect", connect_to)  # noqa: B010 - a type checker would take it for a mistake
    setattr(socket.socket, "connect_ex", connect_to_ex)  # noqa: B010 - the same


def block() -> None:
    """Refuse other hosts to what calls the C functions itself, such as gevent."""

    def refuse(event: str, arguments: Any) -> None:
        if event == "socket.connect" and isinstance(arguments[1], tuple):
            refuse_other(arguments[1][0])
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            led(arguments[0])

    if hasattr(sys, "addaudithook"):  # since Python 3.8
        sys.addaudithook(refuse)


def trust() -> None:
    """Have certifi, where it is installed, lead to the bundle with the relay's authority."""
    try:
        import certifi  # noqa: PLC0415 - it may not be there
        import certifi.core  # noqa: PLC0415 - the same
    except ImportError:
        return

    def where() -> str:
        return str(SETTINGS["bundle"])

    def contents() -> str:
        return Path(where()).read_text("ascii")

    for module in (certifi, certifi.core):
        vars(module).update(where=where, contents=contents)


def run_the_one_behind() -> None:
    """Run the `sitecustomize` that would have been found without this one."""
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


redirect()
trust()
if not SETTINGS["others"]:
    block()
run_the_one_behind()
