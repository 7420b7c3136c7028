"""Opening the parts of a store in a cluster, by what stands in `--store`."""

from collections.abc import Callable
from pathlib import Path
from random import SystemRandom
from secrets import token_hex
from threading import Event

from retinue.clock import Clock
from retinue.durable import PUBLIC, write_atomically
from retinue.model import Shown_co
from retinue.store.cassandra import store
from retinue.store.cassandra.access import CassandraAccess
from retinue.store.cassandra.check import CassandraChecker
from retinue.store.cassandra.graph import CassandraGraph
from retinue.store.cassandra.ledger import LeasedLedger
from retinue.store.cassandra.location import parse
from retinue.store.cassandra.retry import Backoff
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.whole import WholeCassandraGraph
from retinue.store.cassandra.writer import CassandraGraphWriter
from retinue.store.ledger import FileLedger


def open_graph(location: str, clock: Clock, show: Callable[[str, str], Shown_co]) -> CassandraGraph[Shown_co]:
    """The graph, for reading."""
    return CassandraGraph(_session(location), clock, show)


def open_graph_writer(location: str, clock: Clock) -> CassandraGraphWriter:
    """The graph, for writing."""
    return CassandraGraphWriter(_session(location), _backoff(clock))


def open_whole(location: str) -> WholeCassandraGraph:
    """The graph, for reading from one end to the other."""
    return WholeCassandraGraph(_session(location))


def open_access(location: str, node: str) -> CassandraAccess:
    """Clients and tokens, and the checkpoint of this machine's audit log."""
    return CassandraAccess(_session(location), node)


def open_ledger(location: str, file: FileLedger, node: str) -> LeasedLedger:
    """The counters of quotas of this machine."""
    return LeasedLedger(file, _session(location), node)


def open_checker(location: str, clock: Clock) -> CassandraChecker:
    """The store's consistency check."""
    return CassandraChecker(_session(location), _backoff(clock))


def create(location: str, replication: int) -> bool:
    """Make a store where there is none; whether it was made."""
    return store.create(parse(location), replication)


def node_in(path: Path) -> str:
    """The name in a file, which is made with a new one if it is not there: whole or not at all."""
    if not path.exists():
        with write_atomically(path, replaces=False, mode=PUBLIC) as unfinished:
            unfinished.write_text(token_hex(8))
    return path.read_text()


def require(location: str) -> None:
    """Raise a `StoreError` where there is no store."""
    _session(location).close()


def _backoff(clock: Clock) -> Backoff:
    return Backoff(clock.elapsed, Event().wait, SystemRandom().random)  # the event is never set: a pause


def _session(location: str) -> Session:
    return store.open_session(parse(location))
