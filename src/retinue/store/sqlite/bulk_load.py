"""The bulk load of sorted follows, in one write transaction.

It decides with NumPy what `rules/pairs.py` decides one by one, but only the usual follow: the first event of a pair.
"""

from collections.abc import Iterator
from typing import NamedTuple

import apsw
import numpy as np
from numpy.typing import NDArray

from retinue.errors import StoreUnavailable
from retinue.model import Direction
from retinue.store.bulk import Follows, LoadedFollows, Numbers, OnShare, SortedFollows
from retinue.store.rules.values import LAST_SECOND
from retinue.store.sqlite.accounts import IS_VISIBLE, max_accounts
from retinue.store.sqlite.batch_insert import insert
from retinue.store.sqlite.blocks import block_at, first_block
from retinue.store.sqlite.existing_lists import ExistingLists, is_among
from retinue.store.sqlite.packing import EntryColumns, blocks, counts, owners_of
from retinue.store.sqlite.row_set import RowSet
from retinue.store.sqlite.slot_arrays import assign_slots, keyed, slot_runs

# A follow at this second or later cannot run out of earlier slots, since no list is that long.
EARLIEST = 100_000_000
# A list this many times longer than its new entries is not rewritten.
MUCH_LONGER = 50
_LONG = 10_000  # shorter lists always are
_MAX_WAITING = 16_000_000

_GONE, _HIDDEN, _ROW = 0, 1, 2
_NOT_ROWS = f"SELECT id, key IS NULL FROM account WHERE NOT ({IS_VISIBLE})"
_PAIR = "(?, ?, NULL, ?, ?, ?)"
_MOVED_TOO = "ON CONFLICT DO UPDATE SET followers_position = excluded.followers_position"

Chosen = NDArray[np.bool_]


class Displaced(NamedTuple):
    """Follows away from their true second. `owners` and `positions` are those of the list."""

    owners: Numbers
    accounts: Numbers
    seconds: Numbers
    positions: Numbers


class BulkLoad:
    """One load."""

    def __init__(self, connection: apsw.Connection, follows: SortedFollows, on_share: OnShare) -> None:
        self._connection = connection
        self._follows = follows
        self._on_share = on_share
        self._kinds = self._kinds_of_accounts()
        self._existing = ExistingLists(connection)
        self._hubs = {direction: self._much_longer(direction) for direction in Direction}
        self._total = max(1, 2 * int(follows.owners(Direction.FOLLOWING)[1].sum()))
        self._done = 0
        self._waiting: list[Displaced] = []

    def run(self) -> LoadedFollows:
        accepted, repeated, remaining = 0, 0, [np.empty(0, np.int64)]
        passed_over = RowSet()
        for follows in self._each(Direction.FOLLOWING):
            is_repeated, is_left = self._sift(follows)
            is_passed_over = is_repeated | is_left
            kept = _where(follows, ~is_passed_over)
            accepted += len(kept.rows)
            repeated += int(is_repeated.sum())
            remaining.append(follows.rows[is_left])
            passed_over.add(follows.rows[is_passed_over])
            displaced = self._load(Direction.FOLLOWING, kept)
            self._save(displaced.owners, displaced.accounts, displaced, displaced.positions, displaced.seconds)
        for follows in self._each(Direction.FOLLOWERS):
            kept = _where(follows, ~passed_over.has(follows.rows))
            self._wait(self._load(Direction.FOLLOWERS, kept))
        self._flush()
        return LoadedFollows(accepted, repeated, np.sort(np.concatenate(remaining)))

    def _each(self, direction: Direction) -> Iterator[Follows]:
        for follows in self._follows.follows(direction):
            yield follows
            self._done += len(follows.rows)
            self._on_share(self._done / self._total)

    # --- exceptions ---------------------------------------------------------------------------------------------------

    def _kinds_of_accounts(self) -> NDArray[np.int8]:
        """Return by id whether an account is visible, hidden or gone."""
        newest = self._connection.execute("SELECT ifnull(max(id), 0) FROM account").get
        if newest > max_accounts(self._connection.execute):
            raise StoreUnavailable(
                f"table account, id {newest}: the file has no room for so many accounts; it is damaged"
            )
        kinds = np.full(newest + 1, _ROW, np.int8)
        kinds[0] = _GONE
        for number, is_gone in self._connection.execute(_NOT_ROWS):
            kinds[number] = _GONE if is_gone else _HIDDEN
        return kinds

    def _much_longer(self, direction: Direction) -> Numbers:
        """Return owners of long lists with few new entries."""
        query = f"SELECT owner, entries FROM {direction.value}_count WHERE entries > {_LONG} ORDER BY owner"
        long = np.array(self._connection.execute(query).fetchall(), np.int64).reshape(-1, 2)
        owners, new = self._follows.owners(direction)
        found = is_among(long[:, 0], owners)
        long = long[found]
        hubs: Numbers = long[long[:, 1] > MUCH_LONGER * new[np.searchsorted(owners, long[:, 0])], 0]
        return hubs

    def _sift(self, follows: Follows) -> tuple[Chosen, Chosen]:
        """Return the repeated follows, and those to store one by one."""
        kinds = self._kinds
        is_left = (kinds[follows.owners] == _GONE) | (kinds[follows.accounts] == _GONE) | (follows.seconds < EARLIEST)
        is_left |= follows.owners == follows.accounts
        is_left |= is_among(follows.owners, self._hubs[Direction.FOLLOWING])
        is_left |= is_among(follows.accounts, self._hubs[Direction.FOLLOWERS])
        pairs = (follows.owners << 32) + follows.accounts
        is_repeated, is_unlike = _repeated(pairs, follows)
        is_left |= is_unlike
        stored = self._existing.pairs_of(owners_of(follows.owners)[0])
        if len(stored.pairs):
            index = np.minimum(np.searchsorted(stored.pairs, pairs), len(stored.pairs) - 1)
            is_known = stored.pairs[index] == pairs
            is_same = stored.is_plain[index] & (stored.seconds[index] == follows.seconds)
            if not self._follows.names_received_at:  # a follow without a time adds nothing to an open pair
                is_same |= stored.is_open[index] & (follows.seconds == self._follows.received_at)
            is_repeated |= is_known & is_same
            is_left |= is_known & ~is_same
        return is_repeated & ~is_left, is_left

    # --- lists ------------------------------------------------------------------------------------------------------

    def _load(self, direction: Direction, follows: Follows) -> Displaced:
        owners, lists = owners_of(follows.owners)
        visible, hidden, ended = self._existing.lists_of(direction, owners)
        old = np.concatenate([visible.positions, hidden.positions, ended[1]])
        old_lists = np.searchsorted(owners, np.concatenate([visible.owners, hidden.owners, ended[0]]))
        positions = assign_slots(lists, follows.seconds, np.sort(keyed(old_lists, old), kind="stable"))
        if len(positions) and positions.min() < 1:
            raise OverflowError("a list has no earlier second left")
        new = EntryColumns(follows.owners, positions, follows.accounts, follows.seconds)
        is_visible = self._kinds[new.accounts] == _ROW
        self._rewrite(direction.value, new.where(is_visible), visible)
        self._rewrite(f"{direction.value}_aside", new.where(~is_visible), hidden)
        was_visible = np.zeros(len(old), np.bool_)
        was_visible[: len(visible)] = True
        occupied = np.append(lists, old_lists), np.append(positions, old), np.append(is_visible, was_visible)
        self._save_slot_runs(direction, owners, occupied)
        moved = positions != follows.seconds
        return Displaced(follows.owners[moved], follows.accounts[moved], follows.seconds[moved], positions[moved])

    def _rewrite(self, table: str, new: EntryColumns, old: EntryColumns) -> None:
        if not len(new):
            return
        old = old.where(is_among(old.owners, owners_of(new.owners)[0]))
        execute, executemany = self._connection.execute, self._connection.executemany
        for owner in owners_of(old.owners)[0].tolist():
            execute(
                f"DELETE FROM {table} WHERE block BETWEEN ? AND ?", (first_block(owner), block_at(owner, LAST_SECOND))
            )
            execute(f"DELETE FROM {table}_count WHERE owner = ?", (owner,))
        entries = new.merged(old)
        executemany(f"INSERT INTO {table} VALUES (?, ?, ?)", blocks(entries))
        executemany(f"INSERT INTO {table}_count VALUES (?, ?)", counts(entries))

    def _save_slot_runs(self, direction: Direction, owners: Numbers, occupied: tuple[Numbers, Numbers, Chosen]) -> None:
        lists, seconds, is_visible = occupied
        if not self._existing.is_empty:
            order = np.argsort(keyed(lists, seconds), kind="stable")  # fast for sorted parts
            lists, seconds, is_visible = lists[order], seconds[order], is_visible[order]
            for owner in owners.tolist():
                self._connection.execute(f"DELETE FROM {direction.value}_taken WHERE owner = ?", (owner,))
        lists_of_runs, first, last = slot_runs(lists, seconds, is_visible)
        insert(self._connection, f"{direction.value}_taken", (owners[lists_of_runs], first, last))

    # --- pairs that are not plain -----------------------------------------------------------------------------------

    def _wait(self, displaced: Displaced) -> None:
        """Collect displaced followers. Many of them are written in the order of the table."""
        self._waiting.append(displaced)
        if sum(len(each.owners) for each in self._waiting) > _MAX_WAITING:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            found = Displaced(*(np.concatenate(column) for column in zip(*self._waiting, strict=True)))
            self._waiting.clear()
            self._save(found.accounts, found.owners, found, found.seconds, found.positions, _MOVED_TOO)

    def _save(
        self,
        followers: Numbers,
        followees: Numbers,
        found: Displaced,
        following: Numbers,
        back: Numbers,
        on_conflict: str = "",
    ) -> None:
        order = np.argsort((followers << 32) + followees)
        columns = [column[order] for column in (followers, followees, found.seconds, following, back)]
        insert(self._connection, "pair", columns, _PAIR, on_conflict)


def _where(follows: Follows, chosen: Chosen) -> Follows:
    return follows if chosen.all() else Follows(*(column[chosen] for column in follows))


def _repeated(pairs: Numbers, follows: Follows) -> tuple[Chosen, Chosen]:
    """Return which follows are repeated, and which pairs have several seconds."""
    is_repeated, is_unlike = np.zeros(len(pairs), np.bool_), np.zeros(len(pairs), np.bool_)
    ordered = np.sort(pairs)
    several = np.flatnonzero(is_among(pairs, ordered[1:][ordered[1:] == ordered[:-1]]))
    if not len(several):
        return is_repeated, is_unlike
    order = several[np.lexsort((follows.rows[several], pairs[several]))]
    is_first = np.append(True, np.diff(pairs[order]) != 0)
    begins = np.flatnonzero(is_first)
    sizes = np.diff(np.append(begins, len(order)))
    seconds = follows.seconds[order]
    differs = seconds != np.repeat(seconds[begins], sizes)
    is_repeated[order] = ~is_first
    is_unlike[order] = np.repeat(np.logical_or.reduceat(differs, begins), sizes)
    return is_repeated, is_unlike
