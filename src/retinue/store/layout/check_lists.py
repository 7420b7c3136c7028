"""What the lists of a graph must be: well-formed blocks, slots of their own, both directions alike, true histories."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

from retinue.history import Interval, Moment, intervals
from retinue.model import Direction
from retinue.store.layout.accounts import decode_account
from retinue.store.layout.blocks import CAPACITY, Block, Entry
from retinue.store.layout.histories import Moments, decode_moments
from retinue.store.layout.lists import Facts
from retinue.store.layout.relocations import decode_relocation
from retinue.store.layout.sealing import unseal
from retinue.store.layout.slots import MIN_RUN
from retinue.store.layout.tables import (
    ACCOUNT,
    LAST_SECOND,
    LISTS,
    RELOCATION,
    ListTables,
    Source,
    Table,
    first_of,
    pair_key,
    second_of,
)

_BUCKETS = 4096

Blocks = list[tuple[int, Block]]  # each with the slot at which it begins
Follow = tuple[int, int, int, int]  # follower, followee, start and end


def rows_of(source: Source, table: Table) -> Iterator[tuple[int, bytes]]:
    """Yield key and content of all rows of a table of numbers."""
    for key, value in source.all_rows(table):
        assert isinstance(key, int)
        yield key, unseal(table, key, value)


def rows_of_owner(source: Source, table: Table, owner: int) -> Iterator[tuple[int, bytes]]:
    """Yield the same of one owner, with the second number as key."""
    for key, value in source.scan(table, pair_key(owner, 0), pair_key(owner, LAST_SECOND)):
        assert isinstance(key, int)
        yield second_of(key), unseal(table, key, value)


def lists_of(source: Source, tables: ListTables) -> Iterator[tuple[int, Blocks, Blocks]]:
    """Yield every list: its owner, visible and hidden blocks."""
    with_hidden = {first_of(int(key)) for key, _ in source.all_rows(tables.hidden)}
    for owner, rows in groupby(rows_of(source, tables.visible), key=lambda row: first_of(row[0])):
        visible = [(second_of(key), Block.decode(tables.visible, key, content)) for key, content in rows]
        yield owner, visible, _blocks_of_owner(source, tables.hidden, owner) if owner in with_hidden else []
    for owner, rows in groupby(rows_of(source, tables.hidden), key=lambda row: first_of(row[0])):
        hidden = [(second_of(key), Block.decode(tables.hidden, key, content)) for key, content in rows]
        if not source.scan(tables.visible, pair_key(owner, 0), pair_key(owner, LAST_SECOND), limit=1):
            yield owner, [], hidden


def _blocks_of_owner(source: Source, table: Table, owner: int) -> Blocks:
    rows = rows_of_owner(source, table, owner)
    return [(start, Block.decode(table, pair_key(owner, start), content)) for start, content in rows]


def entries_of(blocks: Blocks) -> Iterator[Entry]:
    """Yield the entries of blocks, oldest first."""
    for _, block in blocks:
        yield from list(block.newest_first())[::-1]


class _Further(NamedTuple):
    """The owners that have rows besides their entries, so that only theirs are looked up."""

    facts: set[int]
    runs: set[int]
    histories: set[int]


def _further(source: Source, tables: ListTables) -> _Further:
    return _Further(
        {int(key) for key, _ in source.all_rows(tables.facts)},
        *({first_of(int(key)) for key, _ in source.all_rows(table)} for table in (tables.runs, tables.histories)),
    )


def wrong_lists(source: Source, direction: Direction) -> Iterator[str]:
    """Yield what is wrong with each list of a direction, taken alone."""
    tables = LISTS[direction]
    further = _further(source, tables)
    for owner, visible, hidden in lists_of(source, tables):
        name = f"the {direction.value} list of account {owner}"
        for kind, blocks in (("visible", visible), ("hidden", hidden)):
            for problem in _wrong_blocks(blocks):
                yield f"{name}, {kind}: {problem}"
        entries = sorted([*entries_of(visible), *entries_of(hidden)])
        if any(entry.end for entry in entries_of(visible)):
            yield f"{name}: an ended entry is visible"
        if any(entry.account == owner for entry in entries):
            yield f"{name}: has its owner among its accounts"
        if any(before.position == after.position for before, after in pairwise(entries)):
            yield f"{name}: a slot is occupied twice"
        yield from (f"{name}: {problem}" for problem in _wrong_facts(source, tables, owner, (visible, hidden), has_facts=owner in further.facts))
        stored = _runs_of(source, tables, owner) if owner in further.runs else set()
        yield from (f"{name}: {problem}" for problem in _wrong_runs(stored, entries))
        histories = _histories_of(source, tables, owner) if owner in further.histories else {}
        yield from (f"{name}: {problem}" for problem in _wrong_histories(histories, entries))
    yield from _without_list(source, tables, direction)


def _wrong_blocks(blocks: Blocks) -> Iterator[str]:
    if blocks and blocks[0][0] == 0 and len(blocks) > 1:
        yield "has more blocks than its only one"
    ends = [start for start, _ in blocks[1:]] + [LAST_SECOND + 1]
    for (start, block), end in zip(blocks, ends if blocks else (), strict=True):
        steps = [max(start, 1) - 1, *block.positions, end]
        if not 1 <= len(block) <= CAPACITY:
            yield f"block {start} has {len(block)} entries"
        if any(later <= earlier for earlier, later in pairwise(steps)):
            yield f"block {start}: its positions are not ascending, or are outside of the block"
        strays = {*block.starts, *block.ends} - set(block.positions)
        if strays or any(second < 1 or second == at for at, second in block.starts.items()):
            yield f"block {start} has wrong starts or ends"
        if any(entry.end and entry.end <= entry.start for entry in block.newest_first()):
            yield f"block {start}: an interval ends before it begins"


def _wrong_facts(
    source: Source, tables: ListTables, owner: int, both: tuple[Blocks, Blocks], *, has_facts: bool
) -> Iterator[str]:
    visible, hidden = both
    is_long = any(start for blocks in both for start, _ in blocks)
    is_late = any(entry.position > entry.start for blocks in both for entry in entries_of(blocks))
    counts = sum(len(block) for _, block in visible), sum(block.open_count for _, block in hidden)
    (value,) = source.get(tables.facts, (owner,)) if has_facts else (None,)
    if value is None:
        if is_long or is_late:
            yield "its counts are missing"
        return
    facts = Facts.decode(tables.facts, owner, unseal(tables.facts, owner, value))
    if (facts.visible, facts.hidden) != counts:
        yield f"its stored counts are {facts.visible} and {facts.hidden}, not {counts[0]} and {counts[1]}"
    if is_late and not facts.is_late:
        yield "an entry is later than its start, which is not noted"


def _runs_of(source: Source, tables: ListTables, owner: int) -> set[tuple[int, int]]:
    return {(first, int.from_bytes(last, "little")) for first, last in rows_of_owner(source, tables.runs, owner)}


def _wrong_runs(stored: set[tuple[int, int]], entries: Iterable[Entry]) -> Iterator[str]:
    made: list[tuple[int, int]] = []
    for entry in entries:
        if made and made[-1][1] == entry.position - 1:
            made[-1] = made[-1][0], entry.position
        else:
            made.append((entry.position, entry.position))
    long = {run for run in made if run[1] - run[0] + 1 >= MIN_RUN}
    for first, last in sorted(long ^ stored):
        what = "is stored, but does not exist" if (first, last) in stored else "is not stored"
        yield f"the run of slots {first} to {last} {what}"


def _wrong_histories(histories: dict[int, Moments], entries: Sequence[Entry]) -> Iterator[str]:
    if not histories and len({entry.account for entry in entries}) == len(entries):
        ended = [entry for entry in entries if entry.end]
        yield from (f"account {entry.account}: its interval ended, but its events are missing" for entry in ended)
        return
    found: dict[int, list[Interval]] = defaultdict(list)
    for entry in entries:
        found[entry.account].append(Interval(entry.start, entry.end or None))
    for account in sorted(found.keys() | histories.keys()):
        stored = sorted(found[account], key=lambda interval: interval.start)
        moments = histories.get(account, frozenset(Moment(interval.start) for interval in stored))
        if intervals(moments) != stored or (account not in histories and len(stored) > 1):
            yield f"account {account}: its events make {_text(intervals(moments))}, but stored is {_text(stored)}"
        if account in histories and len(moments) == 1 and not any(moment.is_unfollow for moment in moments):
            yield f"account {account}: its history is one follow"


def _histories_of(source: Source, tables: ListTables, owner: int) -> dict[int, Moments]:
    rows = rows_of_owner(source, tables.histories, owner)
    return {account: decode_moments(tables.histories, account, content) for account, content in rows}


def _without_list(source: Source, tables: ListTables, direction: Direction) -> Iterator[str]:
    """Yield rows that belong to lists without an entry."""
    for table in (tables.runs, tables.histories, tables.facts):
        for owner, rows in groupby(source.all_rows(table), key=lambda row: _owner_of(table, tables, row[0])):
            has_entry = any(
                source.scan(lists, pair_key(owner, 0), pair_key(owner, LAST_SECOND), limit=1)
                for lists in (tables.visible, tables.hidden)
            )
            for key, value in rows:
                content = unseal(table, key, value)
                if has_entry or table is tables.facts:
                    continue
                if table is tables.runs or intervals(decode_moments(table, int(key), content)):
                    yield f"the {direction.value} list of account {owner}: has rows in {table.name}, but no entries"


def _owner_of(table: Table, tables: ListTables, key: object) -> int:
    assert isinstance(key, int)
    return key if table is tables.facts else first_of(key)


def _text(found: list[Interval]) -> str:
    return ", ".join(f"{each.start} to {each.end or 'now'}" for each in found) or "nothing"


def one_sided(source: Source) -> Iterator[str]:
    """Yield intervals that are in one list only. Sums over buckets come first, so that memory stays small."""
    sums = [_sums(_follows(source, direction)) for direction in Direction]
    wrong = {bucket for bucket in range(_BUCKETS) if sums[0][bucket] != sums[1][bucket]}
    if not wrong:
        return
    forth, back = (
        Counter(follow for follow in _follows(source, direction) if follow[0] % _BUCKETS in wrong)
        for direction in Direction
    )
    for follow, _ in sorted(((forth - back) + (back - forth)).items()):
        follower, followee, start, end = follow
        has = "following" if forth[follow] else "followers"
        yield f"account {follower} follows {followee} from {start} to {end or 'now'} in the {has} list only"


def _sums(found: Iterable[Follow]) -> list[int]:
    sums = [0] * _BUCKETS
    for follow in found:
        sums[follow[0] % _BUCKETS] += hash(follow)
    return sums


def _follows(source: Source, direction: Direction) -> Iterator[Follow]:
    for owner, visible, hidden in lists_of(source, LISTS[direction]):
        for entry in (*entries_of(visible), *entries_of(hidden)):
            pair = (owner, entry.account) if direction is Direction.FOLLOWING else (entry.account, owner)
            yield *pair, entry.start, entry.end


def wrong_visibility(source: Source) -> Iterator[str]:
    """Yield entries that should be visible or hidden and are not, and those of accounts that do not exist."""
    queue = {}
    for key, content in rows_of(source, RELOCATION):
        relocation = decode_relocation(key, content)
        queue[relocation.account_id] = relocation
    visible = {}
    for account_id, content in rows_of(source, ACCOUNT):
        account = decode_account(account_id, content)
        if account is not None or account_id in queue:
            visible[account_id] = account is not None and account.is_visible
            relocation = queue.get(account_id)
            if relocation and relocation.is_merged != (account is None or visible[account_id]):
                yield f"account {account_id}: is being relocated, and readers are wrongly told when to merge"
    for direction in Direction:
        for owner, shown, hidden in lists_of(source, LISTS[direction]):
            for is_shown, blocks in ((True, shown), (False, hidden)):
                for entry in entries_of(blocks):
                    name = f"the {direction.value} list of account {owner}, slot {entry.position}"
                    if entry.account not in visible or owner not in visible:
                        yield f"{name}: account {entry.account} does not exist"
                    elif not entry.end and visible[entry.account] != is_shown and entry.account not in queue:
                        yield f"{name}: account {entry.account} is wrongly {'visible' if is_shown else 'hidden'}"


def count_follows(source: Source) -> dict[str, int]:
    """Return counts of open and ended follows, and the largest distance of a slot from its start."""
    follows = ended = displacement = 0
    for _, visible, hidden in lists_of(source, LISTS[Direction.FOLLOWING]):
        follows += sum(len(block) for _, block in visible)
        ended += sum(len(block.ends) for _, block in hidden)
    for direction in Direction:
        for _, visible, hidden in lists_of(source, LISTS[direction]):
            for _, block in (*visible, *hidden):
                displacement = max(displacement, *(abs(at - start) for at, start in block.starts.items()), 0)
    return {"follows": follows, "ended_follows": ended, "largest_displacement": displacement}
