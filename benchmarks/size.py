"""How many bytes a follow takes on disk, both directions and all indexes included, and how fast follows are imported.

Accounts are imported first; what the file grows by when their follows come is what the follows take.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import apsw

from graphs import Size, generate
from running import Failed, retinue


def main() -> int:
    """Generate, import, measure; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=200_000)
    parser.add_argument("--follows", type=int, default=10_000_000)
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="retinue-size-") as folder:
            _measure(Size(options.accounts, options.follows), Path(folder))
    except Failed as failure:
        sys.stderr.write(f"size: {failure}\n")
        return 1
    return 0


def _measure(size: Size, folder: Path) -> None:
    generate(size, folder)
    store = folder / "graph.db"
    retinue("import", "--store", store, "--accounts", folder / "accounts.csv")
    before, tables_before = store.stat().st_size, _tables(store)
    start = time.perf_counter()
    retinue("import", "--store", store, folder / "follows.csv")
    seconds = time.perf_counter() - start
    grown = store.stat().st_size - before
    print(f"{size.accounts:,} accounts take {before:,} bytes, {size.follows:,} follows {grown:,} bytes more")
    for table, taken in _tables(store).items():
        more = taken - tables_before.get(table, 0)
        if more > size.follows // 100:
            print(f"{more / size.follows:>8.2f}  {table}")
    print(f"{grown / size.follows:>8.2f}  bytes a follow in all")
    print(f"imported in {seconds:,.0f} s: {size.follows / seconds:,.0f} follows a second")


def _tables(store: Path) -> dict[str, int]:
    """The bytes of each table and index, the largest first."""
    connection = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return dict(connection.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name ORDER BY 2 DESC"))
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
