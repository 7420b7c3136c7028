"""A store in a keyspace of a cluster.

This machine has its own quota counters and row file.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from random import SystemRandom
from secrets import token_hex
from threading import Event

from retinue.access.cassandra import CassandraAccess
from retinue.clock import Clock
from retinue.durable import PUBLIC, write_atomically
from retinue.errors import InputError
from retinue.model import Row, RowEncoding
from retinue.quota.cassandra import CassandraQuotaCounters
from retinue.quota.file_counters import FileQuotaCounters
from retinue.store.cassandra import keyspace
from retinue.store.cassandra.check import CassandraChecker
from retinue.store.cassandra.engine import CassandraEngine
from retinue.store.cassandra.graph import CassandraGraph, CassandraRowFile, open_scan
from retinue.store.cassandra.location import SCHEME, Location
from retinue.store.cassandra.retry import Backoff
from retinue.store.cassandra.session import Session
from retinue.store.paths import Reach, StorePaths
from retinue.store.reading.mapped_rows import MappedRows
from retinue.store.reading.scan import GraphScan
from retinue.store.writer import EngineGraphWriter

ROWS_MODE = 0o600

_NODE_BYTES = 8
_FEW_READS = 8


class CassandraStore:
    """A `Store` (`retinue.store.open`)."""

    def __init__(self, location: Location, cache_folder: Path) -> None:
        self._location = location
        base = Path(f"{location.keyspace}.db")
        self.paths = StorePaths(base, lock=base.with_suffix(".node"))
        self._rows = cache_folder / self.paths.rows.name

    def __str__(self) -> str:
        return str(self._location)

    def create(self) -> bool:
        self._session().close()
        return False

    def create_in_cluster(self, replication: int) -> bool:
        return keyspace.create(self._location, replication)

    def graph(self, clock: Clock) -> CassandraGraph[Row]:
        return CassandraGraph(self._session(), clock, Row)

    def served_graph(
        self,
        clock: Clock,
        encoding: RowEncoding,
        cache_mib: int,  # noqa: ARG002 - of the contract
    ) -> CassandraGraph[bytes]:
        graph = CassandraGraph(self._session(), clock, encoding.encode)
        graph.reader.shown = MappedRows(self._rows, graph.reader.cache, encoding)
        return graph

    def row_file(self, encoding: RowEncoding) -> CassandraRowFile:
        session = keyspace.open_session(self._location, _FEW_READS)  # so that pages need not wait
        return CassandraRowFile(session, self._rows, encoding)

    def writer(self, clock: Clock) -> EngineGraphWriter:
        engine = CassandraEngine(self._session(), token_hex(_NODE_BYTES), _backoff(clock), SystemRandom().random)
        return EngineGraphWriter(engine, clock)

    def scan(self) -> GraphScan:
        return open_scan(self._session())

    def access(self) -> CassandraAccess:
        return CassandraAccess(self._session(), self._node())

    def quotas(self, *, alone: bool = False, creates: bool = True) -> CassandraQuotaCounters:
        file = FileQuotaCounters(self.paths.quotas, alone=alone, creates=creates)
        return CassandraQuotaCounters(file, self._session(), self._node())

    def checker(self, clock: Clock, encoding: RowEncoding) -> CassandraChecker:  # noqa: ARG002 - of the contract
        return CassandraChecker(self._session(), _backoff(clock))

    def back_up(self, target: Path, on_progress: Callable[[int, int], None]) -> None:  # noqa: ARG002 - of the contract
        raise InputError(f"--store {SCHEME}://...: this is for a store in a SQLite file; give its path")

    def files(self) -> list[Path]:
        return [path for path in (self.paths.quotas,) if path.exists()]

    def reach(self) -> Reach:
        location = self._location
        with suppress(OSError):  # then readers do without
            self._rows.parent.mkdir(parents=True, exist_ok=True)
            self._rows.touch(ROWS_MODE)
        tls = [Path(path) for path in (location.tls_ca, location.tls_cert, location.tls_key) if path]
        return Reach([self.paths.quotas, self._rows], [self.paths.lock, *tls], [location.port])

    def held_open(self) -> AbstractContextManager[None]:
        return nullcontext()

    def keep_temporary_in_memory(self) -> None:
        """Do nothing: the driver creates no files."""

    def _session(self) -> Session:
        return keyspace.open_session(self._location)

    def _node(self) -> str:
        """Return this machine's name among the servers of a cluster."""
        path = self.paths.lock
        if not path.exists():
            with write_atomically(path, replaces=False, mode=PUBLIC) as unfinished:
                unfinished.write_text(token_hex(_NODE_BYTES))
        return path.read_text()


def _backoff(clock: Clock) -> Backoff:
    return Backoff(clock.elapsed, Event().wait, SystemRandom().random)  # the event is never set: a pause
