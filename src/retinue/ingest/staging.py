"""A large table of follows, staged in DuckDB: read, numbered and sorted on disk, with little memory however long it is.

What a row means is `values.py`'s business; here only those forms are taken that certainly mean the same to SQL. All
other rows are `unusual`, and are read and stored one by one by whoever asked.
"""

import gzip
import shutil
import zlib
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np

from retinue.errors import InputError
from retinue.ingest import spellings
from retinue.ingest.parquet import ParquetTable, plain_time, quoted
from retinue.ingest.sources import Source
from retinue.ingest.tables import CsvTable
from retinue.model import Direction
from retinue.store.bulk import NOBODY, Follows, Numbers
from retinue.temporary import TemporaryFolder

MEMORY = "900MB"
THREADS = 2
NAMES_AT_ONCE = 50_000
NAMES_IN_MEMORY = 2_500_000
SAMPLED_ROWS = 1_000_000
ROWS_AT_ONCE = 200_000  # arrays of so many numbers stay in the processor's caches
MOST_UNUSUAL = 100_000  # and more if they are less than a tenth of the others
BYTES_PER_ROW = 80  # on disk at most, in the temporary folder and in the store together

_LEAST_SPILLED = 1_000_000_000

_LIST_COLUMNS = {
    Direction.FOLLOWING: ("follower", "followee"),
    Direction.FOLLOWERS: ("followee", "follower"),
}
# Whole seconds; and ISO 8601 in UTC, down to the second.
_TIME_OF_DAY = "([01][0-9]|2[0-3]):[0-9]{{2}}:[0-9]{{2}}"
_TEXT_SECOND = f"""CASE
    WHEN {{at}} IS NULL OR {{at}} = '' THEN 0
    WHEN regexp_full_match({{at}}, '[1-9][0-9]{{{{0,9}}}}([.]0*)?') THEN CAST(split_part({{at}}, '.', 1) AS BIGINT)
    WHEN regexp_full_match({{at}}, '[0-9]{{{{4}}}}-[0-9]{{{{2}}}}-[0-9]{{{{2}}}}[T ]{_TIME_OF_DAY}(Z|[+]00:00)?')
        THEN coalesce(nullif(CAST(epoch(TRY_CAST(left({{at}}, 19) AS TIMESTAMP)) AS BIGINT), 0), -1)
    ELSE -1 END"""
_NAMES = ("follower", "followee")
_SAYING = ("ended_at", "followed_at", "following_position", "followers_position")
_WHOLE = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}


class CannotStage(Exception):
    """A table is damaged, or the disk is full: row by row more may come of it."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn DuckDB's errors into ours; for all use of a `Staging`."""
    try:
        yield
    except duckdb.Error as error:
        raise CannotStage(str(error)) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CannotStage(f"damaged: {error}") from error


class Staging:
    """A `Sorted` table. Use it from top to bottom; raises `InputError` where the disk has no room for it."""

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
        self._usual = "is_usual"
        self._named = ""  # the rows whose names are known: those that were usual then
        self._duck = duckdb.connect(self._folder.path / "staging.duckdb")
        temporary = str(self._folder.path / "spilled")
        for setting, value in (
            ("memory_limit", MEMORY),
            ("threads", THREADS),
            ("temp_directory", temporary),
            ("max_temp_directory_size", f"{max(needed, _LEAST_SPILLED)}B"),
        ):
            self._duck.execute(f"SET {setting} = {quoted(value)}")
        self._sorter, self._reader = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._sorts: list[duckdb.DuckDBPyConnection] = []
        self._sorting: dict[Direction, Future[None]] = {}
        self._owners: dict[Direction, tuple[Numbers, Numbers]] = {}

    def close(self) -> None:
        """Give the disk back."""
        try:
            for cursor in self._sorts:
                cursor.interrupt()  # who stops an import does not want to wait for its sorting
            for executor in (self._sorter, self._reader):
                executor.shutdown(cancel_futures=True)
            self._duck.close()
        finally:
            self._folder.close()

    def stage(self, table: CsvTable | ParquetTable) -> None:
        """Read a table."""
        is_parquet = isinstance(table, ParquetTable)  # whose columns are quicker read again than kept
        source = _csv(table, self._neutral_name(table.source)) if isinstance(table, CsvTable) else _parquet(table)
        self._duck.execute(
            f"CREATE {'VIEW' if is_parquet else 'TABLE'} staged AS SELECT row, follower, followee,"
            f" CASE WHEN second = 0 THEN {self.received_at} ELSE second END AS second,"
            f" second BETWEEN 1 AND {self.received_at} AND follower <> followee AND NOT says_more AS is_usual"
            f" FROM ({source})"
        )
        # A row for each line: then nothing was passed over or put together.
        if isinstance(table, CsvTable) and self._number("SELECT count(*) FROM staged") != _lines_in(table.source) - 1:
            raise CannotStage("not a row for each line")

    def _neutral_name(self, source: Source) -> Path:
        """DuckDB would take signs in a path for patterns."""
        name = self._folder.path / f"table.csv{'.gz' if source.is_packed else ''}"
        name.symlink_to(source.path.absolute())
        return name

    def names(self) -> Iterator[list[str]]:
        """All names in usual rows, each once, in their order: then indexes of new accounts grow at one end.

        Names that are spelled in several ways come last, in the order of the file.
        """
        if self._named != self._usual:
            self._find_names()
            self._named = self._usual
        reading = self._duck.cursor()
        reading.execute("SELECT name FROM name ORDER BY rowid")
        while batch := reading.fetchmany(NAMES_AT_ONCE):
            yield [name for (name,) in batch]

    def _find_names(self) -> None:
        """All names in usual rows. Those that memory does not hold at once are found in parts, by their hashes."""
        self._duck.execute("CREATE OR REPLACE TABLE found (name VARCHAR)")
        parts = self._parts_of_names()
        for part in range(parts):
            chosen = [f"SELECT {side} FROM staged WHERE {self._usual}" for side in ("follower", "followee")]
            if parts > 1:
                chosen[0] += f" AND hash(follower) % {parts} = {part}"
                chosen[1] += f" AND hash(followee) % {parts} = {part}"
            self._duck.execute(f"INSERT INTO found {' UNION '.join(chosen)}")
        spellings.find(self._duck, f"SELECT * FROM staged WHERE {self._usual}")
        self._duck.execute(
            "CREATE OR REPLACE TABLE name AS SELECT name FROM found LEFT JOIN spelling USING (name)"
            " ORDER BY place NULLS FIRST, name"
        )
        self._duck.execute("DROP TABLE found; DROP TABLE spelling")

    def _parts_of_names(self) -> int:
        """In how many parts to look for names. To count all takes long: some rows tell first whether it is worth it."""
        sample = f"(SELECT follower, followee FROM staged LIMIT {SAMPLED_ROWS})"
        if self._names_in(sample) <= SAMPLED_ROWS // 4:
            return 1
        return -(-self._names_in("staged") // NAMES_IN_MEMORY)

    def _names_in(self, rows: str) -> int:
        """About how many names some rows have."""
        both = f"SELECT follower AS name FROM {rows} UNION ALL SELECT followee FROM {rows}"
        return self._number(f"SELECT approx_count_distinct(name) FROM ({both})")

    def leave_out(self, names: Sequence[str]) -> None:
        """Call rows with these names unusual, and all rows of pairs that have an unusual one.

        The rows of a pair are stored in the order of the file. Names that are in no usual row now are gone.
        """
        self._duck.execute("CREATE TABLE refused AS SELECT unnest(?) AS name", (list(names),))
        if names:
            refused = "SELECT name FROM refused"
            self._usual += f" AND follower NOT IN ({refused}) AND followee NOT IN ({refused})"
        self._duck.execute(
            f"CREATE TABLE odd AS SELECT DISTINCT follower, followee FROM staged WHERE ({self._usual}) IS NOT TRUE"
            " AND follower IS NOT NULL AND followee IS NOT NULL"
        )
        if self._number("SELECT count(*) FROM odd"):
            is_odd = "SELECT 1 FROM odd WHERE odd.follower = staged.follower AND odd.followee = staged.followee"
            self._usual += f" AND NOT EXISTS ({is_odd})"

    def number(self, numbers: Sequence[int]) -> None:
        """Give names their accounts' numbers, in the same order, and sort by them."""
        given = np.array(numbers, np.uint32)  # DuckDB finds it by this name
        self._duck.execute(
            "CREATE TABLE numbered AS SELECT hash(name) AS hash, column0 AS number FROM name POSITIONAL JOIN given"
        )
        del given
        # Rows are numbered by the hashes of their names, of which memory holds ten million. All names are among those.
        if self._number("SELECT count(*) - count(DISTINCT hash) FROM numbered"):
            raise CannotStage("two names with one hash")  # once in a million files of ten million names
        self._duck.execute(
            "CREATE TABLE follow AS SELECT CAST(row AS UINTEGER) AS row, a.number AS follower, b.number AS followee,"
            " CAST(second AS UINTEGER) AS second FROM staged JOIN numbered a ON a.hash = hash(follower)"
            f" JOIN numbered b ON b.hash = hash(followee) WHERE {self._usual}"
            f" AND a.number <> {NOBODY} AND b.number <> {NOBODY}"
        )
        self._count = self._number("SELECT count(*) FROM follow")
        if self._number("SELECT count(*) FROM staged") - self._count > max(MOST_UNUSUAL, self._count // 10):
            raise CannotStage("too few usual rows")  # a load would take its time for nothing

    def unusual(self) -> Numbers:
        """The numbers of all rows that are not in lists, ascending."""
        if self._number("SELECT count(*) FROM staged") == self._count:
            return np.empty(0, np.int64)
        return self._column("SELECT row FROM staged ANTI JOIN follow USING (row) ORDER BY row")

    def sort(self) -> None:
        """Sort the lists of both directions, those of followers while the others are being read."""
        for direction in Direction:
            self._sorts.append(self._duck.cursor())
            self._sorting[direction] = self._sorter.submit(self._sort, direction, self._sorts[-1])
        self._sorting[Direction.FOLLOWING].result()

    def owners(self, direction: Direction) -> tuple[Numbers, Numbers]:
        """All owners of lists, ascending, and how many follows each has."""
        if direction not in self._owners:
            owner, _ = _LIST_COLUMNS[direction]
            found = self._duck.execute(
                f"SELECT {owner} AS owner, count(*) AS size FROM follow GROUP BY ALL ORDER BY owner"
            ).fetchnumpy()
            self._owners[direction] = found["owner"].astype(np.int64), found["size"].astype(np.int64)
        return self._owners[direction]

    def follows(self, direction: Direction) -> Iterator[Follows]:
        """All follows, some lists at a time; while some are dealt with the next ones are read."""
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

    @staticmethod
    def _read(direction: Direction, first: int, last: int, duck: duckdb.DuckDBPyConnection) -> Follows:
        """The follows of the owners from a first to a last one. DuckDB gives rows in the order of their table."""
        found = duck.execute(
            f"SELECT owner, second, account, row FROM {direction.value} WHERE owner BETWEEN ? AND ?", (first, last)
        ).fetchnumpy()
        duck.close()
        return Follows(*(found[name].astype(np.int64) for name in ("owner", "second", "account", "row")))

    @staticmethod
    def _sort(direction: Direction, duck: duckdb.DuckDBPyConnection) -> None:
        owner, account = _LIST_COLUMNS[direction]
        duck.execute(
            f"CREATE TABLE {direction.value} AS SELECT {owner} AS owner, second, {account} AS account, row FROM follow"
            " ORDER BY owner, second, row DESC"
        )

    def _number(self, query: str) -> int:
        return int(self._duck.execute(query).fetchall()[0][0])

    def _column(self, query: str) -> Numbers:
        columns: dict[str, Numbers] = self._duck.execute(query).fetchnumpy()
        (column,) = columns.values()
        return column.astype(np.int64)


# A source has five columns: row (counted from 1), follower, followee, second (0 for no time, -1 for an unusual one),
# and says_more: whether the row has an end, or a position that is not its time. Spaces around names and times are
# ignored; a name with other whitespace around it is refused, and so its row is left over.


def _parquet(table: ParquetTable) -> str:
    at = _parquet_second(table.kinds.get("followed_at", ""))
    names = ", ".join(_name(name, table.kinds[name]) for name in _NAMES)
    return (
        f"SELECT file_row_number + 1 AS row, {names}, {at} AS second, {_says_more(table.kinds)} AS says_more"
        f" FROM {table.rows(numbered=True)}"
    )


def _csv(table: CsvTable, name: Path) -> str:
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in table.names)
    at = _TEXT_SECOND.format(at="trim(followed_at)") if "followed_at" in table.names else "0"
    names = ", ".join(_name(name) for name in _NAMES)
    # After a space a quote may be no quote for DuckDB.
    is_quoted = " OR ".join(f"starts_with(trim({name}), '\"')" for name in _NAMES)
    return (
        f"SELECT row_number() OVER () AS row, {names}, {at} AS second,"
        f" {_says_more(table.names)} OR {is_quoted} AS says_more FROM read_csv({quoted(name)},"
        f" auto_detect = false, columns = {{{columns}}}, header = true, delim = ',', quote = '\"', escape = '\"',"
        " strict_mode = true, null_padding = false)"
    )


def _says_more(columns: Collection[str]) -> str:
    said = {name: f"coalesce(CAST({name} AS VARCHAR), '')" if name in columns else "''" for name in _SAYING}
    end, start, *positions = said.values()
    return " OR ".join([f"{end} <> ''", *(f"{position} NOT IN ('', {start})" for position in positions)])


def _lines_in(source: Source) -> int:
    """How many lines a file has, the last of which may have no end."""
    lines, last = 0, b""
    with source.open() as file:
        while chunk := file.read(1 << 20):
            lines += chunk.count(b"\n")
            last = chunk
    return lines + (not last.endswith(b"\n"))


def _name(name: str, kind: str = "VARCHAR") -> str:
    if kind == "VARCHAR":
        return f"trim({name}) AS {name}"
    return f"CAST({name} AS VARCHAR) AS {name}" if kind in _WHOLE else name


def _parquet_second(kind: str) -> str:
    if not kind:
        return "0"
    if kind in _WHOLE:
        return "CASE WHEN followed_at IS NULL THEN 0 WHEN followed_at = 0 THEN -1 ELSE CAST(followed_at AS BIGINT) END"
    if kind.startswith("TIMESTAMP"):
        return (
            f"CASE WHEN followed_at IS NULL THEN 0 ELSE coalesce(nullif({plain_time('followed_at', kind)}, 0), -1) END"
        )
    return _TEXT_SECOND.format(at="trim(followed_at)") if kind == "VARCHAR" else "-1"
