"""The composition root: settings become a store, access, routes and applications. Used by the CLI and by tests.

Read top to bottom to see what a running Retinue is made of. The only file that knows which store is behind the
contract.
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from retinue import wire
from retinue.access.audit import Auditor
from retinue.access.clients import Clients
from retinue.access.credentials import Credentials
from retinue.access.quotas import Quotas
from retinue.clock import Clock
from retinue.errors import InputError
from retinue.following import Following
from retinue.model import Row
from retinue.store.base import AccessStore, GraphReader, HotGraph, Ledger
from retinue.store.ledger import FileLedger
from retinue.store.sqlite import backup, files
from retinue.store.sqlite.access import SqliteAccess
from retinue.store.sqlite.check import SqliteChecker
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.hot_graph import HotSqliteGraph
from retinue.store.sqlite.migration import Migrated, migrate
from retinue.store.sqlite.writer import SqliteGraphWriter
from retinue.web.asgi import Application, LogIds
from retinue.web.hot import Hot
from retinue.web.oauth import Gate, Pause
from retinue.web.peers import NO_PROXIES, Peers
from retinue.web.routes import Access, public_routes


def store_path(store: str) -> Path:
    """The file a `--store` value names. Raises `InputError` for what this program cannot open."""
    scheme, separator, _ = store.partition("://")
    if separator:
        raise InputError(f"--store {store}: there is no store of the kind {scheme!r}; give the path of a SQLite file")
    if not store:
        raise InputError("--store: is empty")
    return Path(store)


def beside(store: str, ending: str) -> Path:
    """What belongs to a store and lies beside it: `graph.db` has `graph.quotas`, `data.2024` has `data.2024.quotas`."""
    path = store_path(store)
    return path.with_name(f"{path.name.removesuffix('.db')}.{ending}")


def rejects_path(store: str) -> Path:
    """Where import puts the rows it could not load: beside the store."""
    return store_path(store).with_suffix(".rejects.jsonl")


def create_store(store: str) -> None:
    """Make an empty store where there is none."""
    files.create_store(store_path(store))


def open_graph(store: str, clock: Clock) -> SqliteGraph[Row]:
    """The graph, for reading in this process."""
    return SqliteGraph(store_path(store), clock, Row)


def open_wire_graph(store: str, clock: Clock) -> SqliteGraph[bytes]:
    """The graph, for answering requests: its rows are ready for the wire."""
    return SqliteGraph(store_path(store), clock, wire.shown_row)


def open_hot_graph(store: str, graph: SqliteGraph[bytes], image_mib: int) -> HotSqliteGraph:
    """What the same graph can answer at once, with so much memory for images. Close it before the graph."""
    return HotSqliteGraph(graph, store_path(store), image_mib * 1024 * 1024)


def open_graph_writer(store: str, clock: Clock) -> SqliteGraphWriter:
    """The graph, for writing."""
    return SqliteGraphWriter(store_path(store), clock)


def back_up(store: str, target: Path, on_progress: Callable[[int, int], None]) -> None:
    """Copy a store while it is in use."""
    backup.back_up(store_path(store), target, on_progress)


def migrate_store(store: str, on_progress: Callable[[int, int], None]) -> list[Migrated]:
    """Bring both files of a store to the schemas of this program; what became of each."""
    return migrate(store_path(store), on_progress)


def open_access(store: str) -> SqliteAccess:
    """Clients and tokens, and the anchor of the audit log."""
    path = store_path(store)
    files.open_for_reading(path, files.GRAPH).close()  # what is named is the graph, and so are its faults
    return SqliteAccess(files.access_path(path))


def store_files(store: str) -> list[Path]:
    """The files of a store that are there, without its audit log."""
    graph = store_path(store)
    mains = (graph, files.access_path(graph))
    paths = [*mains, *(main.with_name(f"{main.name}-wal") for main in mains), beside(store, "quotas")]
    return [path for path in paths if path.exists()]


def open_ledger(store: str, *, alone: bool = False) -> FileLedger:
    """The counters of quotas, beside the store. `alone`: nobody else will count there."""
    return FileLedger(beside(store, "quotas"), alone=alone)


def audit_folder(store: str, named: str = "") -> Path:
    """Where the audit log of a store lies: where a setting says, else beside it."""
    return Path(named) if named else beside(store, "audit")


def open_checker(store: str) -> SqliteChecker:
    """The store's consistency check."""
    path = store_path(store)
    return SqliteChecker(path, files.access_path(path))


def clients(access: AccessStore, clock: Clock) -> Clients:
    """The register of clients, with the operating system's randomness."""
    return Clients(access, clock, secrets.token_bytes)


def credentials(access: AccessStore, clock: Clock) -> Credentials:
    """Who asks, with the operating system's randomness."""
    return Credentials(access, clock, secrets.token_bytes)


def log_ids(clock: Clock) -> LogIds:
    """Fresh log_ids, with the operating system's randomness."""
    return LogIds(clock, secrets.token_bytes)


def gated(access: AccessStore, ledger: Ledger, clock: Clock, pause: Pause = asyncio.sleep) -> Access:
    """Who may ask the public listener, and how much. `pause` makes failures wait."""
    known, quotas = credentials(access, clock), Quotas(ledger, clock)
    return Access(known, quotas, Gate(known, quotas, pause))


class Public(Struct, frozen=True):
    """What the public listener is made of, but for its graph."""

    access: Access
    auditor: Auditor
    clock: Clock
    log_ids: LogIds
    peers: Peers = NO_PROXIES


def public_application(graph: GraphReader[bytes], public: Public) -> Application:
    """What the public listener serves."""
    routes = public_routes(Following(graph, public.clock), public.access)
    return Application(routes, public.log_ids, public.auditor, public.clock, public.peers)


def hot_way(graph: HotGraph, public: Public) -> Hot:
    """The quickest way to the same answers."""
    return Hot(graph, public.access, public.auditor, public.clock, public.log_ids, public.peers)
