"""CPU time of each step of an answer by itself.

The same requests as in the comparison, through the parts of a worker. Every step is done for all requests in their
order before the next one begins; so each finds the processor's caches warmer than in a server, and together they take
less than the whole answer. Last comes the least that a server in Python can be (special_servers.py).
"""

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import msgspec

from connections import connecting, microseconds
from debian import WRK
from retinue import wiring
from retinue.access.contract import Checkpoint
from retinue.audit.log import AuditLog, RotationPolicy
from retinue.audit.record import Auditor, AuditRecord
from retinue.audit.usage import RequestCounters
from retinue.clock import SystemClock
from retinue.following import page_request_of
from retinue.model import (
    RESEARCH_SCOPE,
    Account,
    ClientChange,
    Direction,
    PageRequest,
    Pool,
    Query,
    RateLimit,
    RegisteredClient,
)
from retinue.serving.worker import GC_THRESHOLDS
from retinue.settings import Settings
from retinue.store.contract import EncodedRows, FastGraph
from retinue.store.open import ServedGraph, open_store
from retinue.web.fast_path import Head
from retinue.wire import parsing, rendering
from running import Failed, running
from scenario import CLIENT_CORE, SERVER_CORE, Report, Scenario
from workload import Size, Traffic, draw_bodies, drive, generated, write_lines

MAX_COUNTS = (20, 100)
ALL_IN_MEMORY_MIB = 16 * 1024
BATCH = 100  # records that reach the coordinator together
FIXED_SECONDS = 2
CONNECTION_REQUESTS = 5_000  # answered in less than the second for which a token is cached
ENVELOPE_BYTES = 350  # of head and body around the rows

_ASKED = (
    b"POST /v2/research/user/following/ HTTP/1.1\r\nHost: localhost\r\nAuthorization: %b\r\nContent-Length: %d\r\n\r\n"
)
_ASKED_ONCE = _ASKED.replace(b"Authorization", b"X-Request-Id: %d\r\nAuthorization")
_DEFAULTS = [(b"date", b"Sun, 01 Nov 2026 00:00:00 GMT"), (b"server", b"retinue")]
_SERVERS = Path(__file__).with_name("special_servers.py")
_INVALID = "an invalid token"
_UNKNOWN = "an unknown account"
_LOG_ID = "20261101000000" + 20 * "0"
_AMPLE = ClientChange(name="steps", list_calls=10**9, list_rows=10**11, rate=RateLimit(1_000_000, 1))
_KEEPING = RotationPolicy(file_bytes=2**40, file_seconds=2**31)
_encode = msgspec.json.Encoder().encode
_Item = TypeVar("_Item")


class ListSink:
    """An audit sink that keeps records."""

    def __init__(self) -> None:
        self.is_full = False
        self.records: list[AuditRecord] = []

    def add(self, record: AuditRecord) -> None:
        """Keep a record."""
        self.records.append(record)


@dataclass
class Stopwatch:
    """The median microseconds a request of each step."""

    rounds: int
    requests: int
    costs: dict[str, float] = field(default_factory=dict)

    def time(self, step: str, do: Callable[[_Item], object], items: Sequence[_Item]) -> None:
        """Do a step with all items."""
        seen = []
        for _ in range(self.rounds):
            started = time.process_time()
            for item in items:
                do(item)
            seen.append(time.process_time() - started)
        self.costs[step] = statistics.median(seen) / self.requests * 1e6


@dataclass(frozen=True, slots=True)
class Bench:
    """The parts of a worker, its requests and its store."""

    public: wiring.Public
    sink: ListSink
    client: RegisteredClient
    bodies: Sequence[bytes]
    store: Path
    watch: Stopwatch

    def fresh_token(self) -> bytes:
        """Return a header with a newly cached token."""
        authenticator = self.public.access.authenticator

        async def issue() -> bytes:
            authorization = b"Bearer " + (await authenticator.issue_token(self.client)).encode()
            await authenticator.authorize(authorization, RESEARCH_SCOPE)
            return authorization

        return asyncio.run(issue())

    @contextmanager
    def graph(self, block_cache_mib: int) -> Iterator[ServedGraph]:
        """Open the graph, with some memory for the block cache."""
        store = open_store(str(self.store))
        with closing(store.served_graph(self.public.clock, rendering.ROW_ENCODING, block_cache_mib)) as graph:
            yield graph


@dataclass(frozen=True, slots=True)
class Options:
    """The size of the graph, and the number of rounds."""

    accounts: int = 100_000
    follows: int = 50_000_000
    rounds: int = 5


def measure(options: Options) -> Report:
    """Time all steps at both page sizes."""
    gc.freeze()
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        folder = generated(Size(options.accounts, options.follows), "parquet")
        columns = {max_count: _costs(folder, max_count, options.rounds) for max_count in MAX_COUNTS}
    finally:
        gc.unfreeze()  # otherwise DuckDB warns at the end of objects that were never collected
    print(f"{options.accounts:,} accounts, {options.follows:,} follows; CPU microseconds, medians of {options.rounds}")
    print("| step | 20 rows | 100 rows |\n| --- | ---: | ---: |")
    for step in columns[MAX_COUNTS[0]]:
        print(f"| {step} | {' | '.join(f'{costs[step]:.1f}' for costs in columns.values())} |")
    return Report({"cpu_microseconds": columns})


def _costs(folder: Path, max_count: int, rounds: int) -> dict[str, float]:
    bodies = draw_bodies(folder / "accounts.parquet", folder / "follows.parquet", max_count)
    watch, sink, clock = Stopwatch(rounds, len(bodies)), ListSink(), SystemClock()
    store = folder / "graph.db"
    with (
        closing(open_store(str(store)).access()) as access,
        TemporaryDirectory(prefix="retinue-bench-") as scratch,
        closing(open_store(str(Path(scratch) / "graph.db")).quotas(alone=True)) as counters,
    ):
        auditor, log_ids = Auditor(sink, b"", clock), wiring.log_ids(clock)
        public = wiring.Public(wiring.gated(access, counters, clock), auditor, clock, log_ids)

        client = asyncio.run(wiring.clients(access, clock).create(_AMPLE)).client
        bench = Bench(public, sink, client, bodies, store, watch)
        _of_request(bench)
        requests = _of_graph(bench)
        pages = _of_block_cache(bench, requests)
        _of_answer(bench, pages)
        _of_whole(bench)
        _of_connections(bench)
        _of_coordinator(bench, Path(scratch))
        watch.costs["a fixed answer of this size over HTTP"] = _of_fixed_answer(bench, Path(scratch), pages)
    return watch.costs


# --- the steps, in the order in which a request goes through them ---------------------------------------------------


def _of_request(bench: Bench) -> None:
    authorization = bench.fresh_token()
    packets = [_ASKED % (authorization, len(body)) + body for body in bench.bodies]
    cached_grant = bench.public.access.authenticator.cached_grant
    bench.watch.time("nothing", lambda _: None, packets)
    bench.watch.time("find the end of the head", lambda packet: packet.partition(b"\r\n\r\n"), packets)

    def remember(part: Sequence[bytes]) -> None:
        authorization = bench.fresh_token()
        for _ in part:
            cached_grant(authorization, RESEARCH_SCOPE)

    bench.watch.time("token", remember, _parts(packets))
    bench.watch.time("body to query", parsing.read_plain_query, bench.bodies)


def _of_graph(bench: Bench) -> list[PageRequest]:
    queries = [parsing.read_query(body) for body in bench.bodies]
    now = bench.public.clock.now()
    with bench.graph(0) as graph:
        accounts = _accounts(graph, queries)
        bench.watch.time("account by name", lambda query: graph.find_account_nowait(query.username), queries)
        pairs = list(zip(accounts, queries, strict=True))
        bench.watch.time("rules", lambda pair: page_request_of(*pair, Direction.FOLLOWING, now), pairs)
        return [page_request_of(*pair, Direction.FOLLOWING, now) for pair in pairs]


def _accounts(graph: FastGraph, queries: Sequence[Query]) -> list[Account]:
    found = [graph.find_account_nowait(query.username) for query in queries]
    return [account for account in found if account is not None]


def _of_block_cache(bench: Bench, requests: Sequence[PageRequest]) -> list[EncodedRows]:
    found: list[EncodedRows | None] = []
    for step, block_cache_mib in (
        ("rows, as served", Settings().block_cache_mib),
        ("rows, if all came from the file", 0),
        ("rows, if all came from the block cache", ALL_IN_MEMORY_MIB),
    ):
        with bench.graph(block_cache_mib) as graph:
            for _ in range(2):  # a block is cached when it is requested twice
                for request in requests:
                    graph.read_nowait(request)
            found = [graph.read_nowait(request) for request in requests]
            bench.watch.time(step, graph.read_nowait, requests)
    return [rows for rows in found if rows is not None]


def _of_answer(bench: Bench, pages: Sequence[EncodedRows]) -> None:
    charge, log_ids, now = bench.public.access.quotas.charge, bench.public.log_ids, bench.public.clock.now()
    grant = asyncio.run(bench.public.access.authenticator.authorize(bench.fresh_token(), RESEARCH_SCOPE))
    bench.watch.time("quota", lambda rows: charge(grant, Pool.LISTS, rows.count), pages)
    bench.watch.time("log_id", lambda _: log_ids.fresh(now), pages)

    def body(rows: EncodedRows) -> bytes:
        return rendering.joined_page_body(rows.text, rows.oldest, rows.has_more, Direction.FOLLOWING, _LOG_ID)

    bench.watch.time("put the body together", body, pages)


def _of_whole(bench: Bench) -> None:
    with bench.graph(Settings().block_cache_mib) as graph:
        _accounts(graph, [parsing.read_query(body) for body in bench.bodies])
        fast_path = wiring.fast_path(graph, bench.public)

        def answer(part: Sequence[bytes]) -> None:
            authorization = bench.fresh_token()
            lengths = {len(body) for body in part}
            heads = {length: Head(Direction.FOLLOWING, "following", authorization, (), length) for length in lengths}
            bench.sink.records.clear()
            for body in part:
                fast_path.answer(heads[len(body)], body, "127.0.0.1", _DEFAULTS)
            if len(bench.sink.records) < len(part):
                raise Failed(f"of {len(part):,} requests the fast path answered {len(bench.sink.records):,}")

        bench.watch.time("the whole answer", answer, _parts(bench.bodies))


def _of_connections(bench: Bench) -> None:
    """Time whole requests by their path, with uvicorn's protocol but without sockets."""
    with bench.graph(Settings().block_cache_mib) as graph:
        application = wiring.public_application(graph, bench.public)
        fast_path = wiring.fast_path(graph, bench.public)
        bodies = bench.bodies[:CONNECTION_REQUESTS]
        unknown = [b'{"username":"nobody%d"}' % number for number in range(len(bodies))]
        for step, is_fast, head, asked in (
            ("fast path", True, _ASKED, bodies),
            ("fast path, heads that never repeat", True, _ASKED_ONCE, bodies),
            ("ASGI path", False, _ASKED, bodies),
            (_INVALID, True, _ASKED, bodies),
            (_UNKNOWN, True, _ASKED, unknown),
        ):
            seen = []
            for _ in range(bench.watch.rounds + 1):  # the first one warms up
                authorization = b"Bearer unknown" if step == _INVALID else bench.fresh_token()
                packets = [
                    head % (*([number] if head is _ASKED_ONCE else []), authorization, len(body)) + body
                    for number, body in enumerate(asked)
                ]
                bench.sink.records.clear()
                seen.append(microseconds(partial(connecting, application, fast_path if is_fast else None), packets))
                _require_expected(step, bench.sink.records)
            bench.watch.costs[f"a connection: {step}"] = statistics.median(seen[1:])


def _require_expected(step: str, records: Sequence[AuditRecord]) -> None:
    """Raise `Failed` if requests were not answered as their step expects."""
    expected = {_INVALID: "access_token_invalid", _UNKNOWN: "invalid_params"}.get(step, "ok")
    others = {record.code for record in records} - {expected}
    if others or not records:
        raise Failed(f"{step}: {len(records):,} requests, some answered with {sorted(others)}")


def _parts(items: Sequence[_Item]) -> list[Sequence[_Item]]:
    """Split into parts shorter than a token's time in the cache."""
    return [items[start : start + 1_000] for start in range(0, len(items), 1_000)]


def _of_coordinator(bench: Bench, scratch: Path) -> None:
    records = [bench.sink.records[number % len(bench.sink.records)] for number in range(len(bench.bodies))]
    bench.watch.time("worker: record to JSON", _encode, records)
    encoded = [_encode(record) for record in records]
    batches = [encoded[first : first + BATCH] for first in range(0, len(encoded), BATCH)]
    audit_log = AuditLog(
        scratch / "audit", Checkpoint(b"secret", 0, bytes(20), 0, bytes(20), is_open=False), _KEEPING, lambda: 0
    )
    bench.watch.time("coordinator: count", RequestCounters().add, batches)
    bench.watch.time("coordinator: chain and write", audit_log.write, batches)


def _of_fixed_answer(bench: Bench, scratch: Path, pages: Sequence[EncodedRows]) -> float:
    """Return the CPU time of the least possible server."""
    bodies = write_lines(scratch / "bodies.jsonl", bench.bodies)
    answer_bytes = statistics.median(len(rows.text) for rows in pages) + ENVELOPE_BYTES
    costs = []
    with running([sys.executable, str(_SERVERS), "bytes", f"{answer_bytes:.0f}"], core=SERVER_CORE) as server:
        for _ in range(bench.watch.rounds + 1):  # the first one warms up
            load = drive(server, Traffic(bodies, ""), FIXED_SECONDS, core=CLIENT_CORE)
            costs.append(load.cpu_microseconds)
    return statistics.median(costs[1:])


SCENARIOS: Mapping[str, Scenario[Options]] = {
    "steps": Scenario(measure, Options(), Options(500, 40_000, rounds=1), programs=(WRK,))
}
