"""A store in two SQLite files: the graph, and beside it clients and tokens."""

from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

from retinue.access.sqlite import SqliteAccess
from retinue.clock import Clock
from retinue.errors import InputError
from retinue.model import Row, RowEncoding
from retinue.quota.file_counters import FileQuotaCounters
from retinue.store.check.row_file import wrong_rows
from retinue.store.paths import Reach, StorePaths
from retinue.store.reading.mapped_rows import MappedRows
from retinue.store.reading.scan import GraphScan
from retinue.store.sqlite import files
from retinue.store.sqlite.backup import back_up
from retinue.store.sqlite.check import SqliteChecker
from retinue.store.sqlite.engine import SqliteEngine
from retinue.store.sqlite.graph import SqliteGraph, SqliteRowFile, open_scan
from retinue.store.sqlite.served_graph import SqliteServedGraph
from retinue.store.writer import EngineGraphWriter

_MIB = 1024 * 1024


class SqliteStore:
    """A `Store` (`retinue.store.open`)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._access_path = files.access_path(path)
        self.paths = StorePaths(path, lock=path)

    def __str__(self) -> str:
        return str(self._path)

    def create(self) -> bool:
        is_new = not self._path.exists()
        files.create_store(self._path)
        return is_new

    def create_in_cluster(self, replication: int) -> bool:  # noqa: ARG002 - of the contract
        raise InputError(f"--store {self}: is a file; the commands that write to it make it")

    def graph(self, clock: Clock) -> SqliteGraph[Row]:
        return SqliteGraph(self._path, clock, Row)

    def served_graph(self, clock: Clock, encoding: RowEncoding, cache_mib: int) -> SqliteServedGraph:
        graph = SqliteGraph(self._path, clock, encoding.encode)
        try:
            rows = graph.reader.shown = MappedRows(self.paths.rows, graph.reader.cache, encoding)
            return SqliteServedGraph(graph, self._path, rows, cache_mib * _MIB)
        except BaseException:
            graph.close()
            raise

    def row_file(self, encoding: RowEncoding) -> SqliteRowFile:
        return SqliteRowFile(self._path, self.paths.rows, encoding)

    def writer(self, clock: Clock) -> EngineGraphWriter:
        return EngineGraphWriter(SqliteEngine(self._path, self.paths.rows), clock)

    def scan(self) -> GraphScan:
        return open_scan(self._path)

    def access(self) -> SqliteAccess:
        files.open_for_reading(self._path, files.GRAPH).close()  # its errors come first, since it is what was named
        return SqliteAccess(self._access_path)

    def quotas(self, *, alone: bool = False, creates: bool = True) -> FileQuotaCounters:
        return FileQuotaCounters(self.paths.quotas, alone=alone, creates=creates)

    def checker(self, clock: Clock, encoding: RowEncoding) -> SqliteChecker:  # noqa: ARG002 - of the contract
        return SqliteChecker(
            self._path, self._access_path, lambda source: wrong_rows(source, self.paths.rows, encoding.text)
        )

    def back_up(self, target: Path, on_progress: Callable[[int, int], None]) -> None:
        back_up(self._path, target, on_progress)

    def files(self) -> list[Path]:
        mains = (self._path, self._access_path)
        logs = (main.with_name(f"{main.name}-wal") for main in mains)
        return [path for path in (*mains, *logs, self.paths.quotas, self.paths.rows) if path.exists()]

    def reach(self) -> Reach:
        with suppress(OSError):  # then readers do without
            self.paths.rows.touch(files.FILE_MODE)
        mains = [path.resolve() for path in (self._path, self._access_path)]
        logs = [main.with_name(f"{main.name}-{ending}") for main in mains for ending in ("wal", "shm")]
        return Reach([*mains, *logs, self.paths.quotas, self.paths.rows])

    def held_open(self) -> AbstractContextManager[None]:
        return files.kept_open(self._path)

    def keep_temporary_in_memory(self) -> None:
        files.keep_temporary_in_memory()
