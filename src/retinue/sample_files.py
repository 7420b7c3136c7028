"""The files of a sample: CSV, or Parquet with the same rows."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import duckdb
import numpy as np
from numpy.typing import NDArray

from retinue.errors import InputError
from retinue.temporary import TemporaryFolder

ACCOUNT_COLUMNS = ("id", "username", "display_name", "visibility", "bio_description", "is_verified", "likes_count")
FOLLOW_COLUMNS = ("follower", "followee", "followed_at")

Ints = NDArray[np.int64]


class SampleFollows(NamedTuple):
    """Columns of follows: indexes of usernames, and seconds."""

    followers: Ints
    followees: Ints
    times: Ints


class SampleFiles(Protocol):
    """A file of accounts and one of follows."""

    accounts: Path
    follows: Path

    def write_accounts(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write all accounts as rows of `ACCOUNT_COLUMNS`. Raises `OSError`."""

    def write_follows(self, usernames: Sequence[str], chunks: Iterator[SampleFollows]) -> None:
        """Write all follows, a chunk at a time. Raises `OSError`."""


class CsvFiles:
    """Comma-separated values with a header line."""

    def __init__(self, folder: Path) -> None:
        self.accounts = folder / "accounts.csv"
        self.follows = folder / "follows.csv"

    def write_accounts(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write truth values in lower case."""
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
    """Parquet."""

    def __init__(self, folder: Path) -> None:
        self.accounts = folder / "accounts.parquet"
        self.follows = folder / "follows.parquet"

    def write_accounts(self, rows: Iterable[Sequence[Any]]) -> None:
        """Write ids as text."""
        columns = zip(*((str(row[0]), *row[1:]) for row in rows), strict=True)
        arrays = dict(zip(ACCOUNT_COLUMNS, map(_array, columns), strict=True))
        _write(self.accounts, iter([arrays]))

    def write_follows(self, usernames: Sequence[str], chunks: Iterator[SampleFollows]) -> None:
        """Write times as whole seconds."""
        names = np.array(usernames, dtype=object)
        columns = ((names[chunk.followers], names[chunk.followees], chunk.times) for chunk in chunks)
        _write(self.follows, (dict(zip(FOLLOW_COLUMNS, arrays, strict=True)) for arrays in columns))


def _in_lower_case(row: Sequence[Any]) -> list[Any]:
    return [str(value).lower() if isinstance(value, bool) else value for value in row]


def _array(values: Sequence[Any]) -> NDArray[Any]:
    return np.array(values, dtype=object if isinstance(values[0], str) else None)


def _write(path: Path, chunks: Iterator[dict[str, NDArray[Any]]]) -> None:
    with closing(TemporaryFolder(path)) as temporary:
        folder = temporary.path
        connection = duckdb.connect(folder / "rows.db")
        try:
            for number, chunk in enumerate(chunks):
                connection.register("chunk", chunk)
                connection.execute("INSERT INTO made FROM chunk" if number else "CREATE TABLE made AS FROM chunk")
            connection.table("made").write_parquet(str(folder / "made.parquet"))
        except duckdb.Error as error:
            raise InputError(f"{path.name}: cannot be written: {error}") from error
        finally:
            connection.close()
        (folder / "made.parquet").replace(path)
