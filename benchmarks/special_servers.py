"""Servers to compare Retinue with, each on a free port.

    special_servers.py page FILE            the plainest ASGI application on uvicorn: a file's bytes for every request
    special_servers.py bytes COUNT          a protocol on uvloop that answers each packet with so many bytes, unread
    special_servers.py gate STORE REPORT    a worker that switches parts of its gate on and off every half second
    special_servers.py open STORE REPORT    the same worker, in which nothing is ever checked

`gate` serves the lists of a store to every client: with nothing checked, with tokens, with tokens and quotas, in turns,
in one process on the same requests. After each round it writes to REPORT, as JSON, the medians of the CPU microseconds
of a request in each of them. Nothing is recorded.
"""

import asyncio
import gc
import json
import socket
import statistics
import sys
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory
from time import process_time
from typing import TYPE_CHECKING, Any, cast

import uvicorn
import uvloop

from retinue import wiring
from retinue.audit.record import Auditor, AuditRecord, RequestContext, RequestOutcome
from retinue.clock import SystemClock
from retinue.model import Pool, Quota, QuotaKey, TokenGrant
from retinue.quota.counters import QuotaStatus
from retinue.quota.file_counters import FileQuotaCounters
from retinue.serving.worker import GC_THRESHOLDS
from retinue.settings import Settings
from retinue.store.open import open_store
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

_GRANT = TokenGrant("unchecked", frozenset(), 0, 2**40, QuotaKey(1, 0), Quota())
_QUOTA_STATUS = QuotaStatus(None, None, None, 0)


def announced(what: str) -> socket.socket:
    """Bind a free port and print where the server listens."""
    listener = bind("127.0.0.1", 0)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    print(f"Serving {what} on {address} (management on {address}).", flush=True)
    return listener


# --- fixed answers --------------------------------------------------------------------------------------------------


def application(page: bytes) -> Callable[..., Awaitable[None]]:
    """Return an application that answers every request with a page."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(page)).encode())]

    async def answer(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": page})

    return answer


def serve_page(file: Path) -> None:
    """Serve a file until SIGTERM."""
    listener = announced(file.name)
    config = uvicorn.Config(
        application(file.read_bytes()),
        interface="asgi3",
        http="httptools",
        loop="uvloop",
        lifespan="off",
        access_log=False,
        log_level="error",
        server_header=False,
    )
    uvicorn.Server(config).run(sockets=[listener])


class FixedAnswer(asyncio.Protocol):
    """A protocol that sends its answer for each packet."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport = asyncio.Transport()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # TCP's are such
        """Keep the transport."""
        self._transport = transport

    def data_received(self, _data: bytes) -> None:
        """Send the answer."""
        self._transport.write(self._answer)


async def serve_bytes(count: int) -> None:
    """Serve bodies of `count` bytes until SIGTERM."""
    listener = announced(f"{count} bytes")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (count, b"x" * count)
    server = await asyncio.get_running_loop().create_server(lambda: FixedAnswer(answer), sock=listener)
    await server.serve_forever()


# --- the gate --------------------------------------------------------------------------------------------------------


class Switch:
    """A gate whose parts are switched on and off."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self.part = PARTS[0]
        self.requests = 0

    async def authorize(self, authorization: bytes, scope: str) -> TokenGrant:
        """Return the grant of a token, or of an unchecked client."""
        return _GRANT if self.part == "nothing" else await self._access.authenticator.authorize(authorization, scope)

    def cached_grant(self, authorization: bytes, scope: str) -> TokenGrant | None:
        """Return the same from the cache."""
        self.requests += 1
        return _GRANT if self.part == "nothing" else self._access.authenticator.cached_grant(authorization, scope)

    def remaining_rows(self, grant: TokenGrant, pool: Pool, wanted: int) -> int:
        """Return the rows within the quota, or all."""
        return wanted if self.part != PARTS[-1] else self._access.quotas.remaining_rows(grant, pool, wanted)

    def charge(self, grant: TokenGrant, pool: Pool, rows: int) -> QuotaStatus | None:
        """Charge the quota if it is switched on."""
        return _QUOTA_STATUS if self.part != PARTS[-1] else self._access.quotas.charge(grant, pool, rows)


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
    """Switch from part to part, and report."""
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


async def serve_gate(store: str, report: str, *, is_switching: bool) -> None:
    """Serve a store until SIGTERM."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    clock = SystemClock()
    graph = open_store(store).served_graph(clock, rendering.ROW_ENCODING, Settings().block_cache_mib)
    with (
        closing(graph),
        closing(open_store(store).access()) as access_file,
        TemporaryDirectory() as folder,
        closing(FileQuotaCounters(Path(folder) / "graph.quotas", alone=True)) as counters,
    ):
        access = wiring.gated(access_file, counters, clock)
        switch = Switch(access)
        switched = Access(cast("Authenticator", switch), cast("Quotas", switch), access.gate)
        public = wiring.Public(switched, cast("Auditor", _NoAuditor()), clock, wiring.log_ids(clock))
        application, fast_path = wiring.public_application(graph, public), wiring.fast_path(graph, public)
        listener = announced(Path(store).name)
        turns = asyncio.create_task(take_turns(switch, Path(report)) if is_switching else asyncio.sleep(0))
        await public_server(application, Settings(store=store), fast_path).serve(sockets=[listener])
        turns.cancel()


def main() -> None:
    """Serve what the arguments name."""
    kind, *words = sys.argv[1:]
    if kind == "page":
        serve_page(Path(words[0]))
        return
    is_switching = kind == "gate"
    serving = serve_bytes(int(words[0])) if kind == "bytes" else serve_gate(*words, is_switching=is_switching)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serving)


if __name__ == "__main__":
    main()
