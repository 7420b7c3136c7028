"""A large table of follows in DuckDB: read, numbered and sorted on disk, in bounded memory.

Only ordinary rows are sorted (`staging_sql.py`); the importer stores all others one by one.
"""

import gzip
import shutil
import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import duckdb
import numpy as np

from retinue.duck import connect
from retinue.errors import InputError
from retinue.ingest import staging_sql
from retinue.ingest.parquet import ParquetTable
from retinue.ingest.sources import InputFile
from retinue.ingest.tables import CsvTable
from retinue.model import Direction
from retinue.store.bulk import NO_ACCOUNT, Follows, Numbers
from retinue.temporary import TemporaryFolder

MEMORY = "900MB"
THREADS = 2
NAMES_AT_ONCE = staging_sql.NAMES_AT_ONCE
NAMES_IN_MEMORY = 2_500_000
SAMPLED_ROWS = 1_000_000
ROWS_AT_ONCE = 200_000  # arrays of so many numbers stay in the processor's caches
MAX_OTHER_ROWS = 100_000  # or a tenth of the ordinary ones, if that is more
BYTES_PER_ROW = 80  # on disk at most, in the temporary folder and in the store together

_MIN_SPILLED_BYTES = 1_000_000_000

_LIST_COLUMNS = {
    Direction.FOLLOWING: ("follower", "followee"),
    Direction.FOLLOWERS: ("followee", "follower"),
}


class CannotLoadInBulk(Exception):
    """A table has to be imported row by row."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn errors of DuckDB and gzip into `CannotLoadInBulk`."""
    try:
        yield
    except duckdb.Error as error:
        raise CannotLoadInBulk(str(error).splitlines()[0]) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CannotLoadInBulk(f"damaged: {error}") from error


class Staging:
    """A staged table: `SortedFollows`. Call its methods in their order here.

    Raises `InputError` if the disk is too full.
    """

    def __init__(self, rows: int, received_at: int) -> None:
        self.received_at = received_at
        self._folder = TemporaryFolder()
        needed, free = rows * BYTES_PER_ROW, shutil.disk_usage(self._folder.path).free
        if needed > free:
            self._folder.close()
            raise InputError(
                f"loading {rows:,} rows may need {needed / 1e9:.1f} GB of disk, and {free / 1e9:.1f} GB are free in"
                f" {self._folder.path.parent} (TMPDIR names another folder)"
            )
        self._is_ordinary = "is_ordinary"  # the condition for a row that its pair's other rows may forbid
        self._ordinary = self._is_ordinary
        self._named = ""  # the condition `_ordinary` at which the table `name` was made
        self._duck = connect(
            self._folder.path / "staging.duckdb",
            self._folder.path / "spilled",
            memory_limit=MEMORY,
            threads=THREADS,
            max_temp_directory_size=f"{max(needed, _MIN_SPILLED_BYTES)}B",
        )
        self._sorter, self._reader = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._sorts: list[duckdb.DuckDBPyConnection] = []
        self._sorting: dict[Direction, Future[None]] = {}
        self._owners: dict[Direction, tuple[Numbers, Numbers]] = {}

    def close(self) -> None:
        """Remove the temporary files."""
        try:
            for cursor in self._sorts:
                cursor.interrupt()  # an interrupted import does not wait for its sorting
            for executor in (self._sorter, self._reader):
                executor.shutdown(cancel_futures=True)
            self._duck.close()
        finally:
            self._folder.close()

    def stage(self, table: CsvTable | ParquetTable) -> None:
        """Read a table."""
        # A view for Parquet: its columns are read again more quickly than they are copied.
        kind = "VIEW" if isinstance(table, ParquetTable) else "TABLE"
        self._duck.execute(
            f"CREATE {kind} staged AS SELECT row, follower, followee,"
            f" CASE WHEN second = 0 THEN {self.received_at} ELSE second END AS second,"
            f" second BETWEEN 1 AND {self.received_at} AND follower <> followee AND NOT says_more AS is_ordinary,"
            f" source.second <> 0 AS has_time FROM ({self._source(table)}) AS source"
        )
        # One row for each line: DuckDB neither skipped a line nor joined two.
        if (
            isinstance(table, CsvTable)
            and self._number("SELECT count(*) FROM staged") != _count_lines(table.source) - 1
        ):
            raise CannotLoadInBulk("not a row for each line")
        self._leave_out_pairs()

    def _source(self, table: CsvTable | ParquetTable) -> str:
        if isinstance(table, ParquetTable):
            return staging_sql.parquet_source(table)
        # DuckDB would treat some characters of the path as patterns.
        path = self._folder.path / f"table.csv{'.gz' if table.source.is_packed else ''}"
        path.symlink_to(table.source.path.absolute())
        return staging_sql.csv_source(table, path)

    def names(self) -> Iterator[list[str]]:
        """Yield each name in ordinary rows once, sorted for the indexes.

        Names with several spellings come last, in the order of the file.
        """
        if self._named != self._ordinary:
            self._find_names()
            self._named = self._ordinary
        reading = self._duck.cursor()
        reading.execute("SELECT name FROM name ORDER BY rowid")
        while batch := reading.fetchmany(NAMES_AT_ONCE):
            yield [name for (name,) in batch]

    def _find_names(self) -> None:
        # Names that do not fit into memory at once are found in parts, by their hashes.
        self._duck.execute("CREATE OR REPLACE TABLE found (name VARCHAR)")
        parts = self._count_parts()
        for part in range(parts):
            chosen = [f"SELECT {side} FROM staged WHERE {self._ordinary}" for side in ("follower", "followee")]
            if parts > 1:
                chosen[0] += f" AND hash(follower) % {parts} = {part}"
                chosen[1] += f" AND hash(followee) % {parts} = {part}"
            self._duck.execute(f"INSERT INTO found {' UNION '.join(chosen)}")
        staging_sql.find_spellings(self._duck, f"SELECT * FROM staged WHERE {self._ordinary}")
        self._duck.execute(
            "CREATE OR REPLACE TABLE name AS SELECT name FROM found LEFT JOIN spelling USING (name)"
            " ORDER BY place NULLS FIRST, name"
        )
        self._duck.execute("DROP TABLE found; DROP TABLE spelling")

    def _count_parts(self) -> int:
        # Counting all names takes long, so a sample tells whether that is worth it.
        sample = f"(SELECT follower, followee FROM staged LIMIT {SAMPLED_ROWS})"
        if self._count_names(sample) <= SAMPLED_ROWS // 4:
            return 1
        return -(-self._count_names("staged") // NAMES_IN_MEMORY)

    def _count_names(self, rows: str) -> int:
        both = f"SELECT follower AS name FROM {rows} UNION ALL SELECT followee FROM {rows}"
        return self._number(f"SELECT approx_count_distinct(name) FROM ({both})")

    def leave_out(self, names: Sequence[str]) -> None:
        """Leave out rows with these names, and other rows of their pairs."""
        if names:
            self._duck.execute("CREATE TABLE refused AS SELECT unnest(?) AS name", (list(names),))
            refused = "SELECT name FROM refused"
            self._is_ordinary += f" AND follower NOT IN ({refused}) AND followee NOT IN ({refused})"
            self._ordinary = self._is_ordinary
            self._leave_out_pairs()

    def _leave_out_pairs(self) -> None:
        """Leave out the pairs with other rows: the rows of a pair are stored in the order of the file."""
        self._duck.execute(
            f"CREATE OR REPLACE TABLE odd AS SELECT DISTINCT follower, followee FROM staged"
            f" WHERE ({self._is_ordinary}) IS NOT TRUE AND follower IS NOT NULL AND followee IS NOT NULL"
        )
        if self._number("SELECT count(*) FROM odd"):
            is_odd = "SELECT 1 FROM odd WHERE odd.follower = staged.follower AND odd.followee = staged.followee"
            self._ordinary = f"{self._is_ordinary} AND NOT EXISTS ({is_odd})"

    def set_account_ids(self, account_ids: Sequence[int]) -> None:
        """Set the account ids of `names`, in the same order."""
        given = np.array(account_ids, np.uint32)  # DuckDB finds it by this name
        self._duck.execute(
            "CREATE TABLE numbered AS SELECT hash(name) AS hash, column0 AS number FROM name POSITIONAL JOIN given"
        )
        del given
        # Rows get ids by the hashes of their names, of which ten million fit into memory.
        if self._number("SELECT count(*) - count(DISTINCT hash) FROM numbered"):
            raise CannotLoadInBulk("two names with one hash")  # once in a million files of ten million names
        self._duck.execute(
            "CREATE TABLE follow AS SELECT CAST(row AS UINTEGER) AS row, a.number AS follower, b.number AS followee,"
            " CAST(second AS UINTEGER) AS second, has_time FROM staged JOIN numbered a ON a.hash = hash(follower)"
            f" JOIN numbered b ON b.hash = hash(followee) WHERE {self._ordinary}"
            f" AND a.number <> {NO_ACCOUNT} AND b.number <> {NO_ACCOUNT}"
        )
        self._count = self._number("SELECT count(*) FROM follow")
        if self._number("SELECT count(*) FROM staged") - self._count > max(MAX_OTHER_ROWS, self._count // 10):
            raise CannotLoadInBulk("too few usual rows")  # loading at once would save no time

    def other_rows(self) -> Numbers:
        """Return the numbers of all rows that are left out, ascending."""
        if self._number("SELECT count(*) FROM staged") == self._count:
            return np.empty(0, np.int64)
        return self._column("SELECT row FROM staged ANTI JOIN follow USING (row) ORDER BY row")

    def groups(self, size: int) -> Iterator[Follows]:
        """Yield all follows in groups of consecutive rows, sorted by follower."""
        last = self._number("SELECT coalesce(max(row), 0) FROM follow")
        for first in range(0, last + 1, size):
            yield self._columns(
                "SELECT follower AS owner, second, followee AS account, row, has_time FROM follow"
                " WHERE row >= ? AND row < ? ORDER BY follower, second, row DESC",
                (first, first + size),
                self._duck.cursor(),
            )

    def _start_sorting(self) -> None:
        """Sort lists of following, then in the background those of followers."""
        for direction in Direction:
            self._sorts.append(self._duck.cursor())
            self._sorting[direction] = self._sorter.submit(self._sort, direction, self._sorts[-1])
        self._sorting[Direction.FOLLOWING].result()

    def owners(self, direction: Direction) -> tuple[Numbers, Numbers]:
        """Return the ascending owners of all lists, and the size of each."""
        if direction not in self._owners:
            owner, _ = _LIST_COLUMNS[direction]
            columns = self._duck.execute(
                f"SELECT {owner} AS owner, count(*) AS size FROM follow GROUP BY ALL ORDER BY owner"
            ).fetchnumpy()
            self._owners[direction] = columns["owner"].astype(np.int64), columns["size"].astype(np.int64)
        return self._owners[direction]

    def follows(self, direction: Direction) -> Iterator[Follows]:
        """Yield all follows; read the next lists in the background."""
        if not self._sorting:
            self._start_sorting()
        self._sorting[direction].result()
        owners, sizes = self.owners(direction)
        ends = np.flatnonzero(np.append(np.diff(np.cumsum(sizes) // ROWS_AT_ONCE), 1)) if len(owners) else owners
        begins = np.append(0, ends + 1)
        coming: deque[Future[Follows]] = deque()
        for first, last in zip(owners[begins[:-1]].tolist(), owners[ends].tolist(), strict=True):
            coming.append(self._reader.submit(self._read, direction, first, last, self._duck.cursor()))
            if len(coming) > 1:
                yield coming.popleft().result()
        for rest in coming:
            yield rest.result()

    def _read(self, direction: Direction, first: int, last: int, duck: duckdb.DuckDBPyConnection) -> Follows:
        # DuckDB returns rows in the order of their table.
        query = f"SELECT owner, second, account, row, has_time FROM {direction.value} WHERE owner BETWEEN ? AND ?"
        return self._columns(query, (first, last), duck)

    @staticmethod
    def _columns(query: str, values: tuple[int, int], duck: duckdb.DuckDBPyConnection) -> Follows:
        columns = duck.execute(query, values).fetchnumpy()
        duck.close()
        owners, seconds, accounts, rows = (
            columns[name].astype(np.int64) for name in ("owner", "second", "account", "row")
        )
        return Follows(owners, seconds, accounts, rows, columns["has_time"])

    @staticmethod
    def _sort(direction: Direction, duck: duckdb.DuckDBPyConnection) -> None:
        owner, account = _LIST_COLUMNS[direction]
        duck.execute(
            f"CREATE TABLE {direction.value} AS SELECT {owner} AS owner, second, {account} AS account, row, has_time"
            " FROM follow ORDER BY owner, second, row DESC"
        )

    def _number(self, query: str) -> int:
        return int(self._duck.execute(query).fetchall()[0][0])

    def _column(self, query: str) -> Numbers:
        columns: dict[str, Numbers] = self._duck.execute(query).fetchnumpy()
        (column,) = columns.values()
        return column.astype(np.int64)


def _count_lines(source: InputFile) -> int:
    lines, last = 0, b""
    with source.open() as file:
        while chunk := file.read(1 << 20):
            lines += chunk.count(b"\n")
            last = chunk
    return lines + (not last.endswith(b"\n"))
