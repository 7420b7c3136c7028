"""One run from its beginning to its end: server, authority, relay and command are put together here.

What it has to say it gives to `say`, line by line; it does not know where that is shown.
"""

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from msgspec import Struct

from retinue.clock import SystemClock
from retinue.errors import InputError
from retinue.faults import DOCUMENTED, Faults, profile_of
from retinue.intercept.authority import Authority, make_authority
from retinue.intercept.confinement import Confinement, ConfinementPlan, confinements
from retinue.intercept.environment import LOOPBACK, MARK, Route, environment_of, write_hooks
from retinue.intercept.expected import expected_rows
from retinue.intercept.hosts import HTTPS
from retinue.intercept.relay import Listeners, Relay, TcpUpstream, UnixUpstream, Upstream, server_at
from retinue.intercept.sandbox import sandbox
from retinue.intercept.spawn import Child, launch, take_signals
from retinue.intercept.traffic import Traffic
from retinue.intercept.verdicts import verdict_lines
from retinue.settings import environment_name
from retinue.temporary import TemporaryFolder

_REACH_SECONDS = 5.0
_BACKLOG = 2048
_NEVER_RAN = (126, 127)  # the exit codes of a shell for a command that cannot be run or found

Say = Callable[[str], None]


class RunOptions(Struct, frozen=True):
    """A command to run, and the server that answers it.

    `server`: the URL of one, or empty for a sandbox with `faults`. `store`: the store behind either, or empty for a
    sample or an unknown one. `others`: other hosts may be reached. `best_effort`: run the command even if nothing
    keeps its requests from TikTok.
    """

    command: list[str]
    environment: Mapping[str, str]
    server: str = ""
    others: bool = False
    best_effort: bool = False
    store: str = ""
    faults: Faults = DOCUMENTED


class _Served(Struct, frozen=True):
    server: Upstream
    variables: dict[str, str]  # what the command is told of it
    store: str = ""  # with its graph, if that is at hand


def run(order: RunOptions, say: Say) -> int:
    """Run a command to its end, while signals are held; its exit code. Raises `InputError`."""
    if MARK in order.environment:
        raise InputError("already inside of a `retinue run`: leave out the inner one")
    clock = SystemClock()
    traffic = Traffic(clock)
    with closing(TemporaryFolder()) as temporary, ExitStack() as opened:
        folder = temporary.path
        served = opened.enter_context(_served(order, folder, say))
        expected = opened.enter_context(expected_rows(served.store, clock)) if served.store else None
        authority = make_authority(folder, trust_others=order.others)
        outside = opened.enter_context(_outside())
        way = _way(authority, outside, others=order.others)
        write_hooks(way)
        environment = environment_of({**order.environment, **served.variables}, way)
        take_signals()
        launched = _launched(order, environment, confinements(way, folder), say)
        if order.others:
            outside.tls.extend(opened.enter_context(_behind_names(way, say)))
        relay = Relay(served.server, authority.tls, traffic, others=order.others)
        with relay.answering(_inside(launched) if launched.listeners else outside):
            code = launched.run()
        say(str(traffic))
        if traffic.is_silent and code not in _NEVER_RAN:
            _warn_of_silence(launched, say)
        for line in verdict_lines(traffic.lists, expected):
            say(f"  {line}")
    return code


# --- the server -------------------------------------------------------------------------------------------------------


@contextmanager
def _served(order: RunOptions, folder: Path, say: Say) -> Iterator[_Served]:
    """The server that was given, or a sandbox."""
    if order.server:
        if order.faults != DOCUMENTED:
            raise InputError(
                "--faults and --seed are for the server of this command; leave them or --server out"
                f" ({environment_name('server')} in the environment counts too)"
            )
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
        yield _Served(UnixUpstream(made.socket), variables, made.store)


def _reachable(url: str) -> TcpUpstream:
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
    with closing(_listener(LOOPBACK)) as proxy, closing(_listener(LOOPBACK)) as tls:
        yield Listeners([proxy], [tls])


@contextmanager
def _behind_names(way: Route, say: Say) -> Iterator[list[socket.socket]]:
    """Listen where TikTok's names lead to in this machine's network, if this user may listen on such a port."""
    try:
        listener = _listener(way.address, HTTPS)
    except OSError:  # not as this user, or a server of this machine has that port everywhere
        say("programs that obey neither proxy variables nor hooks get no connection: port 443 is not to be had here")
        yield []
    else:
        with closing(listener):
            yield [listener]


def _listener(host: str, port: int = 0) -> socket.socket:
    return socket.create_server((host, port), backlog=_BACKLOG)


def _way(authority: Authority, outside: Listeners, *, others: bool) -> Route:
    proxy, tls = (listener.getsockname()[1] for (listener,) in (outside.proxy, outside.tls))
    hooks = authority.bundle.parent / "hooks"
    hooks.mkdir()
    return Route(proxy, tls, authority, hooks, others)


def _inside(launched: Child) -> Listeners:
    proxy, *tls = launched.listeners
    return Listeners([proxy], tls)


def _launched(order: RunOptions, environment: Mapping[str, str], ways: list[Confinement], say: Say) -> Child:
    """Return a launcher under the best confinement that the system allows. Raises `InputError` if there is none."""
    reasons = []
    for confinement in ways:
        launched = launch(order.command, environment, confinement.plan)
        if not launched.why_not:
            say(confinement.announcement)
            return launched
        reasons.append(launched.why_not)
    why = f"this system does not let it be prevented: {'; '.join(reasons)}"
    if not order.best_effort:
        raise InputError(f"requests may reach TikTok with your real key ({why}); --best-effort runs the command anyway")
    say(f"best effort: requests may reach TikTok with your real key ({why})")
    return launch(order.command, environment, ConfinementPlan())


def _warn_of_silence(launched: Child, say: Say) -> None:
    """Say that nothing came: a command that seems to have worked may have asked another server."""
    confined = "the command sent none, or by a way that is blocked here"
    unconfined = "any that the command sent went to TikTok itself, with your real key"
    say(f"no request reached the server: {unconfined if launched.plan == ConfinementPlan() else confined}")
