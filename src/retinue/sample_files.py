"""The files of a sample: CSV, or Parquet with the same rows."""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retinue.duck import Duck, translated
from retinue.escaping import sql_text
from retinue.temporary import TemporaryFolder

# The columns with their SQL types.
ACCOUNT_COLUMNS = dict.fromkeys(("id", "username", "display_name", "visibility", "bio_description"), "VARCHAR") | {
    "is_verified": "BOOLEAN",
    "likes_count": "BIGINT",
}
FOLLOW_COLUMNS = {"follower": "VARCHAR", "followee": "VARCHAR", "followed_at": "BIGINT"}
_MEMORY = "900MB"

Ints = NDArray[np.int64]


class SampleFollows(NamedTuple):
    """Columns of follows: indexes of usernames, and seconds."""

    followers: Ints
    followees: Ints
    times: Ints


class CsvFiles:
    """Comma-separated values with a header line. Writing raises `OSError`."""

    def __init__(self, folder: Path) -> None:
        self.accounts = folder / "accounts.csv"
        self.follows = folder / "follows.csv"

    def write_accounts(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows of `ACCOUNT_COLUMNS`, with truth values in lower case."""
        with self.accounts.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(ACCOUNT_COLUMNS)
            writer.writerows(map(_in_lower_case, rows))

    def write_follows(self, usernames: Sequence[str], chunks: Iterator[SampleFollows]) -> None:
        """Write usernames without quotes, which none needs."""
        with self.follows.open("w", encoding="utf-8", newline="") as file:
            file.write(",".join(FOLLOW_COLUMNS) + "\n")
            for chunk in chunks:
                rows = zip(*(column.tolist() for column in chunk), strict=True)
                file.writelines([f"{usernames[a]},{usernames[b]},{at}\n" for a, b, at in rows])


class ParquetFiles:
    """Parquet, from a temporary table of the same size. Writing raises `StoreError`."""

    def __init__(self, folder: Path) -> None:
        self.accounts = folder / "accounts.parquet"
        self.follows = folder / "follows.parquet"

    def write_accounts(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows of `ACCOUNT_COLUMNS`, with ids as text."""
        columns = zip(*((str(row[0]), *row[1:]) for row in rows), strict=True)
        _write(self.accounts, ACCOUNT_COLUMNS, iter([[np.array(column, object) for column in columns]]))

    def write_follows(self, usernames: Sequence[str], chunks: Iterator[SampleFollows]) -> None:
        """Write times as whole seconds."""
        names = np.array(usernames, dtype=object)
        columns = ([names[chunk.followers], names[chunk.followees], chunk.times] for chunk in chunks)
        _write(self.follows, FOLLOW_COLUMNS, columns)


def _in_lower_case(row: Sequence[Any]) -> list[Any]:
    return [str(value).lower() if isinstance(value, bool) else value for value in row]


def _write(path: Path, columns: Mapping[str, str], chunks: Iterator[list[NDArray[Any]]]) -> None:
    with closing(TemporaryFolder(path)) as temporary, translated(Path(path.name)):
        file = temporary.path / "made.parquet"
        with closing(Duck(temporary.path, _MEMORY)) as duck:
            duck.run(f"CREATE TABLE made ({', '.join(f'{name} {kind}' for name, kind in columns.items())})")
            for chunk in chunks:
                duck.add("made", chunk)
            duck.run(f"COPY made TO {sql_text(file)} (FORMAT parquet)")
        file.replace(path)
