"""A worker process, which the supervisor starts: it reads the store and answers the public listener."""

import asyncio
import gc
from contextlib import closing
from socket import socket

from retinue import wiring
from retinue.audit.channel import ChannelSender
from retinue.audit.record import Auditor
from retinue.audit.record_counters import RecordCounters
from retinue.serving.child import run_child, serve_until_stopped
from retinue.serving.child_config import ChildConfig
from retinue.store.open import Store
from retinue.web.listener import ListenerTls, public_server
from retinue.web.trusted_proxies import TrustedProxies, trusted_networks
from retinue.wire import rendering

# A request leaves little for the garbage collector, but each of its rounds visits all cached rows.
GC_THRESHOLDS = (20_000, 50, 50)


async def work(config: ChildConfig, store: Store) -> bool:
    """Answer requests until asked to stop. Return whether all audit records were sent."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock, settings = config.open_clock(), config.settings
    counter = RecordCounters(config.counters).of_worker(config.worker)
    graph = store.served_graph(clock, rendering.ROW_ENCODING, settings.block_cache_mib)
    with (
        closing(graph),
        closing(store.access()) as access,
        closing(store.quotas(alone=settings.workers == 1, creates=False)) as counters,
        closing(ChannelSender(socket(fileno=config.audit), asyncio.get_running_loop(), counter)) as outbox,
    ):

        def statements_sent() -> int:
            return graph.statements_sent() + access.statements_sent() + counters.statements_sent()

        auditor = Auditor(outbox, (await access.audit_checkpoint()).secret, clock, statements_sent)
        public = wiring.Public(
            wiring.gated(access, counters, clock),
            auditor,
            clock,
            wiring.log_ids(clock),
            TrustedProxies(trusted_networks(settings.trusted_proxies)),
        )
        tls = None if config.key_pair is None else ListenerTls(config.key_pair)
        faults = config.open_faults()
        if faults is None:
            application = wiring.public_application(graph, public)
            fast_path = wiring.fast_path(graph, public)
            server = public_server(application, settings, fast_path, tls=tls)
        else:
            front = wiring.faulty_application(graph, public, faults)
            server = public_server(front.application, settings, front=front, tls=tls)
        await serve_until_stopped(server, config, tls)
    return not outbox.has_lost


if __name__ == "__main__":
    run_child(work, "worker")
