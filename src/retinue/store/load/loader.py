"""Placing many follows at once: whole lists are read, merged as arrays, and written.

Only ordinary follows are placed, those of pairs without a history. Others are left to the rules (`store/rules/`), which
decide the same for single follows.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from retinue.model import Direction
from retinue.store.bulk import Follows
from retinue.store.layout.columns import (
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
from retinue.store.layout.lists import ListFacts
from retinue.store.layout.slot_arrays import keyed, place, runs
from retinue.store.layout.slots import MIN_RUN
from retinue.store.layout.tables import LAST_SECOND, LISTS, Key, ListTables, Table, first_of, pair_key, second_of

# Lists with fewer entries than this many seconds cannot run out of earlier slots, and there are no longer ones.
EARLIEST = 100_000_000
# A list that is this many times longer than what is new in it is not rewritten for that.
MUCH_LONGER = 50
ALWAYS_REWRITTEN = 10_000  # entries

ERASED, HIDDEN, VISIBLE = 0, 1, 2
ODD, NEW_PAIR, NEW_SECOND, REPEATED = OUTCOMES = range(4)

Kinds = Callable[[Numbers], NDArray[np.int8]]


class StoredLists(NamedTuple):
    """Both kinds of entries of some owners, with their block keys."""

    visible: Entries
    visible_keys: Numbers
    hidden: Entries
    hidden_keys: Numbers

    def of(self, owners: Numbers) -> "StoredLists":
        """Return the lists of some of the owners."""
        return StoredLists(
            self.visible.where(is_among(self.visible.owners, owners)),
            self.visible_keys[is_among(self.visible_keys >> 32, owners)],
            self.hidden.where(is_among(self.hidden.owners, owners)),
            self.hidden_keys[is_among(self.hidden_keys >> 32, owners)],
        )


class Classified(NamedTuple):
    """The outcome of each row, and the rows to place: the earliest of each new pair.

    `ODD` rows are left to the rules. The first row of a pair is `NEW_PAIR`, others are a `NEW_SECOND` or `REPEATED`.
    `stored` are the following lists of the rows.
    """

    outcomes: NDArray[np.int8]
    is_placed: Chosen
    stored: StoredLists

    def rows(self, outcome: int, follows: Follows) -> Numbers:
        chosen: Numbers = follows.rows[self.outcomes == outcome]
        return chosen


class LoadTarget(Protocol):
    """The rows of lists, to be read and written. No row is read after it was written."""

    def has_rows(self, table: Table) -> bool: ...

    def get_many(self, table: Table, keys: Sequence[Key]) -> list[bytes | None]: ...

    def rows_of(self, table: Table, owners: Sequence[int]) -> tuple[list[int], list[bytes]]: ...

    def put_many(self, table: Table, rows: Iterable[tuple[int, bytes]]) -> None: ...

    def delete_many(self, table: Table, keys: Iterable[int]) -> None: ...


class Loader:
    """Places follows of one source in the lists of a target."""

    def __init__(self, target: LoadTarget, kinds_of: Kinds) -> None:
        self._target = target
        self._kinds_of = kinds_of
        tables = [table for direction in Direction for table in LISTS[direction]]
        self._is_empty = {table: not target.has_rows(table) for table in tables}

    def classify(self, follows: Follows, hubs: dict[Direction, Numbers], seen_at: int = LAST_SECOND) -> "Classified":
        """Classify follows, sorted by follower. Store the histories of several seconds.

        Each follow began before it was seen, at `seen_at`.
        """
        pairs = (follows.owners << 32) + follows.accounts
        is_odd = self._is_odd(follows, hubs)
        if is_odd.any():
            is_odd = is_among(pairs, np.sort(pairs[is_odd]))
        stored = self._stored(Direction.FOLLOWING, owners_of(follows.owners)[0])
        is_known, is_same = self._known(pairs, follows, seen_at, stored)
        outcomes = np.where(is_known, np.where(is_same, REPEATED, ODD), NEW_PAIR).astype(np.int8)
        outcomes[is_odd] = ODD
        is_placed = outcomes == NEW_PAIR
        self._classify_repeated(pairs, follows, outcomes, is_placed)
        return Classified(outcomes, is_placed, stored)

    def _is_odd(self, follows: Follows, hubs: dict[Direction, Numbers]) -> Chosen:
        is_odd: Chosen = (self._kinds_of(follows.owners) == ERASED) | (self._kinds_of(follows.accounts) == ERASED)
        is_odd |= (follows.seconds < EARLIEST) | (follows.owners == follows.accounts)
        is_odd |= is_among(follows.owners, hubs[Direction.FOLLOWING])
        is_odd |= is_among(follows.accounts, hubs[Direction.FOLLOWERS])
        return is_odd

    def _classify_repeated(
        self, pairs: Numbers, follows: Follows, outcomes: NDArray[np.int8], is_placed: Chosen
    ) -> None:
        """Classify the rows of new pairs. Write the histories of several seconds."""
        ordered = np.sort(pairs)
        several = ordered[1:][ordered[1:] == ordered[:-1]]
        chosen = np.flatnonzero(is_placed & is_among(pairs, several)) if len(several) else several
        if not len(chosen):
            return
        chosen = chosen[np.lexsort((follows.rows[chosen], pairs[chosen]))]
        is_first = np.append(True, np.diff(pairs[chosen]) != 0)
        # Without a time, a row says nothing new of a follow that exists.
        is_event = is_first | follows.has_time[chosen]
        outcomes[chosen] = np.where(is_first, NEW_PAIR, REPEATED)
        is_placed[chosen] = False
        events = chosen[is_event]
        events = events[np.lexsort((follows.rows[events], follows.seconds[events], pairs[events]))]
        is_new_pair = np.append(True, np.diff(pairs[events]) != 0)
        is_new_second = is_new_pair | np.append(True, np.diff(follows.seconds[events]) != 0)
        is_placed[events[is_new_pair]] = True
        later = events[is_new_second]
        outcomes[later[outcomes[later] != NEW_PAIR]] = NEW_SECOND
        self._write_histories(pairs[later], follows.seconds[later])

    def _write_histories(self, pairs: Numbers, seconds: Numbers) -> None:
        """Write the ascending events of ascending pairs in both directions."""
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
        """Return the owners of long lists with few new entries.

        `new` are the numbers of new entries.
        """
        found = self._facts(LISTS[direction], owners)
        sizes = np.fromiter((facts.visible + facts.hidden for facts in found.values()), np.int64, len(found))
        long = np.fromiter(found, np.int64, len(found))
        added = new[np.searchsorted(owners, long)]
        return long[(sizes > ALWAYS_REWRITTEN) & (sizes > MUCH_LONGER * added)]

    def place(self, direction: Direction, follows: Follows, stored: StoredLists | None = None) -> None:
        """Add follows to the lists of one direction.

        `stored` are at least these lists, if they have been read.
        """
        if not len(follows.rows):
            return
        tables = LISTS[direction]
        owners, lists = owners_of(follows.owners)
        visible, visible_keys, hidden, hidden_keys = stored.of(owners) if stored else self._stored(direction, owners)
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

    def _known(self, pairs: Numbers, follows: Follows, seen_at: int, stored: StoredLists) -> tuple[Chosen, Chosen]:
        """Return the follows of known pairs, and the repeated ones of them."""
        entries = Entries(*(np.concatenate(both) for both in zip(stored.visible, stored.hidden, strict=True)))
        owners, _ = owners_of(follows.owners)
        histories = np.array(self._keys(LISTS[Direction.FOLLOWING].histories, owners), np.int64)
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

    def _stored(self, direction: Direction, owners: Numbers) -> StoredLists:
        tables = LISTS[direction]
        return StoredLists(*self._entries(tables.visible, owners), *self._entries(tables.hidden, owners))

    def _entries(self, table: Table, owners: Numbers) -> tuple[Entries, Numbers]:
        """Return the entries of owners in a table, and block keys."""
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

    def _rewrite(self, table: Table, new: Entries, old: Entries, old_keys: Numbers) -> "_Rewritten":
        """Write the lists with new entries; return all stored entries."""
        if not new.size:
            return _Rewritten(old, old_keys)
        owners, _ = owners_of(new.owners)
        is_touched = is_among(old.owners, owners)
        entries = new.merged(old.where(is_touched))
        rows = list(encode_blocks(entries))
        keys = np.fromiter((key for key, _ in rows), np.int64, len(rows))
        stale = old_keys[is_among(old_keys >> 32, owners)]
        self._target.delete_many(table, stale[~is_among(stale, keys)].tolist())
        self._target.put_many(table, rows)
        untouched = old_keys[~is_among(old_keys >> 32, owners)]
        return _Rewritten(entries.merged(old.where(~is_touched)), np.sort(np.append(keys, untouched)))

    def _write_facts(self, tables: ListTables, owners: Numbers, shown: "_Rewritten", others: "_Rewritten") -> None:
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


class _Rewritten(NamedTuple):
    """The entries of some owners after a change, with their block keys."""

    entries: Entries
    keys: Numbers

    @staticmethod
    def counts(owners: Numbers, found: Numbers) -> Numbers:
        return np.bincount(np.searchsorted(owners, found), minlength=len(owners))

    def is_long(self, owners: Numbers) -> Chosen:
        """Return which owners have blocks of a long list."""
        return is_among(owners, self.keys[(self.keys & LAST_SECOND) > 0] >> 32)


def sorted_follows(owners: Numbers, accounts: Numbers, seconds: Numbers, has_time: Chosen) -> Follows:
    """Return the sorted follows of a group, with rows as their indexes."""
    rows = np.arange(len(owners))
    order = np.lexsort((-rows, seconds, owners))
    return Follows(owners[order], seconds[order], accounts[order], rows[order], has_time[order])
