"""Reads of a whole graph file, in the state when reading began."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from retinue.model import AccountRecord, Visibility
from retinue.store.bulk import Intervals
from retinue.store.sqlite import files
from retinue.store.sqlite.existing_lists import entries_in, is_among
from retinue.store.sqlite.files import Rows

_ROWS_AT_ONCE = 20_000
_BLOCKS_AT_ONCE = 4_000

_ACCOUNTS = (
    "SELECT id, key, iif(folded IS NULL, NULL, username), display_name, visibility FROM account"
    " WHERE key IS NOT NULL ORDER BY id"
)
_PROFILES = "SELECT account, field, value FROM profile WHERE account BETWEEN ? AND ? ORDER BY account"
# The positions of open intervals that are not plain.
_STORIED = (
    "SELECT follower, followee, started_at, 0, following_position, followers_position FROM pair"
    " WHERE started_at IS NOT NULL"
)
_OTHER_PAIRS = "SELECT (follower << 32) + followee FROM pair WHERE follower BETWEEN ? AND ? AND started_at IS NOT NULL"
_ENDED = "SELECT follower, followee, started_at, ended_at, following_position, followers_position FROM ended"


class SqliteGraphScan:
    """A `GraphScan` in one read transaction, until `close`."""

    def __init__(self, path: Path) -> None:
        with ExitStack() as opened:
            self._connection = files.open_for_reading(path, files.GRAPH)
            opened.callback(self._connection.close)
            opened.enter_context(files.one_state(self._connection))
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def accounts(self) -> Iterator[list[tuple[int, AccountRecord]]]:
        with files.translated():
            for rows in _in_parts(self._connection.execute(_ACCOUNTS), _ROWS_AT_ONCE):
                said = self._profiles(rows[0][0], rows[-1][0])
                yield [
                    (number, AccountRecord(username, key, display_name, Visibility(visibility), **said.get(number, {})))
                    for number, key, username, display_name, visibility in rows
                ]

    def intervals(self, *, with_ended: bool) -> Iterator[Intervals]:
        with files.translated():
            for table in ("following", "following_aside"):
                yield from self._plain(table)
            for query in (_STORIED, _ENDED) if with_ended else (_STORIED,):
                for rows in _in_parts(self._connection.execute(query), _ROWS_AT_ONCE):
                    yield Intervals(*np.array(rows, np.int64).T)

    def _plain(self, table: str) -> Iterator[Intervals]:
        """Yield the intervals of plain pairs, from blocks of the lists."""
        blocks = self._connection.execute(f"SELECT block, entries, displaced FROM {table} ORDER BY block")
        for rows in _in_parts(blocks, _BLOCKS_AT_ONCE):
            entries = entries_in(rows)
            owners = int(entries.owners[0]), int(entries.owners[-1])
            others = sorted(pair for (pair,) in self._connection.execute(_OTHER_PAIRS, owners))
            pairs = (entries.owners << 32) + entries.accounts
            plain = entries.where(~is_among(pairs, np.array(others, np.int64)))
            goes_on, second = np.zeros(len(plain), np.int64), plain.seconds
            yield Intervals(plain.owners, plain.accounts, second, goes_on, second, second)

    def _profiles(self, first: int, last: int) -> dict[int, dict[str, Any]]:
        rows = self._connection.execute(_PROFILES, (first, last))
        profiles = {
            account: {field: value for _, field, value in fields} for account, fields in groupby(rows, itemgetter(0))
        }
        for fields in profiles.values():
            if "is_verified" in fields:
                fields["is_verified"] = bool(fields["is_verified"])
        return profiles


def _in_parts(rows: Rows, size: int) -> Iterator[list[tuple[Any, ...]]]:
    reading = iter(rows)
    while part := list(islice(reading, size)):
        yield part
