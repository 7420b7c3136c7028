"""The composition root: settings become a store, access, routes and applications. Used by the CLI and by tests.

Read top to bottom to see what a running Retinue is made of. The only file that knows which store is behind the
contract.
"""

import asyncio
import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any

from msgspec import Struct

from retinue.access.clients import Clients
from retinue.access.credentials import Credentials
from retinue.access.quotas import Quotas
from retinue.audit.record import Auditor
from retinue.clock import Clock
from retinue.errors import InputError
from retinue.faults import Fates, SharedFaults
from retinue.following import Following
from retinue.model import Row, Shown_co
from retinue.store.bulk import BulkWriter
from retinue.store.cassandra.location import SCHEME, is_location, parse
from retinue.store.contract import AccessStore, GraphReader, HotGraph
from retinue.store.ledger import FileLedger
from retinue.store.opened import (
    Asking,
    ColdGraph,
    OpenAccess,
    OpenChecker,
    OpenGraph,
    OpenHotGraph,
    OpenLedger,
    OpenWhole,
    OpenWriter,
)
from retinue.store.quota_counters import Ledger
from retinue.store.sqlite import backup, files
from retinue.store.sqlite.access import SqliteAccess
from retinue.store.sqlite.check import SqliteChecker
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.hot_graph import HotSqliteGraph
from retinue.store.sqlite.whole import WholeSqliteGraph
from retinue.store.sqlite.writer import SqliteGraphWriter
from retinue.web.asgi import Application
from retinue.web.fast_path import FastPath
from retinue.web.faults import FaultyApplication, Ground
from retinue.web.oauth import Gate, Pause
from retinue.web.request_log import LogIds
from retinue.web.routes import Access, public_routes
from retinue.web.trusted_proxies import NO_PROXIES, TrustedProxies
from retinue.wire import rendering

# --- which store ------------------------------------------------------------------------------------------------------


def store_path(store: str) -> Path:
    """The file a `--store` value names. Raises `InputError` for what is no file."""
    scheme, separator, _ = store.partition("://")
    if is_location(store):
        raise InputError(f"--store {scheme}://...: this is for a store in a SQLite file; give its path")
    if separator:
        raise InputError(f"--store {store}: there is no store of the kind {scheme!r}; give the path of a SQLite file")
    if not store:
        raise InputError("--store: is empty")
    return Path(store)


def local_path(store: str) -> Path:
    """Beside what this machine's own files of a store lie: the store itself, or for a cluster a name in this folder."""
    return Path(f"{parse(store).keyspace}.db") if is_location(store) else store_path(store)


def beside(store: str, ending: str) -> Path:
    """What belongs to a store and lies beside it: `graph.db` has `graph.quotas`, `data.2024` has `data.2024.quotas`."""
    path = local_path(store)
    return path.with_name(f"{path.name.removesuffix('.db')}.{ending}")


def lock_path(store: str) -> Path:
    """The file that the one server of a store on this machine locks."""
    return beside(store, "node") if is_location(store) else store_path(store)


def rejects_path(store: str) -> Path:
    """Where import puts the rows it could not load: beside the store."""
    return local_path(store).with_suffix(".rejects.jsonl")


def audit_folder(store: str, named: str = "") -> Path:
    """Where the audit log of a store lies: where a setting says, else beside it."""
    return Path(named) if named else beside(store, "audit")


def store_files(store: str) -> list[Path]:
    """The files of a store that are here, without its audit log."""
    paths = [beside(store, "quotas")]
    if not is_location(store):
        graph = store_path(store)
        mains = (graph, files.access_path(graph))
        paths = [*mains, *(main.with_name(f"{main.name}-wal") for main in mains), *paths]
    return [path for path in paths if path.exists()]


class Reach(Struct, frozen=True):
    """The parts of a store that a server's processes must reach: files that they change or read, and TCP ports."""

    changed: list[Path]
    read: list[Path] = []
    ports: list[int] = []


def reach_of(store: str) -> Reach:
    """Return what a running server must reach of a store. Its files exist: the supervisor has opened them."""
    quotas = beside(store, "quotas")
    if is_location(store):
        location = parse(store)
        authorities = [Path(path) for path in (location.tls_ca, location.tls_cert, location.tls_key) if path]
        return Reach([quotas], [beside(store, "node"), *authorities], [location.port])
    mains = [path.resolve() for path in (store_path(store), files.access_path(store_path(store)))]
    logs = [main.with_name(f"{main.name}-{ending}") for main in mains for ending in ("wal", "shm")]
    return Reach([*mains, *logs, quotas])


def kept_open(store: str) -> AbstractContextManager[None]:
    """Keep the files of a store, by which processes reach it, as they are while the block lasts."""
    return nullcontext() if is_location(store) else files.kept_open(store_path(store))


def keep_temporary_in_memory() -> None:
    """Have the store make no temporary files in this process. Call before anything is opened."""
    files.keep_temporary_in_memory()


def _cluster() -> Any:
    """The module that opens stores in clusters. Raises `InputError` where its driver is not installed."""
    try:
        return import_module("retinue.store.cassandra.opening")
    except ModuleNotFoundError as error:
        raise InputError(f"--store {SCHEME}://...: needs {error.name}; pip install 'retinue[cassandra]'") from error


def _node(store: str) -> str:
    """The name of this machine among those that serve a cluster, made when it is first asked for."""
    name: str = _cluster().node_in(beside(store, "node"))
    return name


# --- its parts --------------------------------------------------------------------------------------------------------


def create_store(store: str) -> bool:
    """Make an empty store where there is none; whether it was made. One in a cluster has to be there."""
    if is_location(store):
        _cluster().require(store)
        return False
    is_new = not store_path(store).exists()
    files.create_store(store_path(store))
    return is_new


def create_in_cluster(store: str, replication: int) -> bool:
    """Make a keyspace with its tables, each row on so many nodes; whether there was none."""
    if not is_location(store):
        raise InputError(f"--store {store}: is a file; the commands that write to it make it")
    is_made: bool = _cluster().create(store, replication)
    return is_made


def open_graph(store: str, clock: Clock) -> OpenGraph[Row]:
    """The graph, for reading in this process."""
    return _open_graph(store, clock, Row)


def open_wire_graph(store: str, clock: Clock) -> OpenGraph[bytes]:
    """The graph, for answering requests: its rows are ready for the wire."""
    return _open_graph(store, clock, rendering.encode_row)


def _open_graph(store: str, clock: Clock, show: Callable[[str, str], Shown_co]) -> OpenGraph[Shown_co]:
    if is_location(store):
        graph: OpenGraph[Shown_co] = _cluster().open_graph(store, clock, show)
        return graph
    return SqliteGraph(store_path(store), clock, show)


def open_hot_graph(store: str, graph: OpenGraph[bytes], image_mib: int) -> OpenHotGraph:
    """What the same graph can answer at once, with so much memory for images. Close it before the graph."""
    if isinstance(graph, SqliteGraph):
        return HotSqliteGraph(graph, store_path(store), image_mib * 1024 * 1024)
    return ColdGraph()


def open_graph_writer(store: str, clock: Clock) -> OpenWriter:
    """The graph, for writing."""
    if is_location(store):
        writer: OpenWriter = _cluster().open_graph_writer(store, clock)
        return writer
    return SqliteGraphWriter(store_path(store), clock)


def bulk_writer(writer: OpenWriter) -> BulkWriter | None:
    """What can load many follows at once with the same connection, if this store has it."""
    return writer if isinstance(writer, SqliteGraphWriter) else None


def open_whole(store: str) -> OpenWhole:
    """The graph, for reading from one end to the other."""
    if is_location(store):
        whole: OpenWhole = _cluster().open_whole(store)
        return whole
    return WholeSqliteGraph(store_path(store))


def statements_sent(*parts: Any) -> Callable[[], int]:
    """How many statements some parts of a store have sent to a cluster; none where it is a file."""
    asking = [part for part in parts if isinstance(part, Asking)]
    return lambda: sum(part.statements_sent() for part in asking)


def back_up(store: str, target: Path, on_progress: Callable[[int, int], None]) -> None:
    """Copy a store while it is in use."""
    backup.back_up(store_path(store), target, on_progress)


def open_access(store: str) -> OpenAccess:
    """Clients and tokens, and the checkpoint of the audit log."""
    if is_location(store):
        access: OpenAccess = _cluster().open_access(store, _node(store))
        return access
    path = store_path(store)
    files.open_for_reading(path, files.GRAPH).close()  # what is named is the graph, and so are its faults
    return SqliteAccess(files.access_path(path))


def open_ledger(store: str, *, alone: bool = False, creates: bool = True) -> OpenLedger:
    """The counters of quotas, beside the store. `alone`: no other process will count there."""
    file = FileLedger(beside(store, "quotas"), alone=alone, creates=creates)
    if is_location(store):
        ledger: OpenLedger = _cluster().open_ledger(store, file, _node(store))
        return ledger
    return file


def open_checker(store: str, clock: Clock) -> OpenChecker:
    """The store's consistency check."""
    if is_location(store):
        checker: OpenChecker = _cluster().open_checker(store, clock)
        return checker
    path = store_path(store)
    return SqliteChecker(path, files.access_path(path))


# --- who asks, and what is served -------------------------------------------------------------------------------------


def clients(access: AccessStore, clock: Clock) -> Clients:
    """The register of clients, with the operating system's randomness."""
    return Clients(access, clock, secrets.token_bytes)


def credentials(access: AccessStore, clock: Clock, *, registers: bool = False) -> Credentials:
    """Return the credentials check. `registers`: an unknown client is registered when it asks for a token."""
    return Credentials(access, clock, secrets.token_bytes, registers=registers)


def log_ids(clock: Clock) -> LogIds:
    """Fresh log_ids, with the operating system's randomness."""
    return LogIds(clock, secrets.token_bytes)


def gated(
    access: AccessStore, ledger: Ledger, clock: Clock, pause: Pause = asyncio.sleep, *, registers: bool = False
) -> Access:
    """Who may ask the public listener, and how much. `pause` makes failures wait."""
    known, quotas = credentials(access, clock, registers=registers), Quotas(ledger, clock)
    return Access(known, quotas, Gate(known, quotas, pause))


class Public(Struct, frozen=True):
    """What the public listener is made of, but for its graph."""

    access: Access
    auditor: Auditor
    clock: Clock
    log_ids: LogIds
    proxies: TrustedProxies = NO_PROXIES


def public_application(graph: GraphReader[bytes], public: Public) -> Application:
    """Return the application of the public listener."""
    routes = public_routes(Following(graph, public.clock), public.access)
    return Application(routes, public.log_ids, public.auditor, public.clock, public.proxies)


def faulty_application(
    graph: GraphReader[bytes], public: Public, faults: SharedFaults, pause: Pause = asyncio.sleep
) -> FaultyApplication:
    """What the public listener serves in a sandbox: the same behind faults, and nothing past them."""
    ground = Ground(
        public_application(graph, public),
        Following(graph, public.clock),
        public.access.credentials,
        public.clock,
    )
    return FaultyApplication(ground, Fates(faults), pause)


def fast_path(graph: HotGraph, public: Public) -> FastPath:
    """The quickest way to the same answers."""
    return FastPath(graph, public.access, public.auditor, public.clock, public.log_ids, public.proxies)
