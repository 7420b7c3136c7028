"""Plans for a child process that keep it from TikTok's own service."""

import re
from pathlib import Path

from msgspec import Struct

from retinue.intercept.authority import HOSTS, HTTPS, system_bundles
from retinue.intercept.environment import LOOPBACK, RelayRoute

_HOSTS_FILE = Path("/etc/hosts")
_NAME_SERVICES = Path("/etc/nsswitch.conf")
_NAME_CACHE = Path("/run/nscd/socket")
_EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_EPHEMERAL_PORTS = (32768, 60999)
_FIRST_UNPRIVILEGED_PORT = 1024


class ConfinementPlan(Struct, frozen=True):
    """Instructions for the child process, and their announcement. Empty ones confine nothing.

    `network`: use an empty network namespace. `files`: the replacement of each system file. `listens`: addresses to
    listen on. `ports`: the only ranges of TCP ports to which it may connect.
    """

    announcement: str = ""
    network: bool = False
    files: dict[str, str] = {}
    listens: list[tuple[str, int]] = []
    ports: list[tuple[int, int]] = []


def confinement_plans(route: RelayRoute) -> list[ConfinementPlan]:
    """Write the files of the plans. Return these best first: one that the system allows is used."""
    files = _files(route)
    if route.allow_network:
        return [ConfinementPlan("other hosts may be reached; TikTok's names lead to the server", files=files)]
    listens = [(LOOPBACK, route.proxy_port), (LOOPBACK, route.tls_port), (route.address, HTTPS)]
    first, last = _ephemeral_ports()
    return [
        ConfinementPlan(
            "other hosts are blocked: the command has a network of its own", network=True, files=files, listens=listens
        ),
        ConfinementPlan(
            f"TCP to other hosts and to this machine is blocked by Landlock, except ports {first} to {last}; "
            "UDP, Multipath TCP and TCP Fast Open are not",
            ports=[(route.proxy_port, route.proxy_port), (route.tls_port, route.tls_port), (first, last)],
        ),
    ]


def _files(route: RelayRoute) -> dict[str, str]:
    """Write replacements of system files; return them by path."""
    replaced = {_HOSTS_FILE: _hosts(route.address)}
    if _NAME_SERVICES.exists():
        # Some systems query a daemon before the file.
        text = _NAME_SERVICES.read_text("utf-8", "surrogateescape")
        replaced[_NAME_SERVICES] = re.sub(r"^(\s*hosts:)", r"\1 files", text, flags=re.MULTILINE)
    if _NAME_CACHE.exists():
        replaced[_NAME_CACHE] = ""  # hides the socket of the daemon outside
    files = dict.fromkeys(system_bundles(), str(route.authority.bundle))
    for path, text in replaced.items():
        replacement = route.folder / path.name
        replacement.write_text(text, "utf-8", "surrogateescape")
        files[str(path)] = str(replacement)
    return files


def _hosts(address: str) -> str:
    text = _HOSTS_FILE.read_text("utf-8", "surrogateescape") if _HOSTS_FILE.exists() else "127.0.0.1 localhost\n"
    names = " ".join(HOSTS)
    # The second line is for programs that look up only IPv6.
    return f"{address} {names}\n::ffff:{address} {names}\n{text}"


def _ephemeral_ports() -> tuple[int, int]:
    """Return the ephemeral ports, which the command's own servers use."""
    try:
        first, last = map(int, _EPHEMERAL_PORTS.read_text("ascii").split())
    except OSError:  # hidden in some containers
        return _DEFAULT_EPHEMERAL_PORTS
    return unprivileged(first, last)


def unprivileged(first: int, last: int) -> tuple[int, int]:
    """Return a range without privileged ports, such as TikTok's."""
    return max(first, _FIRST_UNPRIVILEGED_PORT), last
