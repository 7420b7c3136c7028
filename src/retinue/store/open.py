"""Open a store by its URL at the edge of the program.

A backend's libraries are imported when a store of its kind is opened.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from retinue.access.contract import AccessStore, AuditStore
from retinue.clock import Clock
from retinue.errors import InputError
from retinue.model import Row, RowEncoding, Shown_co
from retinue.quota.counters import QuotaCounters, Restoring
from retinue.store.bulk import BulkWriter
from retinue.store.cassandra.location import SCHEME, is_location, parse
from retinue.store.contract import Checker, Closing, FastGraph, GraphReader, GraphWriter
from retinue.store.paths import Reach, StorePaths
from retinue.store.reading.scan import GraphScan


class Remote(Protocol):
    """A part that may use a network."""

    def statements_sent(self) -> int:
        """Return the number of statements sent over the network."""
        ...


class OpenGraph(GraphReader[Shown_co], Remote, Closing, Protocol[Shown_co]):
    """The graph, for reading."""


class ServedGraph(OpenGraph[bytes], FastGraph, Protocol):
    """The graph, for answers with or without awaiting."""


class OpenRowFile(Closing, Protocol):
    """The row file, for the process that updates it."""

    def step(self) -> bool:
        """Write some changed or new rows; return whether more remain."""
        ...


class OpenWriter(GraphWriter, BulkWriter, Closing, Protocol):
    """The graph, for writing."""


class OpenAccess(AccessStore, AuditStore, Remote, Closing, Protocol):
    """Clients, tokens, and the checkpoint of the audit log."""


class OpenQuotas(QuotaCounters, Restoring, Remote, Closing, Protocol):
    """The counters of quotas."""

    def settle(self) -> None:
        """Make what was counted survive a power loss."""
        ...


class Store(Protocol):
    """A store that is not open yet. `str` returns its location without secrets.

    Methods raise `StoreError` if it cannot be used, and `InputError` for unsupported operations.
    """

    @property
    def paths(self) -> StorePaths:
        """The files of this machine that belong to it."""
        ...

    def create(self) -> bool:
        """Create the store; return False if it exists."""
        ...

    def create_in_cluster(self, replication: int) -> bool:
        """Create a keyspace with its tables; return whether it is new.

        Each row is on `replication` nodes.
        """
        ...

    def graph(self, clock: Clock) -> OpenGraph[Row]:
        """Open the graph for reading."""
        ...

    def served_graph(self, clock: Clock, encoding: RowEncoding, cache_mib: int) -> ServedGraph:
        """Open the graph for a server: encoded rows, `cache_mib` of blocks."""
        ...

    def row_file(self, encoding: RowEncoding) -> OpenRowFile:
        """Open the row file for updates."""
        ...

    def writer(self, clock: Clock) -> OpenWriter:
        """Open the graph for writing."""
        ...

    def scan(self) -> GraphScan:
        """Open the graph for a complete read."""
        ...

    def access(self) -> OpenAccess:
        """Open clients, tokens and the audit checkpoint."""
        ...

    def quotas(self, *, alone: bool = False, creates: bool = True) -> OpenQuotas:
        """Open the quota counters. `alone`: no other process counts.

        Without `creates`, they must exist.
        """
        ...

    def checker(self, clock: Clock, encoding: RowEncoding) -> Checker:
        """Open the consistency check; `encoding` is that of the row file."""
        ...

    def back_up(self, target: Path, on_progress: Callable[[int, int], None]) -> None:
        """Copy the store while it is in use."""
        ...

    def files(self) -> list[Path]:
        """Return existing files, without the audit log."""
        ...

    def reach(self) -> Reach:
        """Return the files and ports of a running server. The files exist."""
        ...

    def held_open(self) -> AbstractContextManager[None]:
        """Keep the store's files in place."""
        ...

    def keep_temporary_in_memory(self) -> None:
        """Make no temporary files in this process."""
        ...


def open_store(url: str, cache_folder: str = "") -> Store:
    """Return the store at a URL: a SQLite file's path, or `cassandra://...`.

    `cache_folder` is for what a cluster's server can build again; empty: the current folder. Raises `InputError` if the
    URL is neither, or the backend's library is missing.
    """
    if is_location(url):
        return _cluster(url, Path(cache_folder))
    if "://" in url:
        kind = url.partition("://")[0]
        raise InputError(f"--store {kind}://...: there is no such kind of store; give the path of a SQLite file")
    if not url:
        raise InputError("--store: is empty")
    from retinue.store.sqlite.backend import SqliteStore  # noqa: PLC0415 - its library comes with an extra

    return SqliteStore(Path(url))


def _cluster(url: str, cache_folder: Path) -> Store:
    location = parse(url)
    try:
        from retinue.store.cassandra.backend import CassandraStore  # noqa: PLC0415 - its library comes with an extra
    except ModuleNotFoundError as error:
        raise InputError(f"--store {SCHEME}://...: needs {error.name}; pip install 'retinue[cassandra]'") from error
    return CassandraStore(location, cache_folder)
