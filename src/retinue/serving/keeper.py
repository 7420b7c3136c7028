"""The keeper process: what must exist once per server. The management listener, the audit log, and tidying up.

Run by the supervisor, never by hand. If it dies it is restarted; meanwhile reads go on.
"""

import asyncio
import logging
from contextlib import closing
from typing import Protocol

from retinue import assemble
from retinue.access.quotas import Quotas
from retinue.audit.channel import ChannelReceiver
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import Auditor
from retinue.audit.recount import DaysAhead, Recount
from retinue.audit.request_counters import RequestCounters
from retinue.audit.retaining import Retention
from retinue.audit.retention import time_without_jumps
from retinue.audit.space import SpaceMonitor
from retinue.audit.trusted_time import TimeFiles, TrustedTime
from retinue.audit.writer import CHECKPOINT_SECONDS, AuditWriter
from retinue.clock import Clock
from retinue.errors import StoreError, StoreUnavailable
from retinue.faults import SharedFaults
from retinue.ingest.apply import ApplyResult, apply_body
from retinue.serving.child import live, serve_until_stopped
from retinue.serving.graph_thread import GraphThread
from retinue.serving.station import Station
from retinue.serving.token import token_of
from retinue.settings import Settings
from retinue.store.contract import AccessStore, AuditStore
from retinue.store.opened import OpenLedger
from retinue.web.hosts import Hosts, host_names
from retinue.web.listener import management_server
from retinue.web.management import Management, management_application
from retinue.web.management_clients import client_routes
from retinue.web.management_faults import fault_routes
from retinue.web.management_front import ManagementApplication
from retinue.web.metrics import Measures, metrics_page

TIDY_SECONDS = 1
RECOUNT_SECONDS = 1  # above what a worker waits before it sends its records

_MIB = 1024 * 1024
_HOUR = 3600
_LOGGER = logging.getLogger("retinue.keeper")


async def keep(station: Station) -> bool:
    """Keep the server's house until told to stop. The audit log is closed last; whether it is complete."""
    clock, settings = station.open_clock(), station.settings
    with (
        closing(assemble.open_access(settings.store)) as access,
        closing(assemble.open_ledger(settings.store, creates=False)) as ledger,
        closing(GraphThread(lambda: assemble.open_graph_writer(settings.store, clock))) as graph,
    ):
        counters = RequestCounters()
        checkpoint = await access.audit_checkpoint()
        audit = await _begun_audit(station, access, clock, counters)
        retention = _retention(settings, checkpoint.secret, audit, access, clock)
        inbox = ChannelReceiver(station.open_audit(), audit.take, audit.flush)
        chores = [
            asyncio.create_task(retention.run()),
            asyncio.create_task(_tidy(graph, clock)),
            asyncio.create_task(_settle(audit, ledger)),
            asyncio.create_task(_recount(audit, ledger, access, settings, retention.trusted)),
        ]
        house = _House(settings, clock, access, graph, audit, counters, retention.trusted)
        application = await house.application(Quotas(ledger, clock), station.open_faults())
        await serve_until_stopped(management_server(application), station)
        for chore in chores:
            chore.cancel()
        await asyncio.gather(*chores, return_exceptions=True)
        retention.finish()
        is_complete = await audit.finish(is_complete=await inbox.finish())
        if is_complete:
            ledger.set_closed_at(audit.count)
        return is_complete


class AccessAndAudit(AccessStore, AuditStore, Protocol):
    """The access file is both."""


class _House:
    """What the management listener shows and does."""

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        access: AccessAndAudit,
        graph: GraphThread,
        audit: AuditWriter,
        counters: RequestCounters,
        trusted: TrustedTime,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._access = access
        self._graph = graph
        self._audit = audit
        self._counters = counters
        self._trusted = trusted
        self._apply_lag: int | None = None

    async def application(self, quotas: Quotas, faults: SharedFaults | None) -> ManagementApplication:
        """The management application."""
        secret = (await self._access.audit_checkpoint()).secret
        house = Management(
            self._settings.store,
            token_of(self._settings),
            assemble.clients(self._access, self._clock),
            quotas,
            self._clock,
            assemble.log_ids(self._clock),
            Auditor(self._audit, secret, self._clock),
            self._apply_events,
            self._ready,
            metrics_page(self._counters, self._measure),
            Hosts(host_names(self._settings.management_hosts)),
        )
        return management_application(house, {**client_routes(house), **fault_routes(faults)})

    async def _apply_events(self, body: bytes) -> ApplyResult:
        received_at = self._clock.now()
        outcome = await self._graph.run(lambda writer: apply_body(writer, body, received_at))
        if outcome.latest is not None:
            self._apply_lag = max(0, received_at - outcome.latest)
        return outcome

    async def _ready(self) -> str:
        """What keeps the server from answering; empty if nothing does."""
        try:
            await self._access.find_client("")
            assemble.open_graph(self._settings.store, self._clock).close()
        except (StoreError, StoreUnavailable) as error:
            return f"store unavailable: {error}"
        if self._audit.is_full:
            return "the audit log cannot be written"
        return self._audit.space.warning if self._audit.space.is_critical else ""

    def _measure(self) -> Measures:
        sizes = {path.name: path.stat().st_size for path in assemble.store_files(self._settings.store)}
        return Measures(
            sizes, self._apply_lag, self._audit.count, self._audit.space, self._audit.summed, self._trusted.doubted()
        )


async def _begun_audit(station: Station, access: AuditStore, clock: Clock, counters: RequestCounters) -> AuditWriter:
    settings = station.settings
    checkpoint = await access.audit_checkpoint()
    keeping = RotationPolicy(settings.audit_file_mib * _MIB, settings.audit_file_hours * _HOUR)
    folder = assemble.audit_folder(settings.store, settings.audit_folder)
    log = AuditLog(folder, checkpoint, keeping, clock.now)
    room = SpaceMonitor(folder, settings.audit_max_mib * _MIB)
    audit = AuditWriter(log, checkpoint, access, counters, station.open_counters(), room, clock)
    await audit.begin()
    return audit


def _retention(settings: Settings, secret: bytes, audit: AuditWriter, access: AccessStore, clock: Clock) -> Retention:
    folder = assemble.audit_folder(settings.store, settings.audit_folder)
    trusted = TrustedTime(TimeFiles(folder, secret), clock, lambda: time_without_jumps(folder))
    return Retention(folder, settings.audit_keep_days * 24 * _HOUR, trusted, audit, access, clock)


async def _settle(audit: AuditWriter, ledger: OpenLedger) -> None:
    """Bring what was written to where it survives a power loss."""
    while True:
        try:
            await audit.settle()
            await asyncio.to_thread(ledger.settle)
        except (OSError, StoreError, StoreUnavailable) as error:
            _LOGGER.warning("audit and quotas are not safe from a power loss for now: %s", error)
        except Exception:  # a chore that ended without a word would be missed too late
            _LOGGER.exception("audit and quotas are not safe from a power loss for now")
        await asyncio.sleep(CHECKPOINT_SECONDS)


async def _recount(
    audit: AuditWriter, ledger: OpenLedger, access: AccessAndAudit, settings: Settings, trusted: TrustedTime
) -> None:
    """Restore counters that were damaged while the server runs, when all records of them are in the log."""
    recount = Recount(ledger, assemble.audit_folder(settings.store, settings.audit_folder))
    days, is_told = DaysAhead(), False
    while True:
        try:
            if ledger.is_removed and not is_told:
                is_told = True
                _LOGGER.error(
                    "the file of quota counters was removed: this server counts on in it, commands do not see it, "
                    "and the next start counts the day's calls again from the audit log"
                )
            for sentence in days.sentences(ledger.newest_day(), trusted.latest()):
                _LOGGER.warning("%s", sentence)
            if not audit.is_full:
                for sentence in await recount.of_damaged(access, trusted.latest(), audit.made, audit.received):
                    _LOGGER.warning("%s", sentence)
        except (OSError, StoreError, StoreUnavailable) as error:
            _LOGGER.warning("damaged counters of quotas stay refused for now: %s", error)
        except Exception:  # a chore that ended without a word would be missed too late
            _LOGGER.exception("damaged counters of quotas stay refused for now")
        await asyncio.sleep(RECOUNT_SECONDS)


async def _tidy(graph: GraphThread, clock: Clock) -> None:
    """Readers get along with what is not tidied yet; so this leaves at least half of the time to others."""
    while True:
        started = clock.elapsed()
        try:
            has_more = await graph.run(lambda writer: writer.tidy())
        except StoreUnavailable as error:
            _LOGGER.warning("the graph is not tidied for now: %s", error)
            has_more = False
        except Exception:  # a chore that ended without a word would be missed too late
            _LOGGER.exception("the graph is not tidied for now")
            has_more = False
        await asyncio.sleep(clock.elapsed() - started if has_more else TIDY_SECONDS)


if __name__ == "__main__":
    live(keep, "keeper")
