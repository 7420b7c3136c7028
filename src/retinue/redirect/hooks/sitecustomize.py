"""Runs when a Python starts under `retinue run`: connections to TikTok's hosts go to the relay, certifi trusts it.

For what obeys neither proxy nor certificate variables: aiohttp, sessions without `trust_env`, `verify=certifi.where()`.
It is copied beside its settings, imports nothing of ours, and keeps to what older Pythons know.
"""

from __future__ import annotations

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


def text_of(host: Any) -> str:
    """A host as resolvers are given it, as text."""
    return host.decode("latin-1") if isinstance(host, (bytes, bytearray)) else str(host or "")


def is_tiktok(host: Any, port: Any) -> bool:
    """Whether a connection is one for the relay."""
    return port in HTTPS and text_of(host).lower().rstrip(".") in SETTINGS["hosts"]


def redirect() -> None:
    """Lead TikTok's hosts to the relay, for all that resolves or connects by Python's `socket`."""
    resolve, connect = socket.getaddrinfo, socket.socket.connect

    def getaddrinfo(host: Any, port: Any, *rest: Any, **named: Any) -> Any:
        if is_tiktok(host, port):
            host, port = "127.0.0.1", SETTINGS["port"]
        return resolve(host, port, *rest, **named)

    def connect_to(self: socket.socket, address: Any) -> None:
        if isinstance(address, tuple) and is_tiktok(*address[:2]):
            address = ("127.0.0.1", SETTINGS["port"])
        connect(self, address)

    vars(socket)["getaddrinfo"] = getaddrinfo
    setattr(socket.socket, "connect", connect_to)  # noqa: B010 - a type checker would take it for a mistake


def block() -> None:
    """Refuse other hosts. An audit hook hears of them before anything is sent."""

    def refuse(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "socket.getaddrinfo":
            host = text_of(arguments[0])
        elif event == "socket.connect" and isinstance(arguments[1], tuple):
            host = text_of(arguments[1][0])
        else:
            return
        if not (host in ("", "localhost", "::1", "0.0.0.0", "::") or host.startswith("127.")):  # noqa: S104 - compared
            raise OSError(f"{host} is blocked by retinue run; --allow-network lets it through")

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
