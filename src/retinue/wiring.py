"""The composition root: parts of a store become access, routes and applications. Used by the server and by tests."""

import asyncio
import secrets

from msgspec import Struct

from retinue.access.clients import Clients
from retinue.access.credentials import Credentials
from retinue.access.quotas import Quotas
from retinue.audit.record import Auditor
from retinue.clock import Clock
from retinue.faults import Fates, SharedFaults
from retinue.following import Following
from retinue.store.base import AccessStore, GraphReader, HotGraph
from retinue.store.quota_counters import Ledger
from retinue.web.asgi import Application, LogIds
from retinue.web.faults import FaultyApplication, Ground
from retinue.web.hot import Hot
from retinue.web.oauth import Gate, Pause
from retinue.web.peers import NO_PROXIES, Peers
from retinue.web.routes import Access, public_routes


def clients(access: AccessStore, clock: Clock) -> Clients:
    """The register of clients, with the operating system's randomness."""
    return Clients(access, clock, secrets.token_bytes)


def credentials(access: AccessStore, clock: Clock, *, registers: bool = False) -> Credentials:
    """Return the credentials check. `registers`: an unknown client is registered when it asks for a token."""
    return Credentials(access, clock, secrets.token_bytes, registers=registers)


def log_ids(clock: Clock) -> LogIds:
    """Fresh log_ids, with the operating system's randomness."""
    return LogIds(clock, secrets.token_bytes)


def gated(
    access: AccessStore, ledger: Ledger, clock: Clock, pause: Pause = asyncio.sleep, *, registers: bool = False
) -> Access:
    """Who may ask the public listener, and how much. `pause` makes failures wait."""
    known, quotas = credentials(access, clock, registers=registers), Quotas(ledger, clock)
    return Access(known, quotas, Gate(known, quotas, pause))


class Public(Struct, frozen=True):
    """What the public listener is made of, but for its graph."""

    access: Access
    auditor: Auditor
    clock: Clock
    log_ids: LogIds
    peers: Peers = NO_PROXIES


def public_application(graph: GraphReader[bytes], public: Public, *, at_once: bool = True) -> Application:
    """What the public listener serves. `at_once`: the store never has to be waited for."""
    routes = public_routes(Following(graph, public.clock), public.access, at_once=at_once)
    return Application(routes, public.log_ids, public.auditor, public.clock, public.peers)


def faulty_application(
    graph: GraphReader[bytes], public: Public, faults: SharedFaults, pause: Pause = asyncio.sleep
) -> FaultyApplication:
    """What the public listener serves in a sandbox: the same behind faults, and nothing past them."""
    ground = Ground(
        public_application(graph, public, at_once=False),
        Following(graph, public.clock),
        public.access.credentials,
        public.clock,
    )
    return FaultyApplication(ground, Fates(faults), pause)


def hot_way(graph: HotGraph, public: Public) -> Hot:
    """The quickest way to the same answers."""
    return Hot(graph, public.access, public.auditor, public.clock, public.log_ids, public.peers)
