"""Every invariant of the two SQLite files, verified without changes."""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import closing
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path

import apsw

from retinue.access.sqlite import wrong_checkpoint, wrong_clients
from retinue.errors import StoreUnavailable
from retinue.store.check.invariants import UNCHECKED, facts, invariants, listed, shown
from retinue.store.layout.tables import Source
from retinue.store.sqlite import files
from retinue.store.sqlite.engine import SqliteSource
from retinue.store.sqlite.files import Execute, Kind

# Indexes that SQLite makes for keys have no text. Its statistics (ANALYZE) change no result.
_OBJECTS = "SELECT type, name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_stat_'"

Layout = dict[tuple[str, str], str]


class SqliteChecker:
    """A `Checker` of both files. `wrong_rows` checks the row file."""

    def __init__(self, graph: Path, access: Path, wrong_rows: Callable[[Source], Iterable[str]]) -> None:
        self._graph_path = graph
        self._access_path = access
        self._wrong_rows = wrong_rows
        self._graph = files.open_for_reading(graph, files.GRAPH)
        self._access = files.open_for_check(access, files.ACCESS)

    async def problems(self) -> AsyncIterator[str]:
        try:
            for path, problems in self._invariants():
                for problem in listed(problems, _shown):
                    yield f"{path}: {problem}"
        except apsw.Error as error:  # such as when no read transaction can begin
            yield f"{self._graph_path}: {UNCHECKED} {_shown(error)}"

    async def facts(self) -> dict[str, int]:
        try:
            clients, tokens = (self._access.execute(f"SELECT count(*) FROM {of}").get for of in ("client", "token"))
            return {**facts(SqliteSource(self._graph)), "clients": clients, "tokens": tokens}
        except Exception as error:
            raise StoreUnavailable(f"cannot be counted: {_shown(error)}") from error

    def close(self) -> None:
        self._graph.close()
        self._access.close()

    def _invariants(self) -> Iterator[tuple[Path, Iterable[str]]]:
        graph, access = (self._graph_path, self._graph, files.GRAPH), (self._access_path, self._access, files.ACCESS)
        for path, connection, kind in (graph, access):
            yield path, _differences(connection.execute, kind)
            yield path, _damage(connection.execute)
            yield path, _dangling(connection.execute)
        with files.one_state(self._graph):  # a writer at work must not look like a fault
            for problems in invariants(SqliteSource(self._graph)):
                yield self._graph_path, problems
        yield self._graph_path, self._wrong_rows(SqliteSource(self._graph))
        yield self._access_path, wrong_clients(self._access.execute)
        yield self._access_path, wrong_checkpoint(self._access.execute)
        for path in (self._graph_path, self._access_path):
            for each in (path, *files.logs_of(path)):
                yield each, _open_to_others(each)


def _differences(execute: Execute, kind: Kind) -> Iterator[str]:
    """Yield tables and indexes that are missing, differ or do not belong."""
    declared = _declared(kind.schema)
    layout: Layout = {(noun, name): sql for noun, name, sql in execute(_OBJECTS)}
    for noun, name in sorted(declared.keys() - layout.keys()):
        yield f"the {noun} {name} is missing"
    for noun, name in sorted(layout.keys() - declared.keys()):
        yield f"the {noun} {name!r} does not belong to a {kind.noun}"
    for noun, name in sorted(declared.keys() & layout.keys()):
        if declared[noun, name] != layout[noun, name]:
            yield f"the {noun} {name} is not declared as in schema {kind.version}"
    for (mode,) in execute("PRAGMA journal_mode"):
        if mode != "wal":
            yield f"its journal mode is {mode}: readers and the writer block each other; set it to WAL with SQLite"


@cache
def _declared(schema: str) -> Layout:
    with closing(apsw.Connection(":memory:")) as connection:
        connection.execute(package_files("retinue.store.sqlite").joinpath(schema).read_text())
        return {(str(noun), str(name)): str(sql) for noun, name, sql in connection.execute(_OBJECTS)}


def _damage(execute: Execute) -> Iterator[str]:
    """Yield what SQLite's own check finds. A read-only connection skips CHECK constraints."""
    for (line,) in execute("PRAGMA integrity_check"):
        if line != "ok":
            yield f"damaged: {line}"


def _dangling(execute: Execute) -> Iterator[str]:
    for table, rowid, parent, _ in execute("PRAGMA foreign_key_check"):
        place = "a row" if rowid is None else f"row {rowid}"
        yield f"{place} of table {table} points to a row of {parent} that is not there"


def _open_to_others(path: Path) -> Iterator[str]:
    mode = path.stat().st_mode & 0o777 if path.exists() else files.FILE_MODE
    if mode & ~files.FILE_MODE:
        yield f"can be used by others (mode {mode:03o}); run chmod 600 on it"


def _shown(error: Exception) -> str:
    if isinstance(error, apsw.NoMemError):
        return "more memory is needed than there is, or a size in it is damaged"
    return " ".join(str(error).split()) if isinstance(error, apsw.Error) else shown(error)
