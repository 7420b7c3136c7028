"""Placing many follows at once: whole lists are read, merged as arrays, and written back.

Only ordinary follows are placed here: those of pairs without entries and histories. NumPy decides for a group what the
rules (`store/rules`) decide for one follow in a few steps. They get the rest.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retinue.model import Direction
from retinue.store.bulk import Follows
from retinue.store.layout.lists import ListFacts
from retinue.store.layout.slots import MIN_RUN
from retinue.store.layout.tables import LAST_SECOND, LISTS, Key, ListTables, Table, first_of, pair_key, second_of
from retinue.store.load.columns import (
    NO_ENTRIES,
    Chosen,
    Entries,
    Numbers,
    begins_of,
    decode_blocks,
    encode_blocks,
    is_among,
    owners_of,
    require_linked,
)
from retinue.store.load.placing import keyed, place, runs

# Lists with fewer entries than this many seconds cannot run out of earlier slots, and there are no longer ones.
EARLIEST = 100_000_000
# A list that is this many times longer than what is new in it is not rewritten for that.
MUCH_LONGER = 50
ALWAYS_REWRITTEN = 10_000  # entries

ERASED, HIDDEN, VISIBLE = 0, 1, 2
LEFT, NEW, ANOTHER_SECOND, NOTHING_NEW = SAYINGS = range(4)

Kinds = Callable[[Numbers], NDArray[np.int8]]


class Sifted(NamedTuple):
    """The meaning of each row, and whether it is placed: the earliest of each new pair.

    `LEFT` rows are for the rules. The first row of a pair is `NEW`, the others tell `ANOTHER_SECOND` or `NOTHING_NEW`.
    """

    sayings: NDArray[np.int8]
    is_placed: Chosen

    def rows(self, saying: int, follows: Follows) -> Numbers:
        """Return the rows that say this."""
        chosen: Numbers = follows.rows[self.sayings == saying]
        return chosen


class LoadTarget(Protocol):
    """The rows of lists. A load reads no row that it wrote."""

    def has_rows(self, table: Table) -> bool:
        """Return False only if a table is empty."""
        ...

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]:
        """Return the contents of keys, in their order."""
        ...

    def rows_of(self, table: Table, owners: Sequence[int]) -> tuple[list[int], list[bytes]]:
        """Return keys and contents of the rows of ascending owners."""
        ...

    def put_many(self, table: Table, rows: Iterable[tuple[int, bytes]]) -> None:
        """Write rows."""
        ...

    def delete_many(self, table: Table, keys: Iterable[int]) -> None:
        """Remove rows."""
        ...


class Loader:
    """Places follows of one source in the lists of a target."""

    def __init__(self, target: LoadTarget, kinds_of: Kinds) -> None:
        self._target = target
        self._kinds_of = kinds_of
        tables = [table for direction in Direction for table in LISTS[direction]]
        self._is_empty = {table: not target.has_rows(table) for table in tables}

    def sift(self, follows: Follows, hubs: dict[Direction, Numbers], seen_at: int = LAST_SECOND) -> "Sifted":
        """Sift follows that are sorted by follower; none begins after `seen_at`.

        Stores the histories of new pairs with several seconds.
        """
        pairs = (follows.owners << 32) + follows.accounts
        is_left = self._is_odd(follows, hubs)
        if is_left.any():
            is_left = is_among(pairs, np.sort(pairs[is_left]))
        is_known, is_same = self._known(pairs, follows, seen_at)
        sayings = np.where(is_known, np.where(is_same, NOTHING_NEW, LEFT), NEW).astype(np.int8)
        sayings[is_left] = LEFT
        is_placed = sayings == NEW
        self._sift_repeated(pairs, follows, sayings, is_placed)
        return Sifted(sayings, is_placed)

    def _is_odd(self, follows: Follows, hubs: dict[Direction, Numbers]) -> Chosen:
        is_odd: Chosen = (self._kinds_of(follows.owners) == ERASED) | (self._kinds_of(follows.accounts) == ERASED)
        is_odd |= (follows.seconds < EARLIEST) | (follows.owners == follows.accounts)
        is_odd |= is_among(follows.owners, hubs[Direction.FOLLOWING])
        is_odd |= is_among(follows.accounts, hubs[Direction.FOLLOWERS])
        return is_odd

    def _sift_repeated(self, pairs: Numbers, follows: Follows, sayings: NDArray[np.int8], is_placed: Chosen) -> None:
        """Sift new pairs with several rows, and write their histories."""
        ordered = np.sort(pairs)
        several = ordered[1:][ordered[1:] == ordered[:-1]]
        chosen = np.flatnonzero(is_placed & is_among(pairs, several)) if len(several) else several
        if not len(chosen):
            return
        chosen = chosen[np.lexsort((follows.rows[chosen], pairs[chosen]))]
        is_first = np.append(True, np.diff(pairs[chosen]) != 0)
        # Without a time, a row says nothing new of a follow that exists.
        is_told = is_first | follows.has_time[chosen]
        sayings[chosen] = np.where(is_first, NEW, NOTHING_NEW)
        is_placed[chosen] = False
        told = chosen[is_told]
        told = told[np.lexsort((follows.rows[told], follows.seconds[told], pairs[told]))]
        is_new_pair = np.append(True, np.diff(pairs[told]) != 0)
        is_new_second = is_new_pair | np.append(True, np.diff(follows.seconds[told]) != 0)
        is_placed[told[is_new_pair]] = True
        later = told[is_new_second]
        sayings[later[sayings[later] != NEW]] = ANOTHER_SECOND
        self._write_histories(pairs[later], follows.seconds[later])

    def _write_histories(self, pairs: Numbers, seconds: Numbers) -> None:
        """Write the events of pairs, both ascending, in either direction. A single follow is no history."""
        begins, sizes = begins_of(pairs)
        begins, sizes = begins[sizes > 1], sizes[sizes > 1]
        content = (seconds << 1).astype("<u8").tobytes()
        rows = [
            (pair, content[8 * begin : 8 * (begin + size)])
            for pair, begin, size in zip(pairs[begins].tolist(), begins.tolist(), sizes.tolist(), strict=True)
        ]
        self._target.put_many(LISTS[Direction.FOLLOWING].histories, rows)
        back = sorted((pair_key(second_of(pair), first_of(pair)), events) for pair, events in rows)
        self._target.put_many(LISTS[Direction.FOLLOWERS].histories, back)

    def hubs(self, direction: Direction, owners: Numbers, new: Numbers) -> Numbers:
        """Return the owners of long lists with few new follows."""
        found = self._facts(LISTS[direction], owners)
        sizes = np.fromiter((facts.visible + facts.hidden for facts in found.values()), np.int64, len(found))
        long = np.fromiter(found, np.int64, len(found))
        added = new[np.searchsorted(owners, long)]
        return long[(sizes > ALWAYS_REWRITTEN) & (sizes > MUCH_LONGER * added)]

    def place(self, direction: Direction, follows: Follows) -> None:
        """Add follows to the lists of one direction."""
        if not len(follows.rows):
            return
        tables = LISTS[direction]
        owners, lists = owners_of(follows.owners)
        visible, visible_keys = self._entries(tables.visible, owners)
        hidden, hidden_keys = self._entries(tables.hidden, owners)
        old = np.concatenate([visible.positions, hidden.positions])
        old_lists = np.searchsorted(owners, np.concatenate([visible.owners, hidden.owners]))
        positions = place(lists, follows.seconds, np.sort(keyed(old_lists, old), kind="stable"))
        ends = np.zeros(len(positions), np.int64)
        new = Entries(follows.owners, positions, follows.accounts, follows.seconds, ends)
        is_visible = self._kinds_of(new.accounts) == VISIBLE
        shown = self._rewrite(tables.visible, new.where(is_visible), visible, visible_keys)
        others = self._rewrite(tables.hidden, new.where(~is_visible), hidden, hidden_keys)
        self._write_facts(tables, owners, shown, others)
        self._write_runs(tables, owners, np.append(lists, old_lists), np.append(positions, old))

    def _known(self, pairs: Numbers, follows: Follows, seen_at: int) -> tuple[Chosen, Chosen]:
        """Return the follows of known pairs, and those that say nothing new."""
        owners, _ = owners_of(follows.owners)
        tables = LISTS[Direction.FOLLOWING]
        visible, _ = self._entries(tables.visible, owners)
        hidden, _ = self._entries(tables.hidden, owners)
        entries = Entries(*(np.concatenate(both) for both in zip(visible, hidden, strict=True)))
        histories = np.array(self._keys(tables.histories, owners), np.int64)
        is_known = is_among(pairs, histories)
        is_same = np.zeros(len(pairs), np.bool_)
        if entries.size:
            ids = (entries.owners << 32) + entries.accounts
            order = np.argsort(ids + 0, kind="stable")
            ids, starts, is_open = ids[order], entries.starts[order], entries.ends[order] == 0
            place_of = np.minimum(np.searchsorted(ids, pairs), len(ids) - 1)
            is_listed = ids[place_of] == pairs
            is_same = is_listed & ~is_known & (starts[place_of] == follows.seconds)
            # Without a time, a row says nothing new of a follow that exists.
            is_same |= ~follows.has_time & is_among(pairs, ids[is_open & (starts <= seen_at)])
            is_known |= is_listed
        return is_known, is_same

    def _entries(self, table: Table, owners: Numbers) -> tuple[Entries, Numbers]:
        """Return owners' entries in one table, and the keys of their blocks."""
        if self._is_empty[table]:
            return NO_ENTRIES, NO_ENTRIES.owners
        keys, contents = self._target.rows_of(table, owners.tolist())
        require_linked(table, keys, contents)
        return decode_blocks(table, keys, contents), np.array(keys, np.int64)

    def _keys(self, table: Table, owners: Numbers) -> list[int]:
        return [] if self._is_empty[table] else self._target.rows_of(table, owners.tolist())[0]

    def _facts(self, tables: ListTables, owners: Numbers) -> dict[int, ListFacts]:
        if self._is_empty[tables.facts]:
            return {}
        contents = self._target.get_many(tables.facts, owners.tolist())
        return {
            owner: ListFacts.decode(tables.facts, owner, content)
            for owner, content in zip(owners.tolist(), contents, strict=True)
            if content is not None
        }

    def _rewrite(self, table: Table, new: Entries, old: Entries, old_keys: Numbers) -> "_Kept":
        """Write lists with new entries; return what the table then has."""
        if not new.size:
            return _Kept(old, old_keys)
        owners, _ = owners_of(new.owners)
        is_touched = is_among(old.owners, owners)
        entries = new.merged(old.where(is_touched))
        rows = list(encode_blocks(entries))
        keys = np.fromiter((key for key, _ in rows), np.int64, len(rows))
        stale = old_keys[is_among(old_keys >> 32, owners)]
        self._target.delete_many(table, stale[~is_among(stale, keys)].tolist())
        self._target.put_many(table, rows)
        untouched = old_keys[~is_among(old_keys >> 32, owners)]
        return _Kept(entries.merged(old.where(~is_touched)), np.sort(np.append(keys, untouched)))

    def _write_facts(self, tables: ListTables, owners: Numbers, shown: "_Kept", others: "_Kept") -> None:
        visible = shown.counts(owners, shown.entries.owners)
        hidden = others.counts(owners, others.entries.owners[others.entries.ends == 0])
        is_long = shown.is_long(owners) | others.is_long(owners)
        before = self._facts(tables, owners)
        late = {owner for owner, facts in before.items() if facts.is_late}
        is_needed = is_long | is_among(owners, np.array(sorted(late), np.int64))
        self._target.put_many(
            tables.facts,
            (
                (owner, ListFacts(count, other, owner in late).encode())
                for owner, count, other in zip(
                    owners[is_needed].tolist(), visible[is_needed].tolist(), hidden[is_needed].tolist(), strict=True
                )
            ),
        )
        self._target.delete_many(tables.facts, sorted(before.keys() - set(owners[is_needed].tolist())))

    def _write_runs(self, tables: ListTables, owners: Numbers, lists: Numbers, slots: Numbers) -> None:
        sizes = np.bincount(lists, minlength=len(owners))
        is_long = sizes >= MIN_RUN
        if not is_long.any():
            return
        chosen = is_long[lists]
        lists, slots = lists[chosen], slots[chosen]
        order = np.argsort(keyed(lists, slots), kind="stable")
        of, first, last = runs(lists[order], slots[order], MIN_RUN)
        keys = (owners[of] << 32) + first
        stale = np.array(self._keys(tables.runs, owners[is_long]), np.int64)
        self._target.delete_many(tables.runs, stale[~is_among(stale, keys)].tolist())
        contents = last.astype("<u4").tobytes()
        rows = ((key, contents[4 * index : 4 * index + 4]) for index, key in enumerate(keys.tolist()))
        self._target.put_many(tables.runs, rows)


class _Kept(NamedTuple):
    """Owners' entries in one table, and the keys of their blocks."""

    entries: Entries
    keys: Numbers

    @staticmethod
    def counts(owners: Numbers, found: Numbers) -> Numbers:
        """Return how often each owner is found."""
        return np.bincount(np.searchsorted(owners, found), minlength=len(owners))

    def is_long(self, owners: Numbers) -> Chosen:
        """Return which owners have blocks that are named as several are."""
        return is_among(owners, self.keys[(self.keys & LAST_SECOND) > 0] >> 32)


def sorted_follows(owners: Numbers, accounts: Numbers, seconds: Numbers, has_time: Chosen) -> Follows:
    """Return a group's follows in order, numbered by their places."""
    rows = np.arange(len(owners))
    order = np.lexsort((-rows, seconds, owners))
    return Follows(owners[order], seconds[order], accounts[order], rows[order], has_time[order])
