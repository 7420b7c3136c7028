"""The lists that a bulk load touches, as arrays. Runs inside its transaction."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from retinue.model import Direction
from retinue.store.rules.values import LAST_SECOND
from retinue.store.sqlite.blocks import block_at, columns_of, first_block
from retinue.store.sqlite.files import executor
from retinue.store.sqlite.packing import EntryColumns

Numbers = NDArray[np.int64]

_ENDED = {
    Direction.FOLLOWING: "SELECT following_position FROM ended WHERE follower = ? ORDER BY following_position",
    Direction.FOLLOWERS: "SELECT followers_position FROM ended WHERE followee = ? ORDER BY followers_position",
}
# Pairs with more events than one follow.
_STORIED = (
    "SELECT followee FROM pair WHERE follower = ?1 AND moments IS NOT NULL"
    " UNION SELECT followee FROM ended WHERE follower = ?1"
)
_NOTHING = np.empty(0, np.int64)


class ExistingPairs(NamedTuple):
    """Existing pairs, ascending. A plain one has nothing but `seconds`."""

    pairs: Numbers
    seconds: Numbers
    is_open: NDArray[np.bool_]
    is_plain: NDArray[np.bool_]


class ExistingLists:
    """Reads lists of a graph. `is_empty`: the graph never had a follow."""

    def __init__(self, connection: apsw.Connection) -> None:
        self._execute = executor(connection)
        tables = ("following", "following_aside", "followers", "followers_aside", "pair", "ended")
        self.is_empty = not any(self._execute(f"SELECT 1 FROM {table} LIMIT 1").fetchall() for table in tables)

    def lists_of(
        self, direction: Direction, owners: Numbers
    ) -> tuple[EntryColumns, EntryColumns, tuple[Numbers, Numbers]]:
        if self.is_empty:
            return entries_in([]), entries_in([]), (_NOTHING, _NOTHING)
        visible = self._entries_of(direction.value, owners)
        hidden = self._entries_of(f"{direction.value}_aside", owners)
        ended = [
            (owner, second)
            for owner in owners.tolist()
            for (second,) in self._execute(_ENDED[direction], (owner,)).fetchall()
        ]
        table = np.array(ended, np.int64).reshape(-1, 2)
        return visible, hidden, (table[:, 0], table[:, 1])

    def pairs_of(self, followers: Numbers) -> ExistingPairs:
        visible, hidden, _ = self.lists_of(Direction.FOLLOWING, followers)
        entries = visible.merged(hidden)
        pairs = (entries.owners << 32) + entries.accounts
        order = np.argsort(pairs)
        pairs, seconds = pairs[order], entries.seconds[order]
        if self.is_empty:
            return ExistingPairs(pairs, seconds, np.ones(0, np.bool_), np.ones(0, np.bool_))
        storied = {
            (follower << 32) + followee
            for follower in followers.tolist()
            for (followee,) in self._execute(_STORIED, (follower,)).fetchall()
        }
        others = np.array(sorted(storied), np.int64)
        over = others[~is_among(others, pairs)]
        everything = np.append(pairs, over)
        order = np.argsort(everything)
        is_open = np.append(np.ones(len(pairs), np.bool_), np.zeros(len(over), np.bool_))[order]
        everything = everything[order]
        return ExistingPairs(
            everything,
            np.append(seconds, np.zeros(len(over), np.int64))[order],
            is_open,
            is_open & ~is_among(everything, others),
        )

    def _entries_of(self, table: str, owners: Numbers) -> EntryColumns:
        query = f"SELECT block, entries, displaced FROM {table} WHERE block BETWEEN ? AND ? ORDER BY block"
        return entries_in(
            row
            for owner in owners.tolist()
            for row in self._execute(query, (first_block(owner), block_at(owner, LAST_SECOND))).fetchall()
        )


def is_among(numbers: Numbers, ascending: Numbers) -> NDArray[np.bool_]:
    """Return which numbers are in a sorted array."""
    if not len(ascending):
        return np.zeros(len(numbers), np.bool_)
    place = np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)
    found: NDArray[np.bool_] = ascending[place] == numbers
    return found


def entries_in(rows: Iterable[tuple[Any, ...]]) -> EntryColumns:
    """Return the entries of rows of blocks, in order."""
    owners, sizes, positions, accounts, displaced = [], [], [], [], []
    for block, entries, pairs in rows:
        columns_of("blocks", block, entries)
        half = len(entries) // 2
        owners.append(block >> 32)
        sizes.append(half // 4)
        positions.append(entries[:half])
        accounts.append(entries[half:])
        if pairs:
            numbers = np.frombuffer(pairs, "<u4").astype(np.int64).reshape(-1, 2)
            displaced.append(np.column_stack([np.full(len(numbers), block >> 32), numbers]))
    all_owners = np.repeat(np.array(owners, np.int64), np.array(sizes, np.int64))
    all_positions = _numbers(positions)
    seconds = all_positions.copy()
    if displaced:
        moved = np.concatenate(displaced)
        keys = (all_owners << 32) + all_positions
        seconds[np.searchsorted(keys, (moved[:, 0] << 32) + moved[:, 1])] = moved[:, 2]
    return EntryColumns(all_owners, all_positions, _numbers(accounts), seconds)


def _numbers(columns: list[bytes]) -> Numbers:
    return np.frombuffer(b"".join(columns), "<u4").astype(np.int64)
