"""The invariants of lists: valid blocks, unique slots, matching directions."""

import heapq
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, pairwise

from retinue.model import Direction
from retinue.store.rules.values import Entry
from retinue.store.sqlite.accounts import IS_VISIBLE
from retinue.store.sqlite.blocks import CAPACITY, Block, owner_of, read_block, start_of
from retinue.store.sqlite.files import Execute

TABLES = tuple(f"{direction.value}{side}" for direction in Direction for side in ("", "_aside"))

_BUCKETS = 4096
_ENDED = {
    Direction.FOLLOWING: "SELECT follower, following_position FROM ended ORDER BY follower, following_position",
    Direction.FOLLOWERS: "SELECT followee, followers_position FROM ended ORDER BY followee, followers_position",
}

Blocks = Sequence[tuple[int, Block]]
OwnedRun = tuple[int, int, int]
Follow = tuple[int, int, int]


def follows(execute: Execute) -> int:
    """Return the number of follows."""
    count = "SELECT ifnull(sum(length(entries)), 0) / 8 FROM"
    return sum(int(execute(f"{count} {table}").fetchall()[0][0]) for table in TABLES[:2])


def largest_displacement(execute: Execute) -> int:
    """Return the largest distance of a position from its true second."""
    return max(
        (
            abs(position - second)
            for table in TABLES
            for row in execute(f"SELECT block, entries, displaced FROM {table} WHERE displaced IS NOT NULL")
            for position, second in read_block(table, *row).displaced.items()
        ),
        default=0,
    )


def lists_of(execute: Execute, table: str) -> Iterator[tuple[int, Blocks]]:
    """Yield each list of a table: its owner, block numbers and blocks."""
    rows = execute(f"SELECT block, entries, displaced FROM {table} ORDER BY block")
    for owner, blocks in groupby(rows, key=lambda row: owner_of(row[0])):
        yield owner, [(block, read_block(table, block, entries, displaced)) for block, entries, displaced in blocks]


def entries_of(execute: Execute, table: str) -> Iterator[tuple[int, Entry]]:
    """Yield all entries of a table with the owners of their lists."""
    for owner, blocks in lists_of(execute, table):
        for _, block in blocks:
            for position, account in zip(block.positions, block.accounts, strict=True):
                yield owner, Entry(position, account, block.displaced.get(position, position))


def _wrong_blocks(execute: Execute) -> Iterator[str]:
    for table in TABLES:
        counts = dict(execute(f"SELECT owner, entries FROM {table}_count").fetchall())
        for owner, blocks in lists_of(execute, table):
            where = f"{table} of account {owner}"
            yield from (f"{where}: {problem}" for problem in _problems_of_list(owner, blocks))
            size = sum(len(block) for _, block in blocks)
            expected = None if start_of(blocks[0][0]) == 0 else size
            if counts.pop(owner, None) != expected:
                yield f"{where}: the stored count is not {expected}"
        yield from (f"{table} of account {owner}: has a count, but no blocks" for owner in counts)


def _problems_of_list(owner: int, blocks: Blocks) -> Iterator[str]:
    if start_of(blocks[0][0]) == 0 and len(blocks) > 1:
        yield "has more blocks than its only one"
    ends = [start_of(block) for block, _ in blocks[1:]] + [1 << 32]
    for (number, block), end in zip(blocks, ends, strict=True):
        where = f"block {start_of(number)}"
        if not 1 <= len(block) <= CAPACITY or len(block) != len(block.accounts):
            yield f"{where}: has {len(block)} positions and {len(block.accounts)} accounts"
            continue
        steps = [max(start_of(number), 1) - 1, *block.positions, end]
        if any(later <= earlier for earlier, later in pairwise(steps)):
            yield f"{where}: its positions are not ascending, or reach out of the block"
        if any(at not in block.positions or at == second or second < 1 for at, second in block.displaced.items()):
            yield f"{where}: has wrong true seconds"
    accounts = [account for _, block in blocks for account in block.accounts]
    if len(set(accounts)) < len(accounts):
        yield "has an account twice"
    if owner in set(accounts):
        yield "has its owner among its accounts"


def _wrong_slot_runs(execute: Execute) -> Iterator[str]:
    for direction in Direction:
        visible, hidden = (_positions_of(entries_of(execute, f"{direction.value}{side}")) for side in ("", "_aside"))
        ended = iter(execute(_ENDED[direction]))
        listed = ((owner, position, True) for owner, position in visible)
        unlisted = ((owner, position, False) for owner, position in heapq.merge(hidden, ended))
        made = _slot_runs(heapq.merge(listed, unlisted), direction)
        stored = iter(execute(f"SELECT owner, first, last FROM {direction.value}_taken ORDER BY owner, first"))
        for made_of, is_stored in _differences(made, stored):
            if isinstance(made_of, str):
                yield made_of
                continue
            owner, first, last = made_of
            what = "is stored, but the list has no such run" if is_stored else "is not stored"
            yield f"{direction.value} of account {owner}: the slot run {first} to {last} {what}"


def _positions_of(entries: Iterable[tuple[int, Entry]]) -> Iterator[tuple[int, int]]:
    return ((owner, entry.position) for owner, entry in entries)


def _slot_runs(positions: Iterable[tuple[int, int, bool]], direction: Direction) -> Iterator[OwnedRun | str]:
    """Yield the runs to store. A slot that is taken twice gives a sentence."""
    owner, first, last, is_listed = 0, 0, 0, True
    for other, position, is_visible in positions:
        if (other, position) == (owner, last):
            yield f"{direction.value} of account {owner}: second {position} is taken twice"
        elif (other, position) == (owner, last + 1):
            last = position
        else:
            if first < last or not is_listed:
                yield owner, first, last
            owner, first, last, is_listed = other, position, position, is_visible
    if first < last or not is_listed:
        yield owner, first, last


def _differences(made: Iterator[OwnedRun | str], stored: Iterator[OwnedRun]) -> Iterator[tuple[OwnedRun | str, bool]]:
    """Yield items of only one of two ordered streams. The flag is true for stored ones."""
    left, right = next(made, None), next(stored, None)
    while left is not None or right is not None:
        if isinstance(left, str):
            yield left, False
            left = next(made, None)
        elif left == right:
            left, right = next(made, None), next(stored, None)
        elif right is None or (left is not None and left < right):
            assert left is not None
            yield left, False
            left = next(made, None)
        else:
            yield right, True
            right = next(stored, None)


def _one_sided(execute: Execute) -> Iterator[str]:
    """Yield follows that only one direction has. Sums over buckets come first, to save memory."""
    sums = [list(_sums(_follows(execute, direction))) for direction in Direction]
    wrong = {bucket for bucket in range(_BUCKETS) if sums[0][bucket] != sums[1][bucket]}
    if not wrong:
        return
    forth, back = (
        Counter(follow for follow in _follows(execute, direction) if follow[0] % _BUCKETS in wrong)
        for direction in Direction
    )
    for (follower, followee, second), _ in sorted(((forth - back) + (back - forth)).items()):
        has = "following" if forth[follower, followee, second] else "followers"
        yield f"account {follower} follows {followee} since {second} in the {has} list only"


def _sums(found: Iterable[Follow]) -> list[int]:
    sums = [0] * _BUCKETS
    for follow in found:
        sums[follow[0] % _BUCKETS] += hash(follow)
    return sums


def _follows(execute: Execute, direction: Direction) -> Iterator[Follow]:
    for side in ("", "_aside"):
        for owner, entry in entries_of(execute, f"{direction.value}{side}"):
            if direction is Direction.FOLLOWING:
                yield owner, entry.account, entry.second
            else:
                yield entry.account, owner, entry.second


def _unmerged(execute: Execute) -> Iterator[str]:
    query = (
        f"SELECT account, merge FROM moving JOIN account ON id = account WHERE merge <> ({IS_VISIBLE} OR key IS NULL)"
    )
    for account, merge in execute(query):
        yield f"account {account}: is being moved, and readers are wrongly told {'' if merge else 'not '}to merge"


def _wrong_visibility(execute: Execute) -> Iterator[str]:
    relocating = {account for (account,) in execute("SELECT account FROM moving")}
    accounts = execute(
        f"SELECT id, {IS_VISIBLE} FROM account WHERE key IS NOT NULL OR id IN (SELECT account FROM moving)"
    )
    rows = {account: bool(is_visible) for account, is_visible in accounts}
    for table in TABLES:
        belongs = not table.endswith("_aside")
        for owner, entry in entries_of(execute, table):
            is_visible = rows.get(entry.account)
            if is_visible is None or owner not in rows:
                yield f"{table} of account {owner}, position {entry.position}: account {entry.account} is not there"
            elif is_visible != belongs and entry.account not in relocating:
                yield f"{table} of account {owner}, position {entry.position}: account {entry.account} is out of place"


INVARIANTS: tuple[Callable[[Execute], Iterator[str]], ...] = (
    _wrong_blocks,
    _wrong_slot_runs,
    _one_sided,
    _wrong_visibility,
    _unmerged,
)
