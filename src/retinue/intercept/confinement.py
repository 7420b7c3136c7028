"""The ways to keep a command from TikTok's own service, best first.

Each is a plan for the launcher. Which of them a system allows is found out by trying.
"""

import re
from pathlib import Path

from msgspec import Struct

from retinue.intercept.authority import system_bundles
from retinue.intercept.environment import LOOPBACK, Route
from retinue.intercept.hosts import HOSTS, HTTPS

_HOSTS_FILE = Path("/etc/hosts")
_NAME_SERVICES = Path("/etc/nsswitch.conf")
_NAME_CACHE = Path("/run/nscd/socket")
_EPHEMERAL_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")
_DEFAULT_EPHEMERAL_PORTS = (32768, 60999)
_FIRST_UNPRIVILEGED_PORT = 1024


class ConfinementPlan(Struct, frozen=True):
    """The launcher's orders; with none of them the command is confined by nothing.

    `network`: it gets an empty network. `files`: paths of the system, and the file that it finds at each instead.
    `listens`: addresses to listen on. `ports`: ranges of TCP ports, the only ones that it may connect to.
    """

    network: bool = False
    files: dict[str, str] = {}
    listens: list[tuple[str, int]] = []
    ports: list[tuple[int, int]] = []


class Confinement(Struct, frozen=True):
    """A plan, and the line that announces it."""

    plan: ConfinementPlan
    announcement: str


def confinements(way: Route, folder: Path) -> list[Confinement]:
    """Return those that fit a way, best first. A folder gets the files that they need."""
    files = _files(way, folder)
    if way.others:
        return [
            Confinement(ConfinementPlan(files=files), "other hosts may be reached; TikTok's names lead to the server")
        ]
    listens = [(LOOPBACK, way.proxy_port), (LOOPBACK, way.tls_port), (way.address, HTTPS)]
    own_network = ConfinementPlan(network=True, files=files, listens=listens)
    open_ports = _ephemeral_ports()
    own_ports = ConfinementPlan(ports=[(way.proxy_port, way.proxy_port), (way.tls_port, way.tls_port), open_ports])
    return [
        Confinement(own_network, "other hosts are blocked: the command has a network of its own"),
        Confinement(
            own_ports,
            f"TCP to other hosts and to this machine is blocked by Landlock, except ports {_range(open_ports)}; "
            "UDP, Multipath TCP and TCP Fast Open are not",
        ),
    ]


def _files(way: Route, folder: Path) -> dict[str, str]:
    """Return what makes names lead to the relay, and this run's authority known, without variables and hooks."""
    replaced = {_HOSTS_FILE: _hosts(way.address)}
    if _NAME_SERVICES.exists():
        # On some systems a daemon outside is asked before the file.
        text = _NAME_SERVICES.read_text("utf-8", "surrogateescape")
        replaced[_NAME_SERVICES] = re.sub(r"^(\s*hosts:)", r"\1 files", text, flags=re.MULTILINE)
    if _NAME_CACHE.exists():
        replaced[_NAME_CACHE] = ""  # no socket any more, so that nothing outside is asked
    files = dict.fromkeys(system_bundles(), str(way.bundle))
    for path, text in replaced.items():
        ours = folder / path.name
        ours.write_text(text, "utf-8", "surrogateescape")
        files[str(path)] = str(ours)
    return files


def _hosts(address: str) -> str:
    text = _HOSTS_FILE.read_text("utf-8", "surrogateescape") if _HOSTS_FILE.exists() else "127.0.0.1 localhost\n"
    names = " ".join(HOSTS)
    # The second line is for programs that ask for IPv6 alone: without it they would ask the network.
    return f"{address} {names}\n::ffff:{address} {names}\n{text}"


def _ephemeral_ports() -> tuple[int, int]:
    """Return the range of ports that servers get if they ask for any; the command's own servers are reached there."""
    try:
        first, last = map(int, _EPHEMERAL_PORTS.read_text("ascii").split())
    except OSError:  # some containers do not show it
        return _DEFAULT_EPHEMERAL_PORTS
    return unprivileged(first, last)


def unprivileged(first: int, last: int) -> tuple[int, int]:
    """Return a range without the ports of well-known services, such as TikTok's own, whatever a system has in it."""
    return max(first, _FIRST_UNPRIVILEGED_PORT), last


def _range(ports: tuple[int, int]) -> str:
    return f"{ports[0]} to {ports[1]}"
