"""The coordinator process, which has everything that must exist once per server: management, audit log, maintenance.

The supervisor starts it, and again if it dies; meanwhile reads go on.
"""

import asyncio
import secrets
from contextlib import closing
from pathlib import Path
from socket import socket

from msgspec import Struct

from retinue import wiring
from retinue.access.contract import AccessStore, AuditStore
from retinue.access.management_token import management_token
from retinue.access.quotas import Quotas
from retinue.audit.channel import ChannelReceiver
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import Auditor
from retinue.audit.record_counters import RecordCounters
from retinue.audit.retention import Retention, time_without_jumps
from retinue.audit.space import SpaceMonitor
from retinue.audit.trusted_time import TimeFiles, TrustedTime
from retinue.audit.usage import RequestCounters
from retinue.audit.writer import AuditWriter
from retinue.clock import Clock
from retinue.errors import StoreError, StoreUnavailable
from retinue.ingest.apply import ApplyResult, apply_body
from retinue.serving import background
from retinue.serving.background import WriterThread
from retinue.serving.child import run_child, serve_until_stopped
from retinue.serving.child_config import ChildConfig
from retinue.settings import Settings
from retinue.store.open import OpenAccess, Store
from retinue.web.listener import management_server
from retinue.web.management import Management, management_application
from retinue.web.management_clients import client_routes
from retinue.web.management_front import Hosts, host_names
from retinue.web.metrics import Measures, metrics_page
from retinue.wire import rendering

_MIB = 1024 * 1024
_HOUR = 3600


async def coordinate(config: ChildConfig, store: Store) -> bool:
    """Run the coordinator until asked to stop. The audit log is closed last. Return whether it is complete."""
    clock, settings = config.open_clock(), config.settings
    with (
        closing(store.access()) as access,
        closing(store.quotas(creates=False)) as quotas,
        closing(WriterThread(lambda: store.writer(clock))) as graph,
        closing(store.row_file(rendering.ROW_ENCODING)) as rows,
    ):
        counters, folder = RequestCounters(), store.paths.audit_folder(settings.audit_folder)
        secret = (await access.audit_checkpoint()).secret
        audit = await _begun_audit(config, folder, access, clock, counters)
        retention = _retention(settings, folder, secret, audit, access, clock)
        inbox = ChannelReceiver(socket(fileno=config.audit), audit.write, audit.flush)
        tasks = [
            asyncio.create_task(retention.run()),
            asyncio.create_task(background.maintain(graph, clock)),
            asyncio.create_task(background.update_rows(rows)),
            asyncio.create_task(background.settle(audit, quotas)),
            asyncio.create_task(background.recount(audit, quotas, access, folder, retention.trusted)),
        ]
        backend = _Backend(store, clock, access, graph, audit, counters, retention.trusted)
        management = _management(backend, config, Quotas(quotas, clock), secret)
        application = management_application(management, client_routes(management))
        await serve_until_stopped(management_server(application), config)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        retention.finish()
        is_complete = await audit.finish(is_complete=await inbox.finish())
        if is_complete:
            quotas.set_closed_at(audit.count)
        return is_complete


def _management(backend: "_Backend", config: ChildConfig, quotas: Quotas, secret: bytes) -> Management:
    store, clock, settings = backend.store, backend.clock, config.settings
    return Management(
        str(store),
        management_token(store.paths.management_token(settings.management_token_file), secrets.token_bytes),
        wiring.clients(backend.access, clock),
        quotas,
        clock,
        wiring.log_ids(clock),
        Auditor(backend.audit, secret, clock),
        backend.apply_events,
        backend.ready,
        metrics_page(backend.counters, backend.measure),
        Hosts(host_names(settings.management_hosts)),
        config.open_faults(),
    )


class _Backend(Struct):
    """The parts of a server that the management listener shows and changes."""

    store: Store
    clock: Clock
    access: OpenAccess
    graph: WriterThread
    audit: AuditWriter
    counters: RequestCounters
    trusted: TrustedTime
    apply_lag: int | None = None

    async def apply_events(self, body: bytes) -> ApplyResult:
        """Apply events, and note how far they lag behind."""
        received_at = self.clock.now()
        outcome = await self.graph.run(lambda writer: apply_body(writer, body, received_at))
        if outcome.latest is not None:
            self.apply_lag = max(0, received_at - outcome.latest)
        return outcome

    async def ready(self) -> str:
        """Return why the server cannot answer; empty if it can."""
        try:
            await self.access.find_client("")
            self.store.graph(self.clock).close()
        except (StoreError, StoreUnavailable) as error:
            return f"store unavailable: {error}"
        if self.audit.is_full:
            return "the audit log cannot be written"
        space = self.audit.monitor.space
        return space.warning if space.is_critical else ""

    def measure(self) -> Measures:
        """Return the figures of the metrics page."""
        sizes = {path.name: path.stat().st_size for path in self.store.files()}
        return Measures(
            sizes,
            self.apply_lag,
            self.audit.count,
            self.audit.monitor.space,
            self.audit.sums.total,
            self.trusted.doubted(),
        )


async def _begun_audit(
    config: ChildConfig, folder: Path, access: AuditStore, clock: Clock, counters: RequestCounters
) -> AuditWriter:
    settings = config.settings
    checkpoint = await access.audit_checkpoint()
    policy = RotationPolicy(settings.audit_file_mib * _MIB, settings.audit_file_hours * _HOUR)
    log = AuditLog(folder, checkpoint, policy, clock.now)
    room = SpaceMonitor(folder, settings.audit_max_mib * _MIB)
    audit = AuditWriter(log, checkpoint, access, counters, RecordCounters(config.counters), room, clock)
    await audit.begin()
    return audit


def _retention(
    settings: Settings, folder: Path, secret: bytes, audit: AuditWriter, access: AccessStore, clock: Clock
) -> Retention:
    trusted = TrustedTime(TimeFiles(folder, secret), clock, lambda: time_without_jumps(folder))
    return Retention(folder, settings.audit_keep_days * 24 * _HOUR, trusted, audit, access, clock)


if __name__ == "__main__":
    run_child(coordinate, "coordinator")
