"""One run from its beginning to its end: server, authority, relay and command are put together here.

What it has to say it gives to `say`, line by line; it does not know where that is shown.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from retinue.clock import SystemClock
from retinue.errors import InputError
from retinue.faults import DOCUMENTED, Faults, profile_of
from retinue.redirect.authority import Authority, make_authority, system_bundles
from retinue.redirect.environment import Way, environment_of, write_hooks
from retinue.redirect.expected import expected_rows
from retinue.redirect.hosts import HOSTS, HTTPS
from retinue.redirect.launching import Launched, Plan, launch, take_signals
from retinue.redirect.relay import Listeners, Relay, Server, server_at
from retinue.redirect.sandbox import sandbox
from retinue.redirect.traffic import Traffic
from retinue.redirect.verdicts import verdict_lines
from retinue.settings import environment_name

_REACH_SECONDS = 5.0
_BACKLOG = 2048

Say = Callable[[str], None]


class Order(Struct, frozen=True):
    """What is to be run, and what answers.

    `server`: the URL of one, or empty for a sandbox with `faults`. `store`: the store behind either, or empty for a
    sample or an unknown one. `others`: other hosts may be reached.
    """

    command: list[str]
    environment: Mapping[str, str]
    server: str = ""
    others: bool = False
    store: str = ""
    faults: Faults = DOCUMENTED


class _Served(Struct, frozen=True):
    server: Server
    variables: dict[str, str]  # what the command is told of it
    store: str = ""  # with its graph, if that is at hand


def run(order: Order, say: Say) -> int:
    """Run a command to its end, while signals are held; its exit code. Raises `InputError`."""
    clock = SystemClock()
    traffic = Traffic(clock)
    with TemporaryDirectory(prefix="retinue-run-") as name, ExitStack() as opened:
        folder = Path(name)
        served = opened.enter_context(_served(order, folder, say))
        expected = opened.enter_context(expected_rows(served.store, clock)) if served.store else None
        authority = make_authority(folder, trust_others=order.others)
        outside = opened.enter_context(_outside())
        way = _way(authority, outside, others=order.others)
        write_hooks(way)
        environment = environment_of({**order.environment, **served.variables}, way)
        take_signals()
        launched = _launched(order, environment, _plan(way, folder), say)
        relay = Relay(served.server, authority.tls, traffic, others=order.others)
        with relay.answering(_inside(launched) if launched.listeners else outside):
            code = launched.run()
        say(str(traffic))
        for line in verdict_lines(traffic.lists, expected):
            say(f"  {line}")
    return code


# --- the server -------------------------------------------------------------------------------------------------------


@contextmanager
def _served(order: Order, folder: Path, say: Say) -> Iterator[_Served]:
    """The server that was given, or a sandbox."""
    if order.server:
        if order.faults != DOCUMENTED:
            raise InputError("--faults and --seed are for the server of this command; leave them or --server out")
        server = _reachable(order.server)
        say(f"{order.server} answers in TikTok's place")
        yield _Served(server, {}, order.store)
        return
    place = folder / "sandbox"
    place.mkdir()
    with sandbox(place, order.store, order.faults) as made:
        values = {"client_key": made.client_key, "client_secret": made.client_secret, "sample_username": made.username}
        variables = {environment_name(name): value for name, value in values.items() if value}
        graph = f"the graph of {order.store}" if order.store else "a sample graph"
        say(f"a sandbox with {graph} answers in TikTok's place; the command is told")
        for name, value in variables.items():
            say(f"  {name}={value}")
        if (name_of_faults := profile_of(order.faults) or "as given") != "documented":
            say(f"faults on purpose: {name_of_faults}, seed {order.faults.seed}")
        yield _Served(server_at(made.url), variables, made.store)


def _reachable(url: str) -> Server:
    server = server_at(url)
    try:
        socket.create_connection((server.host, server.port), _REACH_SECONDS).close()
    except OSError as error:
        raise InputError(
            f"--server (or {environment_name('server')}) {url}: cannot be reached: {error.strerror or error}"
        ) from None
    return server


# --- the way to it ----------------------------------------------------------------------------------------------------


@contextmanager
def _outside() -> Iterator[Listeners]:
    """Listeners on this machine's loopback."""
    with closing(_listener()) as proxy, closing(_listener()) as tls:
        yield Listeners([proxy], [tls])


def _listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)


def _way(authority: Authority, outside: Listeners, *, others: bool) -> Way:
    proxy, tls = (listener.getsockname()[1] for (listener,) in (outside.proxy, outside.tls))
    hooks = authority.bundle.parent / "hooks"
    hooks.mkdir()
    return Way(proxy, tls, authority.bundle, authority.certificate, hooks, others)


def _plan(way: Way, folder: Path) -> Plan:
    """A network in which the same ports lead to the relay, and the port of HTTPS under TikTok's names too."""
    hosts = folder / "hosts"
    known = Path("/etc/hosts")
    lines = known.read_text("utf-8", "surrogateescape") if known.exists() else "127.0.0.1 localhost\n"
    hosts.write_text(f"127.0.0.1 {' '.join(HOSTS)}\n{lines}", "utf-8", "surrogateescape")
    # For programs that obey no proxy and have no hook, and for libraries that look for authorities nowhere else.
    files = {"/etc/hosts": str(hosts), **dict.fromkeys(system_bundles(), str(way.bundle))}
    return Plan(not way.others, files, [way.proxy_port, way.tls_port, HTTPS])


def _inside(launched: Launched) -> Listeners:
    proxy, *tls = launched.listeners
    return Listeners([proxy], tls)


def _launched(order: Order, environment: Mapping[str, str], plan: Plan, say: Say) -> Launched:
    """A launcher in a network of its own, where the system allows one."""
    launched = launch(order.command, environment, plan)
    if order.others:
        say("other hosts may be reached")
    elif launched.listeners:
        say("other hosts are blocked: the command has a network of its own")
    else:
        say(f"blocking other hosts is best effort here ({launched.why_not})")
        launched = launch(order.command, environment, Plan(isolated=False, files={}, ports=[]))
    return launched
