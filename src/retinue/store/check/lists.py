"""The invariants of lists: valid blocks, unique slots, equal directions, true histories."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from retinue.history import Interval, Moment, intervals
from retinue.model import Direction
from retinue.store.check.columns import BlockColumns, Part, parts_of
from retinue.store.layout.columns import Chosen, Numbers, is_among
from retinue.store.layout.histories import Moments, decode_moments
from retinue.store.layout.lists import ListFacts
from retinue.store.layout.relocations import decode_relocation
from retinue.store.layout.sealing import unseal
from retinue.store.layout.slot_arrays import runs
from retinue.store.layout.slots import MIN_RUN
from retinue.store.layout.stored_accounts import kind_of
from retinue.store.layout.tables import (
    ACCOUNT,
    LAST_SECOND,
    LISTS,
    RELOCATION,
    ListTables,
    Source,
    first_of,
    second_of,
)

_BUCKETS = 4096
_HISTORIES_AT_ONCE = 20_000
_ORDER = {Direction.FOLLOWING: 1, Direction.FOLLOWERS: -1}  # of owner and account, as follower and followee
_ERASED, _VISIBLE = 0, 2
_MISSING = 3


def wrong_lists(source: Source, direction: Direction) -> Iterator[str]:
    """Yield faults of each list of a direction, taken alone."""
    tables = LISTS[direction]
    for part in parts_of(source, direction):
        for kind, columns in (("visible", part.visible), ("hidden", part.hidden)):
            for owner, problem in _wrong_blocks(columns):
                yield f"the {direction.value} list of account {owner}, {kind}: {problem}"
        for find in (_wrong_entries, _wrong_facts, _wrong_runs, _wrong_histories):
            for owner, problem in find(source, tables, part):
                yield f"the {direction.value} list of account {owner}: {problem}"
    yield from _without_entries(source, tables, direction)


Kinds = NDArray[np.int8]
Sums = NDArray[np.uint64]
Columns = tuple[Numbers, ...]  # followers, followees, and what their lists say
Found = Iterator[tuple[int, str]]  # the owner of a list, and what is wrong with it


def _wrong_blocks(columns: BlockColumns) -> Found:
    keys, entries, blocks, starts = columns.keys, columns.entries, columns.blocks, columns.starts
    if not len(keys):
        return
    owners = keys >> 32
    is_alone = np.ones(len(keys), np.bool_)
    is_alone[1:] &= owners[1:] != owners[:-1]
    is_alone[:-1] &= owners[1:] != owners[:-1]
    next_starts = np.append(np.where(owners[1:] == owners[:-1], starts[1:], LAST_SECOND + 1), LAST_SECOND + 1)
    yield from _each(owners, (starts == 0) & ~is_alone, "has more blocks than its only one")
    for owner in np.unique(columns.unlinked >> 32).tolist():
        yield owner, "a block before or after another one is missing"
    yield from _each(owners, np.bincount(blocks, minlength=len(keys)) == 0, "has an empty block")
    positions = entries.positions
    is_outside = (positions < np.maximum(starts[blocks], 1)) | (positions >= next_starts[blocks])
    is_outside[1:] |= (blocks[1:] == blocks[:-1]) & (positions[1:] <= positions[:-1])
    yield from _each(entries.owners, is_outside, "its positions are not ascending, or are outside of their block")
    is_wrong = (entries.starts < 1) | ((entries.ends != 0) & (entries.ends <= entries.starts))
    yield from _each(entries.owners, is_wrong, "has a wrong start or end")


def _each(owners: Numbers, chosen: Chosen, problem: str) -> Found:
    for owner in np.unique(owners[chosen]).tolist():
        yield owner, problem


def _wrong_entries(_source: Source, _tables: ListTables, part: Part) -> Found:
    visible, entries = part.visible.entries, part.entries
    yield from _each(visible.owners, visible.ends != 0, "an ended entry is visible")
    yield from _each(entries.owners, entries.owners == entries.accounts, "has its owner among its accounts")
    ids = (entries.owners << 32) + entries.positions
    is_twice = np.append(False, ids[1:] == ids[:-1]) if len(ids) else ids == 1
    yield from _each(entries.owners, is_twice, "a slot is occupied twice")


def _wrong_facts(source: Source, tables: ListTables, part: Part) -> Found:
    owners = part.owners.tolist()
    stored = dict(zip(owners, source.get(tables.facts, owners), strict=True))
    visible, hidden = part.visible.entries, part.hidden.entries
    shown = _counts(part.owners, visible.owners)
    others = _counts(part.owners, hidden.owners[hidden.ends == 0])
    both = (part.visible, part.hidden)
    long = {first_of(key) for columns in both for key in columns.keys[columns.starts > 0].tolist()}
    late = set(np.unique(part.entries.owners[part.entries.positions > part.entries.starts]).tolist())
    for owner, count, other in zip(owners, shown.tolist(), others.tolist(), strict=True):
        value = stored[owner]
        if value is None:
            if owner in long or owner in late:
                yield owner, "its counts are missing"
            continue
        facts = ListFacts.decode(tables.facts, owner, unseal(tables.facts, owner, value))
        if (facts.visible, facts.hidden) != (count, other):
            yield owner, f"its stored counts are {facts.visible} and {facts.hidden}, not {count} and {other}"
        if owner in late and not facts.is_late:
            yield owner, "an entry is later than its start, which is not noted"


def _counts(owners: Numbers, found: Numbers) -> Numbers:
    return np.bincount(np.searchsorted(owners, found), minlength=len(owners))


def _wrong_runs(source: Source, tables: ListTables, part: Part) -> Found:
    entries = part.entries
    lists = np.searchsorted(part.owners, entries.owners)
    made = zip(*(column.tolist() for column in runs(lists, entries.positions, MIN_RUN)), strict=True)
    expected = {(int(part.owners[number]), first, last) for number, first, last in made}
    stored = {
        (first_of(key), second_of(key), int.from_bytes(unseal(tables.runs, key, value), "little"))
        for key, value in source.rows_of(tables.runs, part.owners.tolist())
    }
    for owner, first, last in sorted(expected ^ stored):
        what = "is stored, but does not exist" if (owner, first, last) in stored else "is not stored"
        yield owner, f"the run of slots {first} to {last} {what}"


def _wrong_histories(source: Source, tables: ListTables, part: Part) -> Found:
    """Compare intervals with events, except of pairs with one open interval."""
    entries = part.entries
    pairs = (entries.owners << 32) + entries.accounts
    histories = _histories_of(source, tables, part)
    ordered = np.sort(pairs)
    several = ordered[1:][ordered[1:] == ordered[:-1]]
    special = np.unique(np.concatenate([several, pairs[entries.ends != 0], np.array(sorted(histories), np.int64)]))
    found: dict[int, list[Interval]] = defaultdict(list)
    chosen = is_among(pairs, special)
    for pair, start, end in zip(
        pairs[chosen].tolist(), entries.starts[chosen].tolist(), entries.ends[chosen].tolist(), strict=True
    ):
        found[pair].append(Interval(start, end or None))
    for pair in special.tolist():
        stored = sorted(found[pair], key=lambda interval: interval.start)
        moments = histories.get(pair, frozenset(Moment(interval.start) for interval in stored))
        owner, account = first_of(pair), second_of(pair)
        if intervals(moments) != stored or (pair not in histories and len(stored) > 1):
            made = _text(intervals(moments))
            yield owner, f"account {account}: its events make {made}, but stored is {_text(stored)}"
        if pair in histories and len(moments) == 1 and not any(moment.is_unfollow for moment in moments):
            yield owner, f"account {account}: its history is one follow"


def _histories_of(source: Source, tables: ListTables, part: Part) -> dict[int, Moments]:
    rows = source.rows_of(tables.histories, part.owners.tolist())
    return {key: decode_moments(tables.histories, key, unseal(tables.histories, key, value)) for key, value in rows}


def _text(found: list[Interval]) -> str:
    return ", ".join(f"{each.start} to {each.end or 'now'}" for each in found) or "nothing"


def _without_entries(source: Source, tables: ListTables, direction: Direction) -> Iterator[str]:
    for key, value in source.all_rows(tables.facts):
        facts = ListFacts.decode(tables.facts, key, unseal(tables.facts, key, value))
        if (facts.visible or facts.hidden) and not _has_entries(source, tables, key):
            yield f"the {direction.value} list of account {key}: has counts, but no entries"
    for table in (tables.runs, tables.histories):
        for key, value in source.all_rows(table):
            content = unseal(table, key, value)
            if table is tables.histories and not intervals(decode_moments(table, key, content)):
                continue
            if not _has_entries(source, tables, first_of(key)):
                owner = first_of(key)
                yield f"the {direction.value} list of account {owner}: has a row in {table.name}, but no entries"


def _has_entries(source: Source, tables: ListTables, owner: int) -> bool:
    return any(source.rows_of(table, (owner,)) for table in (tables.visible, tables.hidden))


def one_sided(source: Source) -> Iterator[str]:
    """Yield intervals that only one of two lists has."""
    for (follower, followee, start, end), direction in _unmatched(partial(_intervals_of, source)):
        yield f"account {follower} follows {followee} from {start} to {end or 'now'} in the {direction.value} list only"


def one_sided_histories(source: Source) -> Iterator[str]:
    """Yield histories that differ between the two lists of a pair."""
    for follower, followee in sorted({row[:2] for row, _ in _unmatched(partial(_events_of, source))}):
        yield f"the histories of account {follower}, which follows {followee}, differ in the two lists"


def _unmatched(columns_of: Callable[[Direction], Iterator[Columns]]) -> Iterator[tuple[tuple[int, ...], Direction]]:
    """Yield the rows that only one direction has. Sums over buckets come first, so memory stays small."""
    sums = [sum(map(_sums, columns_of(direction)), np.zeros(_BUCKETS, np.uint64)) for direction in Direction]
    wrong = np.flatnonzero(sums[0] != sums[1])
    if not len(wrong):
        return
    forth, back = (
        Counter(row for columns in columns_of(direction) for row in _rows(columns, wrong)) for direction in Direction
    )
    for row in sorted((forth - back) + (back - forth)):
        yield row, Direction.FOLLOWING if forth[row] else Direction.FOLLOWERS


def _intervals_of(source: Source, direction: Direction) -> Iterator[Columns]:
    for part in parts_of(source, direction):
        entries = part.entries
        yield (*(entries.owners, entries.accounts)[:: _ORDER[direction]], entries.starts, entries.ends)


def _events_of(source: Source, direction: Direction) -> Iterator[Columns]:
    table = LISTS[direction].histories
    stored = source.all_rows(table)
    while part := list(islice(stored, _HISTORIES_AT_ONCE)):
        contents = [unseal(table, key, value) for key, value in part]
        keys = np.repeat(np.array([key for key, _ in part], np.int64), [len(content) // 8 for content in contents])
        events = np.frombuffer(b"".join(contents), "<u8").astype(np.int64)
        yield (*(keys >> 32, keys & LAST_SECOND)[:: _ORDER[direction]], events)


def _sums(columns: Columns) -> Sums:
    """Return sums over the rows in each bucket of followers. Any difference changes a sum."""
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        mixed = (mixed ^ column.astype(np.uint64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed ^= mixed >> np.uint64(29)
    sums = np.zeros(_BUCKETS, np.uint64)
    np.add.at(sums, columns[0] % _BUCKETS, mixed)
    return sums


def _rows(columns: Columns, buckets: Numbers) -> Iterator[tuple[int, ...]]:
    is_chosen = is_among(columns[0] % _BUCKETS, buckets)
    return zip(*(column[is_chosen].tolist() for column in columns), strict=True)


def wrong_visibility(source: Source) -> Iterator[str]:
    """Yield entries that are wrongly visible or hidden, or without an account."""
    queue = {}
    for key, value in source.all_rows(RELOCATION):
        relocation = decode_relocation(key, unseal(RELOCATION, key, value))
        queue[relocation.account_id] = relocation
    kinds = _kinds(source)
    for account_id, relocation in queue.items():
        kind = int(kinds[account_id]) if account_id < len(kinds) else _MISSING
        if relocation.is_merged != (kind in (_ERASED, _VISIBLE)):
            yield f"account {account_id}: is being relocated, and readers are wrongly told when to merge"
        if relocation.is_erased != (kind == _ERASED):
            kind_of_it = "an erased" if relocation.is_erased else "an existing"
            yield f"account {account_id}: is being relocated, wrongly as {kind_of_it} account"
    moving = np.array(sorted(queue), np.int64)
    for direction in Direction:
        for part in parts_of(source, direction):
            for is_shown, columns in ((True, part.visible), (False, part.hidden)):
                for owner, problem in _wrongly_shown(columns, kinds, moving, is_shown=is_shown):
                    yield f"the {direction.value} list of account {owner}: {problem}"


def _wrongly_shown(columns: BlockColumns, kinds: Kinds, moving: Numbers, *, is_shown: bool) -> Found:
    entries = columns.entries
    of_account, of_owner = (_kinds_at(kinds, ids) for ids in (entries.accounts, entries.owners))
    is_moving = is_among(entries.accounts, moving)
    is_missing = (of_account == _MISSING) | (of_owner == _MISSING) | ((of_account == _ERASED) & ~is_moving)
    is_wrong = (entries.ends == 0) & ((of_account == _VISIBLE) != is_shown) & ~is_moving & ~is_missing
    wrongly = f"is wrongly {'visible' if is_shown else 'hidden'}"
    for chosen, what in ((is_missing, "does not exist"), (is_wrong, wrongly)):
        for owner, slot, account in zip(
            *(column[chosen].tolist() for column in (entries.owners, entries.positions, entries.accounts)), strict=True
        ):
            yield owner, f"slot {slot}: account {account} {what}"


def _kinds_at(kinds: Kinds, ids: Numbers) -> Kinds:
    return np.where(ids < len(kinds), kinds[np.minimum(ids, len(kinds) - 1)], _MISSING)


def _kinds(source: Source) -> Kinds:
    """Return the kind of each account by id: erased, hidden, visible or missing."""
    found = {key: kind_of(unseal(ACCOUNT, key, value)) for key, value in source.all_rows(ACCOUNT)}
    kinds = np.full(max(found, default=0) + 1, _MISSING, np.int8)
    kinds[np.fromiter(found, np.int64, len(found))] = np.fromiter(found.values(), np.int8, len(found))
    return kinds
