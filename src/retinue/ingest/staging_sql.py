"""SQL for the ordinary rows and the names of a table.

Only forms that SQL reads as `values.py` does are ordinary. A source has five columns: row (from 1), follower, followee,
second (0: no time, -1: another form) and says_more (the row has an end, or a position that is not its time).
"""

from collections.abc import Collection
from pathlib import Path

import duckdb

from retinue.escaping import sql_name, sql_text
from retinue.ingest.parquet import ParquetTable, plain_time
from retinue.ingest.plain_accounts import INTEGERS
from retinue.ingest.tables import CsvTable
from retinue.names import fold

NAMES_AT_ONCE = 50_000

# Whole seconds; and ISO 8601 in UTC, down to the second.
_TIME_OF_DAY = "([01][0-9]|2[0-3]):[0-9]{{2}}:[0-9]{{2}}"
_TEXT_SECOND = f"""CASE
    WHEN {{at}} IS NULL OR {{at}} = '' THEN 0
    WHEN regexp_full_match({{at}}, '[1-9][0-9]{{{{0,9}}}}([.]0*)?') THEN CAST(split_part({{at}}, '.', 1) AS BIGINT)
    WHEN regexp_full_match({{at}}, '[0-9]{{{{4}}}}-[0-9]{{{{2}}}}-[0-9]{{{{2}}}}[T ]{_TIME_OF_DAY}(Z|[+]00:00)?')
        THEN coalesce(nullif(CAST(epoch(TRY_CAST(left({{at}}, 19) AS TIMESTAMP)) AS BIGINT), 0), -1)
    ELSE -1 END"""
_NAMES = ("follower", "followee")
_FURTHER = ("ended_at", "followed_at", "following_position", "followers_position")
_IS_ASCII = "strlen(name) = length(name)"
_SEVERAL = "SELECT fold FROM folded GROUP BY fold HAVING count(*) > 1"


def parquet_source(table: ParquetTable) -> str:
    """Return the query for a Parquet file."""
    at = _parquet_second(table.kinds.get("followed_at", ""))
    names = ", ".join(_trimmed(name, table.kinds[name]) for name in _NAMES)
    return (
        f"SELECT file_row_number + 1 AS row, {names}, {at} AS second, {_says_more(table.kinds)} AS says_more"
        f" FROM {table.rows(numbered=True)}"
    )


def csv_source(table: CsvTable, path: Path) -> str:
    """Return the query for a CSV file at this path."""
    columns = ", ".join(f"{sql_text(name)}: 'VARCHAR'" for name in table.names)
    at = _TEXT_SECOND.format(at="trim(followed_at)") if "followed_at" in table.names else "0"
    names = ", ".join(_trimmed(name) for name in _NAMES)
    # DuckDB may not recognize a quote after a space.
    is_quoted = " OR ".join(f"starts_with(trim({name}), '\"')" for name in _NAMES)
    return (
        f"SELECT row_number() OVER () AS row, {names}, {at} AS second,"
        f" {_says_more(table.names)} OR {is_quoted} AS says_more FROM read_csv({sql_text(path)},"
        f" auto_detect = false, columns = {{{columns}}}, header = true, delim = ',', quote = '\"', escape = '\"',"
        " strict_mode = true, null_padding = false)"
    )


def find_spellings(duck: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Make the table `spelling`: names of `found` with several spellings, and their first places in `rows`."""
    # The first spelling in the file becomes the account's key.
    duck.execute(
        "CREATE TABLE folded AS SELECT name, hash(lower(regexp_replace(name, '^@', ''))) AS fold FROM found"
        f" WHERE {_IS_ASCII}"
    )
    _fold_others(duck)
    duck.execute(
        "CREATE OR REPLACE TABLE spelling AS SELECT name, CAST(0 AS BIGINT) AS place FROM folded"
        f" WHERE fold IN ({_SEVERAL})"
    )
    duck.execute("DROP TABLE folded")
    if duck.execute("SELECT 1 FROM spelling LIMIT 1").fetchone():
        places = (
            f"SELECT follower AS name, 2 * row AS place FROM ({rows})"
            f" UNION ALL SELECT followee, 2 * row + 1 FROM ({rows})"
        )
        duck.execute(
            "CREATE OR REPLACE TABLE spelling AS SELECT name, min(place) AS place FROM"
            f" (SELECT name, place FROM ({places}) SEMI JOIN spelling USING (name)) GROUP BY name"
        )


def _fold_others(duck: duckdb.DuckDBPyConnection) -> None:
    """Fold the names that SQL cannot fold as `names.py` does."""
    reading = duck.cursor()
    reading.execute(f"SELECT name FROM found WHERE NOT {_IS_ASCII}")
    while batch := reading.fetchmany(NAMES_AT_ONCE):
        names = [name for (name,) in batch]
        duck.execute(
            "INSERT INTO folded SELECT name, hash(fold) FROM (SELECT unnest(?) AS name, unnest(?) AS fold)",
            (names, [fold(name) for name in names]),
        )


def _says_more(columns: Collection[str]) -> str:
    texts = {name: f"coalesce(CAST({name} AS VARCHAR), '')" if name in columns else "''" for name in _FURTHER}
    end, start, *positions = texts.values()
    return " OR ".join([f"{end} <> ''", *(f"{position} NOT IN ('', {start})" for position in positions)])


def _trimmed(name: str, kind: str = "VARCHAR") -> str:
    if kind == "VARCHAR":
        return f"trim({name}) AS {name}"
    return f"CAST({name} AS VARCHAR) AS {name}" if kind in INTEGERS else name


def _parquet_second(kind: str) -> str:
    if not kind:
        return "0"
    if kind in INTEGERS:
        return "CASE WHEN followed_at IS NULL THEN 0 WHEN followed_at = 0 THEN -1 ELSE CAST(followed_at AS BIGINT) END"
    if kind.startswith("TIMESTAMP"):
        second = plain_time(sql_name("followed_at"), kind)
        return f"CASE WHEN followed_at IS NULL THEN 0 ELSE coalesce(nullif({second}, 0), -1) END"
    return _TEXT_SECOND.format(at="trim(followed_at)") if kind == "VARCHAR" else "-1"
