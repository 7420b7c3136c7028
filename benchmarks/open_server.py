"""A worker without its gate, to see what the gate costs: `python open_server.py STORE [tokens] [quotas]`.

Serves the lists of a store to anybody, on a free port; tokens and quotas are checked where they are named. Nothing is
recorded.
Prints the line that a Retinue server prints. For measurements only.
"""

import asyncio
import gc
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import uvloop

from retinue import assemble
from retinue.access.audit import Auditor, Entry, Outcome
from retinue.clock import SystemClock
from retinue.model import Grant, Meter, Pool, Quota
from retinue.serving.worker import GC_THRESHOLDS
from retinue.settings import Settings
from retinue.store.base import Allowance
from retinue.store.ledger import FileLedger
from retinue.web.listener import bind, public_server
from retinue.web.routes import Access

if TYPE_CHECKING:
    from retinue.access.credentials import Credentials
    from retinue.access.quotas import Quotas

_GRANT = Grant("anybody", frozenset(), 0, 2**40, Meter(1, 0), Quota())
_ALLOWANCE = Allowance(None, None, None, 0)


class _NoCredentials:
    async def authorize(self, _authorization: bytes, _scope: str) -> Grant:
        return _GRANT


class _NoQuotas:
    def rows_left(self, _grant: Grant, _pool: Pool, wanted: int) -> int:
        return wanted

    def charge(self, _grant: Grant, _pool: Pool, _rows: int) -> Allowance:
        return _ALLOWANCE


class _NoAuditor:
    is_full = False

    def record(self, entry: Entry, outcome: Outcome) -> None:
        pass


async def serve(store: str, parts: Sequence[str]) -> None:
    """Serve until SIGTERM."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock = SystemClock()
    with (
        closing(assemble.open_wire_graph(store, clock)) as graph,
        closing(assemble.open_access(store)) as access_file,
        TemporaryDirectory() as folder,
        closing(FileLedger(Path(folder) / "graph.quotas", alone=True)) as ledger,
    ):
        access = assemble.gated(access_file, ledger, clock)
        credentials = access.credentials if "tokens" in parts else cast("Credentials", _NoCredentials())
        quotas = access.quotas if "quotas" in parts else cast("Quotas", _NoQuotas())
        open_access = Access(credentials, quotas, access.gate)
        application = assemble.public_application(graph, open_access, cast("Auditor", _NoAuditor()), clock)
        listener = bind("127.0.0.1", 0)
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        print(f"Serving {Path(store).name} on {address} (management on {address}).", flush=True)
        await public_server(application, Settings(store=store)).serve(sockets=[listener])


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1], sys.argv[2:]))
