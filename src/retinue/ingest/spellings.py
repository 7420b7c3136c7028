"""Names that a staged table spells in several ways: the first spelling in the file becomes the account's key."""

import duckdb

from retinue.names import fold

_AT_ONCE = 50_000
_IS_ASCII = "strlen(name) = length(name)"
_SEVERAL = "SELECT fold FROM folded GROUP BY fold HAVING count(*) > 1"


def find(duck: duckdb.DuckDBPyConnection, rows: str) -> None:
    """Make the table `spelling`: such names of the table `found`, and the place of each in the rows."""
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
    while batch := reading.fetchmany(_AT_ONCE):
        names = [name for (name,) in batch]
        duck.execute(
            "INSERT INTO folded SELECT name, hash(fold) FROM (SELECT unnest(?) AS name, unnest(?) AS fold)",
            (names, [fold(name) for name in names]),
        )
