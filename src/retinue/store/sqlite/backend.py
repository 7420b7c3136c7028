"""A store in two SQLite files: the graph, and the access file beside it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from retinue.clock import Clock
from retinue.errors import InputError
from retinue.model import Row
from retinue.store.file_quota_counters import FileQuotaCounters
from retinue.store.paths import Reach, StorePaths
from retinue.store.sqlite import files
from retinue.store.sqlite.access import SqliteAccess
from retinue.store.sqlite.backup import back_up
from retinue.store.sqlite.check import SqliteChecker
from retinue.store.sqlite.fast_graph import SqliteFastGraph
from retinue.store.sqlite.graph import SqliteGraph
from retinue.store.sqlite.graph_scan import SqliteGraphScan
from retinue.store.sqlite.writer import SqliteGraphWriter

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

    def served_graph(
        self, clock: Clock, encode_row: Callable[[str, str], bytes], cache_mib: int
    ) -> tuple[SqliteGraph[bytes], SqliteFastGraph]:
        graph = SqliteGraph(self._path, clock, encode_row)
        try:
            return graph, SqliteFastGraph(graph, self._path, cache_mib * _MIB)
        except BaseException:
            graph.close()
            raise

    def writer(self, clock: Clock) -> SqliteGraphWriter:
        return SqliteGraphWriter(self._path, clock)

    def scan(self) -> SqliteGraphScan:
        return SqliteGraphScan(self._path)

    def access(self) -> SqliteAccess:
        files.open_for_reading(self._path, files.GRAPH).close()  # its errors come first, since it is what was named
        return SqliteAccess(self._access_path)

    def quotas(self, *, alone: bool = False, creates: bool = True) -> FileQuotaCounters:
        return FileQuotaCounters(self.paths.quotas, alone=alone, creates=creates)

    def checker(self, clock: Clock) -> SqliteChecker:  # noqa: ARG002 - of the contract
        return SqliteChecker(self._path, self._access_path)

    def back_up(self, target: Path, on_progress: Callable[[int, int], None]) -> None:
        back_up(self._path, target, on_progress)

    def files(self) -> list[Path]:
        mains = (self._path, self._access_path)
        logs = (main.with_name(f"{main.name}-wal") for main in mains)
        return [path for path in (*mains, *logs, self.paths.quotas) if path.exists()]

    def reach(self) -> Reach:
        mains = [path.resolve() for path in (self._path, self._access_path)]
        logs = [main.with_name(f"{main.name}-{ending}") for main in mains for ending in ("wal", "shm")]
        return Reach([*mains, *logs, self.paths.quotas])

    def held_open(self) -> AbstractContextManager[None]:
        return files.kept_open(self._path)

    def keep_temporary_in_memory(self) -> None:
        files.keep_temporary_in_memory()
