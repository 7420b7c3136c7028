"""A worker that changes its gate every half second, to see what each part of it costs: `open_server.py STORE REPORT`.

Serves the lists of a store to anybody, on a free port: with nothing checked, with tokens, with tokens and quotas, in
turns, in one process on the same requests. After each round it writes to the file REPORT, as JSON, the medians of the
CPU microseconds that a request cost in each of them. Nothing is recorded; with a third word, `still`, nothing is ever
checked. Prints the line that a Retinue server prints.
"""

import asyncio
import gc
import json
import statistics
import sys
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import TYPE_CHECKING, cast

import uvloop

from retinue import wiring
from retinue.audit.record import Auditor, AuditRecord, RequestContext, RequestOutcome
from retinue.clock import SystemClock
from retinue.model import Pool, Quota, QuotaKey, TokenGrant
from retinue.serving.worker import GC_THRESHOLDS
from retinue.settings import Settings
from retinue.store.ledger import FileLedger
from retinue.store.open import open_store
from retinue.store.quota_counters import QuotaStatus
from retinue.web.listener import bind, public_server
from retinue.web.routes import Access
from retinue.wire import rendering

if TYPE_CHECKING:
    from retinue.access.authentication import Authenticator
    from retinue.access.quotas import Quotas

PARTS = ("nothing", "tokens", "tokens and quotas")
TURN_SECONDS = 0.5
WARM_UP_SECONDS = 5
FEWEST_REQUESTS = 500

_GRANT = TokenGrant("anybody", frozenset(), 0, 2**40, QuotaKey(1, 0), Quota())
_QUOTA_HEADERS = QuotaStatus(None, None, None, 0)


class Switch:
    """Stands before credentials and quotas, and lets calls through to those that are on."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.part = PARTS[0]
        self.requests = 0

    async def authorize(self, authorization: bytes, scope: str) -> TokenGrant:
        """A checked grant, or anybody's."""
        return _GRANT if self.part == "nothing" else await self._access.authenticator.authorize(authorization, scope)

    def cached_grant(self, authorization: bytes, scope: str) -> TokenGrant | None:
        """The same, at once."""
        self.requests += 1
        return _GRANT if self.part == "nothing" else self._access.authenticator.cached_grant(authorization, scope)

    def remaining_rows(self, grant: TokenGrant, pool: Pool, wanted: int) -> int:
        """As many as there is quota for, or all."""
        return wanted if self.part != PARTS[-1] else self._access.quotas.remaining_rows(grant, pool, wanted)

    def charge(self, grant: TokenGrant, pool: Pool, rows: int) -> QuotaStatus | None:
        """A charge, or none."""
        return _QUOTA_HEADERS if self.part != PARTS[-1] else self._access.quotas.charge(grant, pool, rows)


class _NoSink:
    is_full = False

    def add(self, record: AuditRecord) -> None:
        pass


class _NoAuditor:
    is_full = False
    sink = _NoSink()

    def record(self, entry: RequestContext, outcome: RequestOutcome) -> None:
        pass


async def take_turns(switch: Switch, report: Path) -> None:
    """Switch on and on, and report."""
    costs: dict[str, list[float]] = {part: [] for part in PARTS}
    await asyncio.sleep(WARM_UP_SECONDS)
    while True:
        for part in PARTS:
            switch.part = part
            requests, started = switch.requests, process_time()
            await asyncio.sleep(TURN_SECONDS)
            if (count := switch.requests - requests) >= FEWEST_REQUESTS:
                costs[part].append((process_time() - started) / count * 1e6)
        if all(costs.values()):
            write(report, costs)


def write(report: Path, costs: dict[str, list[float]]) -> None:
    """Write the medians."""
    report.write_text(json.dumps({part: statistics.median(found) for part, found in costs.items()}))


async def serve(store: str, report: Path, *, is_switching: bool) -> None:
    """Serve until SIGTERM."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock = SystemClock()
    graph, hot_graph = open_store(store).served_graph(clock, rendering.encode_row, Settings().row_cache_mib)
    with (
        closing(graph),
        closing(hot_graph),
        closing(open_store(store).access()) as access_file,
        TemporaryDirectory() as folder,
        closing(FileLedger(Path(folder) / "graph.quotas", alone=True)) as ledger,
    ):
        access = wiring.gated(access_file, ledger, clock)
        switch = Switch(access)
        switched = Access(cast("Authenticator", switch), cast("Quotas", switch), access.gate)
        public = wiring.Public(switched, cast("Auditor", _NoAuditor()), clock, wiring.log_ids(clock))
        application, fast_path = wiring.public_application(graph, public), wiring.fast_path(hot_graph, public)
        listener = bind("127.0.0.1", 0)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(f"Serving {Path(store).name} on {address} (management on {address}).", flush=True)
        turns = asyncio.create_task(take_turns(switch, report) if is_switching else asyncio.sleep(0))
        await public_server(application, Settings(store=store), fast_path).serve(sockets=[listener])
        turns.cancel()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], Path(sys.argv[2]), is_switching=sys.argv[3:] != ["still"]))
