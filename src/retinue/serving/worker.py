"""A worker process: reads the store, answers the public listener. Run by the supervisor, never by hand."""

import asyncio
import gc
from contextlib import closing

from retinue import assemble
from retinue.audit.channel import ChannelSender
from retinue.audit.record import Auditor
from retinue.serving.child import live, serve_until_stopped
from retinue.serving.station import Station
from retinue.web.listener import ListenerTls, public_server
from retinue.web.trusted_proxies import TrustedProxies, trusted_networks

# A request leaves little for the garbage collector, but each of its rounds walks through all the remembered rows.
GC_THRESHOLDS = (20_000, 50, 50)


async def work(station: Station) -> bool:
    """Answer until told to stop; whether all audit records were handed on."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock, store = station.open_clock(), station.settings.store
    with (
        closing(assemble.open_wire_graph(store, clock)) as graph,
        closing(assemble.open_hot_graph(store, graph, station.settings.image_mib)) as hot_graph,
        closing(assemble.open_access(store)) as access,
        closing(assemble.open_ledger(store, alone=station.settings.workers == 1, creates=False)) as ledger,
        closing(_audit_sink(station)) as sink,
    ):
        statements = assemble.statements_sent(graph, access, ledger)
        auditor = Auditor(sink, (await access.audit_checkpoint()).secret, clock, statements)
        public = assemble.Public(
            assemble.gated(access, ledger, clock),
            auditor,
            clock,
            assemble.log_ids(clock),
            TrustedProxies(trusted_networks(station.settings.trusted_proxies)),
        )
        tls = None if station.key_pair is None else ListenerTls(station.key_pair)
        faults = station.open_faults()
        if faults is None:
            application = assemble.public_application(graph, public)
            fast_path = assemble.fast_path(hot_graph, public)
            server = public_server(application, station.settings, fast_path, tls=tls)
        else:
            front = assemble.faulty_application(graph, public, faults)
            server = public_server(front.application, station.settings, front=front, tls=tls)
        await serve_until_stopped(server, station, tls)
    return not sink.has_lost


def _audit_sink(station: Station) -> ChannelSender:
    counter = station.open_counters().of_worker(station.worker)
    return ChannelSender(station.open_audit(), asyncio.get_running_loop(), counter)


if __name__ == "__main__":
    live(work, "worker")
