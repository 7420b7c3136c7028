"""The host names of a listener on the loopback: a guard against DNS rebinding. Pure.

A web page may resolve its own name to 127.0.0.1 and send requests to the listener as to its own server. The browser
still sends the page's name as Host.
"""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from retinue.errors import InputError

_PORT = re.compile(r":[0-9]{0,5}\Z")
_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_LOCAL = "localhost"


class Hosts:
    """The allowed names: localhost, loopback addresses, configured names; with any port."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._names = frozenset(names) | {_LOCAL}

    def has(self, host: bytes) -> bool:
        """Return whether a Host header is allowed. Browsers always send one."""
        name = _PORT.sub("", host.decode("latin-1").lower())
        return not host or name.removesuffix(".") in self._names or is_loopback(name)


def host_names(text: str) -> tuple[str, ...]:
    """Return the names in `--management-hosts`. Raises `InputError`."""
    names = tuple(part.strip().lower() for part in text.split(",")) if text.strip() else ()
    for name in names:
        if not _NAME.fullmatch(name):
            raise InputError(f"--management-hosts {name!a}: expected a host name or address, without scheme and port")
    return names


def is_loopback(name: str) -> bool:
    """Return whether a host name or address is this machine's loopback."""
    if name == _LOCAL:
        return True
    try:
        address = ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback
