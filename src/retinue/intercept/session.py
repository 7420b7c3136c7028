"""One run: server, authority, relay and command.

Messages go to `say`, line by line.
"""

import asyncio
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct

from retinue.clock import SystemClock
from retinue.errors import InputError
from retinue.faults import DOCUMENTED, Faults, profile_name
from retinue.intercept.authority import HTTPS, make_authority
from retinue.intercept.confinement import ConfinementPlan, confinement_plans
from retinue.intercept.environment import LOOPBACK, MARK, RelayRoute, environment_of, write_hooks
from retinue.intercept.relay import Connect, Listeners, Relay, parse_server
from retinue.intercept.sandbox import sandbox
from retinue.intercept.spawn import Child, spawn, take_signals
from retinue.intercept.traffic import Traffic
from retinue.intercept.verdicts import expected_rows, verdict_lines
from retinue.settings import environment_name
from retinue.temporary import TemporaryFolder

_REACH_SECONDS = 5.0
_BACKLOG = 2048
_NEVER_RAN = (126, 127)  # a shell's exit codes for a command that cannot be run or does not exist

Say = Callable[[str], None]


class RunOptions(Struct, frozen=True):
    """A command and the server that answers it.

    `server`: a URL, or empty for a sandbox with `faults`. `store`: the store behind either, or empty for a sample or an
    unknown one. `allow_network`: other hosts may be reached. `best_effort`: run the command even unconfined.
    """

    command: list[str]
    environment: Mapping[str, str]
    server: str = ""
    allow_network: bool = False
    best_effort: bool = False
    store: str = ""
    faults: Faults = DOCUMENTED


class _Backend(Struct, frozen=True):
    connect: Connect
    variables: dict[str, str]  # for the command
    store: str = ""  # its graph, if known


def run(options: RunOptions, say: Say) -> int:
    """Run a command and return its exit code. Signals must be held. Raises `InputError`."""
    if MARK in options.environment:
        raise InputError("already inside a `retinue run`: remove the inner one")
    clock = SystemClock()
    traffic = Traffic(clock)
    with closing(TemporaryFolder()) as temporary, ExitStack() as stack:
        folder = temporary.path
        backend = stack.enter_context(_backend(options, folder, say))
        expected = stack.enter_context(expected_rows(backend.store, clock)) if backend.store else None
        authority = make_authority(folder, trust_others=options.allow_network)
        proxy, tls = (stack.enter_context(closing(_listener(LOOPBACK))) for _ in range(2))
        ports = proxy.getsockname()[1], tls.getsockname()[1]
        route = RelayRoute(*ports, authority, folder, options.allow_network)
        write_hooks(route)
        environment = environment_of({**options.environment, **backend.variables}, route)
        take_signals()
        child = _start(options, environment, confinement_plans(route), say)
        listeners = Listeners(child.listeners[:1] or [proxy], child.listeners[1:] or [tls])
        if options.allow_network:
            listeners.tls.extend(stack.enter_context(_behind_names(route, say)))
        relay = Relay(backend.connect, authority.tls, traffic, allow_network=options.allow_network)
        with relay.answering(listeners):
            code = child.run()
        say(str(traffic))
        if traffic.is_silent and code not in _NEVER_RAN:
            _warn_of_silence(child, say)
        for line in verdict_lines(traffic.lists, expected):
            say(f"  {line}")
    return code


@contextmanager
def _backend(options: RunOptions, folder: Path, say: Say) -> Iterator[_Backend]:
    if options.server:
        if options.faults != DOCUMENTED:
            raise InputError(
                "--faults and --seed need the sandbox: remove them or --server"
                f" (or {environment_name('server')} in the environment)"
            )
        connect = _reachable(options.server)
        say(f"{options.server} answers in TikTok's place")
        yield _Backend(connect, {}, options.store)
        return
    place = folder / "sandbox"
    place.mkdir()
    with sandbox(place, options.store, options.faults) as access:
        values = {
            "client_key": access.client_key,
            "client_secret": access.client_secret,
            "sample_username": access.username,
        }
        variables = {environment_name(name): value for name, value in values.items() if value}
        graph = f"the graph of {options.store}" if options.store else "a sample graph"
        say(f"a sandbox with {graph} answers in TikTok's place; the command gets")
        for name, value in variables.items():
            say(f"  {name}={value}")
        if (name_of_faults := profile_name(options.faults) or "as given") != "documented":
            say(f"fault injection: {name_of_faults}, seed {options.faults.seed}")
        yield _Backend(partial(asyncio.open_unix_connection, access.socket), variables, access.store)


def _reachable(url: str) -> Connect:
    host, port, is_tls = parse_server(url)
    try:
        socket.create_connection((host, port), _REACH_SECONDS).close()
    except OSError as error:
        raise InputError(
            f"--server (or {environment_name('server')}) {url}: cannot be reached: {error.strerror or error}"
        ) from None
    return partial(asyncio.open_connection, host, port, ssl=is_tls or None)


@contextmanager
def _behind_names(route: RelayRoute, say: Say) -> Iterator[list[socket.socket]]:
    """Listen at the address of TikTok's names, if this user may."""
    try:
        listener = _listener(route.address, HTTPS)
    except OSError:  # no permission, or another server has the port
        say("programs that ignore proxy variables and hooks get no connection: port 443 is not available")
        yield []
    else:
        with closing(listener):
            yield [listener]


def _listener(host: str, port: int = 0) -> socket.socket:
    return socket.create_server((host, port), backlog=_BACKLOG)


def _start(options: RunOptions, environment: Mapping[str, str], plans: list[ConfinementPlan], say: Say) -> Child:
    """Start a child by the best plan that the system allows."""
    reasons = []
    for plan in plans:
        child = spawn(options.command, environment, plan)
        if not child.refusal:
            say(plan.announcement)
            return child
        reasons.append(child.refusal)
    why = f"this system cannot prevent it: {'; '.join(reasons)}"
    if not options.best_effort:
        raise InputError(f"requests may reach TikTok with your real key ({why}); --best-effort runs the command anyway")
    say(f"best effort: requests may reach TikTok with your real key ({why})")
    return spawn(options.command, environment, ConfinementPlan())


def _warn_of_silence(child: Child, say: Say) -> None:
    confined = "the command sent none, or in a way that is blocked here"
    unconfined = "any that the command sent went to TikTok itself, with your real key"
    say(f"no request reached the server: {unconfined if child.plan == ConfinementPlan() else confined}")
