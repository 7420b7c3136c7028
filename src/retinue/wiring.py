"""The composition root: parts of a store become access, routes and applications."""

import asyncio
import secrets

from msgspec import Struct

from retinue.access.authentication import Authenticator
from retinue.access.clients import Clients
from retinue.access.contract import AccessStore
from retinue.access.quotas import Quotas
from retinue.audit.record import Auditor
from retinue.clock import Clock
from retinue.faults import FaultInjector, SharedFaults
from retinue.following import Following
from retinue.quota.counters import QuotaCounters
from retinue.store.contract import FastGraph, GraphReader
from retinue.web.asgi import Application
from retinue.web.fast_path import FastPath
from retinue.web.faults import FaultyApplication
from retinue.web.oauth import Gate, Pause
from retinue.web.request_log import LogIds
from retinue.web.routes import Access, public_routes
from retinue.web.trusted_proxies import NO_PROXIES, TrustedProxies


def clients(access: AccessStore, clock: Clock) -> Clients:
    """Return the register of clients, with the operating system's randomness."""
    return Clients(access, clock, secrets.token_bytes)


def authenticator(access: AccessStore, clock: Clock, *, registers: bool = False) -> Authenticator:
    """Return the credentials check. `registers` accepts unknown clients."""
    return Authenticator(access, clock, secrets.token_bytes, registers=registers)


def log_ids(clock: Clock) -> LogIds:
    """Return the generator of log_ids, with the operating system's randomness."""
    return LogIds(clock, secrets.token_bytes)


def gated(
    access: AccessStore, counters: QuotaCounters, clock: Clock, pause: Pause = asyncio.sleep, *, registers: bool = False
) -> Access:
    """Return the access control of the public listener. `pause` delays failures."""
    known, quotas = authenticator(access, clock, registers=registers), Quotas(counters, clock)
    return Access(known, quotas, Gate(known, quotas, pause))


class Public(Struct, frozen=True):
    """The parts of the public listener, without its graph."""

    access: Access
    auditor: Auditor
    clock: Clock
    log_ids: LogIds
    proxies: TrustedProxies = NO_PROXIES


def public_application(graph: GraphReader[bytes], public: Public) -> Application:
    """Return the application of the public listener."""
    routes = public_routes(Following(graph, public.clock), public.access)
    return Application(routes, public.log_ids, public.auditor, public.clock, public.proxies)


def faulty_application(
    graph: GraphReader[bytes], public: Public, faults: SharedFaults, pause: Pause = asyncio.sleep
) -> FaultyApplication:
    """Return the public application of a sandbox, behind injected faults."""
    return FaultyApplication(
        public_application(graph, public),
        Following(graph, public.clock),
        public.access.authenticator,
        public.clock,
        FaultInjector(faults),
        pause,
    )


def fast_path(graph: FastGraph, public: Public) -> FastPath:
    """Return the fast path to the same responses."""
    return FastPath(graph, public.access, public.auditor, public.clock, public.log_ids, public.proxies)
