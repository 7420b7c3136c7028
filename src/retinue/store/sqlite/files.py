"""The two SQLite files of a store: creating, verifying and opening them.

SQLite's errors become `StoreError` while opening, and `StoreUnavailable` afterwards (`translated`).
"""

import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from stat import S_ISVTX
from typing import Any, Protocol, cast

import apsw

from retinue.durable import write_atomically
from retinue.errors import MissingStore, NotAStore, StoreError, StoreUnavailable, UnsupportedSchema
from retinue.safe_files import exposure, folder_exposure
from retinue.store.layout.sealing import seal
from retinue.store.layout.tables import META, new_meta

# Older versions can lose committed transactions when several processes check-point one WAL.
OLDEST_SQLITE = (3, 51, 3)
WAIT_FOR_LOCK_MS = 10_000
CACHE_KIB = 32 * 1024
LOG_SIZE_LIMIT = 64 * 1024 * 1024
LOG_PAGES = 8_000  # a frequently changed page is written back once per 32 MiB of log, not SQLite's 4
_MAX_ERROR_CHARACTERS = 200
FILE_MODE = 0o600  # the files hold names of private accounts and digests of secrets


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    `application_id` marks it in SQLite's header, and `version` is its schema's. A secret file that others may use is
    not opened.
    """

    noun: str
    cure: str
    schema: str
    application_id: int
    version: int
    is_secret: bool = False


# Our code raises these on contradictory content, such as a count without its list.
CONTRADICTIONS = (LookupError, ValueError, TypeError, ArithmeticError, AssertionError)
UNREADABLE = (apsw.Error, StoreUnavailable, *CONTRADICTIONS)


class ResultRows(Protocol):
    """The result of a statement. A damaged file may have values of any type."""

    def __iter__(self) -> Iterator[tuple[Any, ...]]: ...

    def fetchall(self) -> list[tuple[Any, ...]]: ...


Execute = Callable[..., ResultRows]

_FOR_WRITING = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    f"PRAGMA wal_autocheckpoint = {LOG_PAGES}",
    f"PRAGMA journal_size_limit = {LOG_SIZE_LIMIT}",
)

_SWITCHES = {
    # Plans must not depend on bound values, or SQLite prepares the statement again for each value.
    apsw.SQLITE_DBCONFIG_ENABLE_QPSG: 1,
    # Our schemas have no triggers or views. An attacker may add some to a file to change what is written or read.
    apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER: 0,
    apsw.SQLITE_DBCONFIG_ENABLE_VIEW: 0,
    apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA: 0,
    apsw.SQLITE_DBCONFIG_DEFENSIVE: 1,
}

GRAPH = Kind("follow graph", "`retinue import` makes a store", "graph.sql", 0x52544701, 4)
ACCESS = Kind("access file", "it belongs beside the graph", "access.sql", 0x52544101, 2, is_secret=True)


def access_path(graph_path: Path) -> Path:
    """Return the path of a graph's access file: `graph.access.db` for `graph.db`."""
    return graph_path.with_suffix(f".access{graph_path.suffix}")


def create_store(graph_path: Path) -> None:
    """Create an empty store if none exists. The graph comes last: if it exists, the store is complete."""
    if not graph_path.parent.is_dir():
        raise StoreError(f"{graph_path}: cannot be created: the folder {graph_path.parent} does not exist")
    if graph_path.exists():
        _open(graph_path, GRAPH, apsw.SQLITE_OPEN_READONLY).close()
    _require_private(graph_path, GRAPH)
    _create(access_path(graph_path), ACCESS)
    _create(graph_path, GRAPH)


def _create(path: Path, kind: Kind) -> None:
    """Create a missing file with its schema, completely or not at all."""
    _require_sqlite()
    if path.exists():
        _open(path, kind, apsw.SQLITE_OPEN_READONLY).close()
        return
    try:
        with write_atomically(path, replaces=False) as unfinished:
            _write_schema(unfinished, kind)
    except OSError as error:
        raise StoreError(f"{path}: cannot be created: {error.strerror}") from error
    except apsw.Error as error:
        raise StoreError(f"{path}: cannot be created: {cause_of(error, path)}") from error


def keep_temporary_in_memory() -> None:
    """Keep SQLite's temporary files in memory. Call before anything is opened."""
    apsw.shutdown()
    apsw.config(apsw.SQLITE_CONFIG_STMTJRNL_SPILL, -1)
    apsw.initialize()
    apsw.connection_hooks.append(_keep_tables_in_memory)


def _keep_tables_in_memory(connection: apsw.Connection) -> None:
    connection.execute("PRAGMA temp_store = MEMORY")


@contextmanager
def kept_open(graph_path: Path) -> Iterator[None]:
    """Keep both files open. SQLite then neither removes nor creates their logs."""
    with closing(open_for_writing(graph_path, GRAPH)), closing(open_for_writing(access_path(graph_path), ACCESS)):
        yield


def open_for_reading(path: Path, kind: Kind) -> apsw.Connection:
    """Return a connection that cannot write."""
    return _open(path, kind, apsw.SQLITE_OPEN_READONLY, f"PRAGMA cache_size = -{CACHE_KIB}")


def open_for_check(path: Path, kind: Kind) -> apsw.Connection:
    """Return a read-only connection, even to a file that others may use."""
    return _open(path, replace(kind, is_secret=False), apsw.SQLITE_OPEN_READONLY)


def open_for_writing(path: Path, kind: Kind) -> apsw.Connection:
    """Return a connection whose commits survive a crash of the machine."""
    return _open(path, kind, apsw.SQLITE_OPEN_READWRITE, *_FOR_WRITING)


def executor(connection: apsw.Connection) -> Execute:
    """Return the `execute` of a new cursor. Read each statement to its end before the next."""
    return cast("Execute", connection.cursor().execute)


@contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """Run the block in a write transaction. It is rolled back on an error."""
    with translated(f"{connection.filename}: "):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def touch(connection: apsw.Connection, kind: Kind) -> None:
    """Make the pending commit wait for the disk, even without changes.

    A commit without changes returns at once, although the state that it found may not be on disk yet. So write a page
    that stays the same.
    """
    connection.execute(f"PRAGMA user_version = {kind.version}")


@contextmanager
def one_state(connection: apsw.Connection) -> Iterator[None]:
    """Run the block in a read transaction."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        with suppress(apsw.Error):  # damage may have ended it already
            connection.execute("ROLLBACK")


@contextmanager
def translated(place: str = "") -> Iterator[None]:
    """Translate SQLite's errors, and ours on contradictory content. Messages begin with `place`."""
    try:
        yield
    except apsw.Error as error:
        raise StoreUnavailable(f"{place}{error}") from error
    except UnicodeEncodeError:  # in the query's values, not in stored content
        raise
    except CONTRADICTIONS as error:
        raise StoreUnavailable(f"{place}{_contradiction(error)}") from error


def _contradiction(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    text = " ".join(str(error).split())[:_MAX_ERROR_CHARACTERS]
    return f"the content contradicts itself ({type(error).__name__} at {place}: {text}); run `retinue check`"


def cause_of(error: apsw.Error, path: Path) -> str:
    """Return why SQLite failed with a file, suggesting a remedy."""
    if isinstance(error, apsw.FullError):
        return "the disk is full"
    if isinstance(error, apsw.CantOpenError | apsw.ReadOnlyError) and not os.access(path.parent, os.W_OK):
        return f"nothing can be written to its folder {path.parent.absolute()}, and SQLite needs files beside it"
    # The message may be "not an error", such as after a backup, but the code is right.
    code = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", 0))
    return str(code) if str(error) == "not an error" and code else str(error)


def logs_of(path: Path) -> list[Path]:
    """Return the paths of SQLite's log files beside a file."""
    main = path.resolve()
    return [main.with_name(f"{main.name}{ending}") for ending in ("-wal", "-shm")]


def _require_private(path: Path, kind: Kind) -> None:
    """Raise `StoreError` if others may read secrets or replace the files."""
    main = path.resolve()
    secret = (main, *logs_of(main)) if kind.is_secret else ()
    reasons = [*map(exposure, secret)] or [folder_exposure(main.parent, S_ISVTX)]
    for reason in filter(None, reasons):
        raise StoreError(reason)


def _open(path: Path, kind: Kind, flags: int, *settings: str) -> apsw.Connection:
    _require_sqlite()
    if not path.exists():
        raise MissingStore(f"{path}: there is no {kind.noun} here; {kind.cure}")
    if not path.is_file():  # SQLite would wait endlessly for the other end of a pipe
        raise NotAStore(f"{path}: not a Retinue {kind.noun} (it is {'a folder' if path.is_dir() else 'no file'})")
    _require_private(path, kind)
    try:
        connection = apsw.Connection(str(path), flags=flags)
    except apsw.Error as error:
        raise StoreError(f"{path}: cannot be opened: {cause_of(error, path)}") from error
    try:
        connection.set_busy_timeout(WAIT_FOR_LOCK_MS)
        for switch, value in _SWITCHES.items():
            connection.config(switch, value)
        connection.execute("PRAGMA cell_size_check = ON")  # stricter checks of each page that is read
        _require_ours(connection, path, kind)
        for setting in settings:
            connection.execute(setting)
    except apsw.Error as error:
        connection.close()
        raise NotAStore(f"{path}: cannot be read: {cause_of(error, path)}") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _require_sqlite() -> None:
    found = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    if found < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise StoreError(f"SQLite {apsw.sqlite_lib_version()} is too old to be trusted with a store; need {wanted}")


def _require_ours(connection: apsw.Connection, path: Path, kind: Kind) -> None:
    try:
        application_id = int(connection.execute("PRAGMA application_id").get)
        version = int(connection.execute("PRAGMA user_version").get)
    except apsw.NotADBError:
        raise NotAStore(f"{path}: not a Retinue {kind.noun} (it is no SQLite file)") from None
    except apsw.Error as error:
        raise StoreError(f"{path}: cannot be read: {cause_of(error, path)}") from error
    if application_id == ACCESS.application_id != kind.application_id:
        raise NotAStore(f"{path}: not a Retinue {kind.noun} (it is the access file that belongs to one)")
    if application_id != kind.application_id:
        what = "another program's SQLite file" if path.stat().st_size else "empty"
        raise NotAStore(f"{path}: not a Retinue {kind.noun} (it is {what})")
    if version < 1:
        raise NotAStore(f"{path}: not a Retinue {kind.noun} (there is no schema {version}; it is damaged)")
    if version != kind.version:
        raise UnsupportedSchema(path, version, kind.version)


def _write_schema(path: Path, kind: Kind) -> None:
    with ExitStack() as undo, closing(apsw.Connection(str(path))) as connection:
        for ending in ("-journal", "-wal", "-shm"):
            undo.callback(path.with_name(f"{path.name}{ending}").unlink, missing_ok=True)
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(files("retinue.store.sqlite").joinpath(kind.schema).read_text())
        if kind is GRAPH:
            new_rows = [(key, seal(META, key, content)) for key, content in new_meta().items()]
            connection.executemany("INSERT INTO meta (key, value) VALUES (?, ?)", new_rows)
        connection.execute(f"PRAGMA application_id = {kind.application_id}")
        connection.execute(f"PRAGMA user_version = {kind.version}")
        # Closing moves the log into the file too, but hides a failure, such as a full disk.
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
