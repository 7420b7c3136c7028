"""A worker process: reads the store, answers the public listener. Run by the supervisor, never by hand."""

import asyncio
import gc
from contextlib import closing

from retinue import wire, wiring
from retinue.audit.channel import SocketOutbox
from retinue.audit.record import Auditor
from retinue.serving.child import live, serve_until_stopped
from retinue.serving.station import Station
from retinue.store.open import Store
from retinue.web.listener import public_server
from retinue.web.peers import Peers, trusted_networks
from retinue.web.tls import ListenerTls

# A request leaves little for the garbage collector, but each of its rounds walks through all the remembered rows.
GC_THRESHOLDS = (20_000, 50, 50)


async def work(station: Station, store: Store) -> bool:
    """Answer until told to stop; whether all audit records were handed on."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock, settings = station.open_clock(), station.settings
    graph, hot_graph = store.served_graph(clock, wire.shown_row, settings.image_mib)
    with (
        closing(graph),
        closing(hot_graph),
        closing(store.access()) as access,
        closing(store.quotas(alone=settings.workers == 1, creates=False)) as ledger,
        closing(_outbox(station)) as outbox,
    ):

        def statements_sent() -> int:
            return graph.statements_sent() + access.statements_sent() + ledger.statements_sent()

        auditor = Auditor(outbox, (await access.audit_anchor()).secret, clock, statements_sent)
        public = wiring.Public(
            wiring.gated(access, ledger, clock),
            auditor,
            clock,
            wiring.log_ids(clock),
            Peers(trusted_networks(settings.trusted_proxies)),
        )
        tls = None if station.key_pair is None else ListenerTls(station.key_pair)
        faults = station.open_faults()
        if faults is None:
            application = wiring.public_application(graph, public, at_once=store.is_local)
            hot = wiring.hot_way(hot_graph, public)
            server = public_server(application, settings, hot, tls=tls)
        else:
            front = wiring.faulty_application(graph, public, faults)
            server = public_server(front.application, settings, front=front, tls=tls)
        await serve_until_stopped(server, station, tls)
    return not outbox.has_lost


def _outbox(station: Station) -> SocketOutbox:
    counter = station.open_counters().of_worker(station.worker)
    return SocketOutbox(station.open_audit(), asyncio.get_running_loop(), counter)


if __name__ == "__main__":
    live(work, "worker")
