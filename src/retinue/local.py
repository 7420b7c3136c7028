"""A server inside this process, for users' tests: the public listener, with a clock that can be advanced."""

import asyncio
import csv
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from socket import socket
from typing import Any, TypeVar

from retinue import wiring
from retinue.audit.record import Auditor, AuditRecord
from retinue.clock import VirtualClock, new_event_loop
from retinue.errors import InputError
from retinue.faults import SHARED_BYTES, Faults, SharedFaults
from retinue.ingest import records
from retinue.ingest.values import BadRecord
from retinue.model import AccountRecord, ClientChange, FollowRecord
from retinue.settings import Settings
from retinue.store.contract import Verdict
from retinue.store.open import open_store
from retinue.web.listener import bind, public_server
from retinue.wire import rendering

_HOST = "127.0.0.1"
_MAX_RECORDS = 100_000

_Record = TypeVar("_Record", AccountRecord, FollowRecord)
_Result = TypeVar("_Result")
Row = Mapping[str, Any]
Follow = Row | Sequence[Any]  # a row of a table, or (follower, followee[, second])


class Requests(deque[AuditRecord]):
    """Recent requests, oldest first: an `AuditSink` that is never full."""

    is_full = False

    def add(self, record: AuditRecord) -> None:
        """Append a record."""
        self.append(record)


class LocalServer:
    """A server, its client and the records of its requests.

    `graph` is another store to serve, never written. `registers` accepts any client.
    """

    def __init__(
        self,
        folder: Path,
        *,
        seconds_ahead: int = 0,
        graph: str = "",
        registers: bool = False,
        listener: socket | None = None,
    ) -> None:
        self.store = str(folder / "graph.db")
        self.graph = graph or self.store
        self._registers = registers
        self.clock = VirtualClock(memoryview(bytearray(seconds_ahead.to_bytes(8, sys.byteorder, signed=True))))
        self._faults = SharedFaults(memoryview(bytearray(SHARED_BYTES)))
        self.requests = Requests(maxlen=_MAX_RECORDS)
        open_store(self.store).create()
        self._listener = listener or bind(_HOST, 0)
        self.url = "" if listener else f"http://{_HOST}:{self._listener.getsockname()[1]}"
        with closing(open_store(self.store).access()) as access:
            registered = _run(wiring.clients(access, self.clock).create(ClientChange(name="test")))
        self.client_key, self.client_secret = registered.client.key, registered.secret

    @property
    def faults(self) -> Faults:
        """The injected faults, initially none. Setting them restarts the draws."""
        return self._faults.active.faults

    @faults.setter
    def faults(self, faults: Faults) -> None:
        self._faults.set(faults)

    def token(self) -> str:
        """Return a fresh token of the client, without a request."""
        with closing(open_store(self.store).access()) as access:
            authenticator = wiring.authenticator(access, self.clock)

            async def issue() -> str:
                return await authenticator.issue_token(
                    await authenticator.authenticate(self.client_key, self.client_secret)
                )

            return _run(issue())

    def limit(self, *, list_calls: int | None = None, list_rows: int | None = None) -> None:
        """Set the client's daily quota; None is unlimited."""
        change = ClientChange(list_calls=list_calls, list_rows=list_rows)
        with closing(open_store(self.store).access()) as access:
            _run(wiring.clients(access, self.clock).change(self.client_key, change))

    def load(self, *, accounts: Iterable[Row] = (), follows: Iterable[Follow] = ()) -> None:
        """Add accounts, then follows, as `retinue import` does. Raises `InputError`."""
        now = self.clock.now()
        members = [_read(records.account_record, row) for row in _rows("accounts", accounts, records.ACCOUNT_COLUMNS)]
        rows = _rows("follows", map(_as_row, follows), records.FOLLOW_COLUMNS)
        links = [_read(lambda row: records.follow_record(row, now), row) for row in rows]
        with closing(open_store(self.store).writer(self.clock)) as writer:
            verdicts = _run(writer.add_accounts(members, now)), _run(writer.add_follows(links))
        for row, verdict in zip(rows, verdicts[1], strict=True):
            if verdict not in (Verdict.ACCEPTED, Verdict.UPDATED, Verdict.DUPLICATE):
                raise InputError(f"follows: {dict(row)}: {verdict.value}")

    def load_files(self, accounts: Path, follows: Path) -> None:
        """Add the rows of two CSV files. Raises `InputError`."""
        self.load(accounts=read_csv(accounts), follows=read_csv(follows))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Answer requests in a thread until the block ends."""
        with ExitStack() as stack:
            graph = open_store(self.graph).served_graph(self.clock, rendering.ROW_ENCODING, cache_mib=0)
            stack.enter_context(closing(graph))
            access = stack.enter_context(closing(open_store(self.store).access()))
            counters = stack.enter_context(closing(open_store(self.store).quotas()))
            auditor = Auditor(self.requests, bytes(32), self.clock)
            gate = wiring.gated(access, counters, self.clock, registers=self._registers)
            public = wiring.Public(gate, auditor, self.clock, wiring.log_ids(self.clock))
            front = wiring.faulty_application(graph, public, self._faults)
            server = public_server(front.application, Settings(), front=front)
            thread = threading.Thread(target=_run, args=(server.serve(sockets=[self._listener]),))
            thread.start()
            try:
                yield
            finally:
                server.should_exit = True
                thread.join()


@contextmanager
def local_server(folder: Path, *, seconds_ahead: int = 0) -> Iterator[LocalServer]:
    """Run a server on an empty graph, its clock `seconds_ahead`."""
    server = LocalServer(folder, seconds_ahead=seconds_ahead)
    with server.answering():
        yield server


def _run(coroutine: Coroutine[Any, Any, _Result]) -> _Result:
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(coroutine)


def read_csv(path: Path) -> Iterator[Row]:
    """Yield the rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _as_row(follow: Follow) -> Row:
    if isinstance(follow, Mapping):
        return follow
    return dict(zip((*records.FOLLOW_COLUMNS.required, "followed_at"), follow, strict=False))


def _rows(table: str, rows: Iterable[Row], columns: records.Columns) -> list[Row]:
    checked = list(rows)
    for row in checked:
        if unknown := sorted(set(row) - columns.known):
            raise InputError(f"{table}: {dict(row)}: column {unknown[0]!r} does not exist")
    return checked


def _read(read: Callable[[Row], _Record], row: Row) -> _Record:
    try:
        return read(row)
    except BadRecord as bad:
        raise InputError(f"{dict(row)}: {bad}") from None
