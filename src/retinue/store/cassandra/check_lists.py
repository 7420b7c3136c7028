"""The invariants of lists and pairs of a keyspace."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from retinue.history import intervals
from retinue.model import Direction
from retinue.store.cassandra.accounts import AccountRow
from retinue.store.cassandra.lists import entry_of
from retinue.store.cassandra.pairs import is_unbegun, state_of
from retinue.store.cassandra.partitioning import Partitioning, partitioning_of
from retinue.store.cassandra.session import Row, Session, Statement
from retinue.store.cassandra.slot_runs import block_of, runs_in
from retinue.store.cassandra.table_definitions import ACCOUNT, ENTRY, LATE, LIST, PAIR, PLACED_INTERVALS, TAKEN
from retinue.store.rules.values import Entry, SlotRun, State

_AT_ONCE = 5_000
_PAIRS_OF = f"SELECT followee, moments, {PLACED_INTERVALS} FROM pair WHERE follower = ?"
_AT = f"{ENTRY.select_prefix} AND position = ? AND account = ?"


class StoredLists(NamedTuple):
    """All entries of an account in one direction, by kind."""

    visible: list[Entry]
    hidden: list[Entry]
    ended: list[Entry]
    unbegun: list[Entry]

    def all(self) -> list[Entry]:
        return [*self.visible, *self.hidden, *self.ended]


def lists_of(session: Session, account: int, direction: Direction) -> StoredLists:
    """Read an account's lists of one direction."""
    return _lists(session, account, direction, _by_kind(session, account))


def wrong_list(session: Session, account: int, row: AccountRow, direction: Direction) -> Iterator[str]:
    """Yield the problems of an account's lists of one direction."""
    by_kind = _by_kind(session, account)
    lists = _lists(session, account, direction, by_kind)
    name = f"{direction.value} of account {account}"
    for entries, kind in zip(lists, _kinds(direction), strict=True):
        partitioning = by_kind.get(kind, Partitioning())
        if partitioning.rows != len(entries):
            yield f"{kind} of account {account}: has {len(entries)} entries, but {partitioning.rows} are counted"
        if not partitioning.is_plain and not row.is_partitioned:
            yield f"{kind} of account {account}: is cut into buckets, which its account does not say"
    for position, count in Counter(entry.position for entry in lists.all()).items():
        if count > 1:
            yield f"{name}: {count} intervals stand on second {position}"
    yield from _wrong_visibility(session, lists, name)
    yield from _wrong_entries(session, account, lists, direction)
    yield from _wrong_unbegun(session, account, lists, direction)
    blocks = session.rows(TAKEN.select_prefix, (account, direction.value))
    stored = sorted(runs_in(blocks))
    if stored != _slot_runs(lists):
        yield f"{name}: the stored slot runs are {stored}, expected {_slot_runs(lists)}"
    for block, runs in blocks:
        if not runs or any(block_of(last) != block for _, last in runs):
            yield f"{name}: block {block} of slot runs has {runs}, which do not end there"
    is_noted = bool(session.rows(LATE.select, (account, direction.value)))
    if not is_noted and any(entry.position > entry.second for entry in lists.all()):
        yield f"{name}: something stands later than it began, which is not noted"


def wrong_pairs(session: Session, follower: int) -> Iterator[str]:
    """Yield the problems of an account's pairs as a follower."""
    lists = lists_of(session, follower, Direction.FOLLOWING)
    following = {(entry.position, entry.account) for entry in (*lists.all(), *lists.unbegun)}
    rows = session.stream(_PAIRS_OF, (follower,))
    while some := list(islice(rows, _AT_ONCE)):
        states = {row[0]: state_of(row[1:]) for row in some}
        followers = _followers_places(session, follower, states)
        for followee, state in states.items():
            for problem in _wrong_state(state):
                yield f"pair of accounts {follower} and {followee}: {problem}"
            for position, other_position in _places(follower, followee, state):
                for owner, direction, place, is_there in (
                    (follower, "following", position, (position, followee) in following),
                    (followee, "followers", other_position, (followee, other_position) in followers),
                ):
                    if not is_there:
                        where = _where(direction, place, owner, is_unbegun(state))
                        yield f"pair of accounts {follower} and {followee}: does not stand {where}"


def _where(direction: str, position: int, owner: int, unbegun: bool) -> str:
    if unbegun:
        return f"among what never began of the {direction} list of account {owner}"
    return f"on second {position} of the {direction} list of account {owner}"


def _places(follower: int, followee: int, state: State) -> list[tuple[int, int]]:
    if is_unbegun(state):
        return [(followee, follower)]
    return [(placed.following, placed.followers) for placed in state.placed_intervals]


def _wrong_state(state: State) -> Iterator[str]:
    stored = [placed.interval for placed in state.placed_intervals]
    if sorted(stored, key=lambda interval: interval.start) != intervals(state.moments):
        yield f"its events make {intervals(state.moments)}, but stored is {stored}"


def _followers_places(session: Session, follower: int, states: Mapping[int, State]) -> set[tuple[int, int]]:
    """Return a follower's entries in the followees' lists."""
    found = session.rows_of_all(Statement(LIST.select_prefix, (followee,)) for followee in states)
    by_kind = {followee: _by_kind_in(rows) for followee, rows in zip(states, found, strict=True)}
    wanted = [
        (followee, kind, by_kind[followee][kind].holding(position).number, position)
        for followee, state in states.items()
        for _, position in _places(follower, followee, state)
        for kind in _kinds(Direction.FOLLOWERS)
        if kind in by_kind[followee]
    ]
    entries = session.rows_of_all(Statement(_AT, (*place, follower)) for place in wanted)
    return {(owner, position) for (owner, _, _, position), rows in zip(wanted, entries, strict=True) if rows}


def _wrong_visibility(session: Session, lists: StoredLists, name: str) -> Iterator[str]:
    for entries, is_main in ((lists.visible, True), (lists.hidden, False)):
        for some in _in_parts(entries):
            found = session.rows_of_all(Statement(ACCOUNT.select, (entry.account,)) for entry in some)
            for entry, rows in zip(some, found, strict=True):
                if not rows:
                    yield f"{name}: account {entry.account} is in it, which there is not"
                elif (other := AccountRow(*rows[0])).is_visible != is_main and other.relocation is None:
                    side = "in the range of pages" if is_main else "aside"
                    yield f"{name}: account {entry.account} stands {side}, where it does not belong"


def _wrong_entries(session: Session, owner: int, lists: StoredLists, direction: Direction) -> Iterator[str]:
    """Yield entries that are no interval of their pair."""
    for entries, is_open in ((lists.visible, True), (lists.hidden, True), (lists.ended, False)):
        for some in _in_parts(entries):
            found = session.rows_of_all(
                Statement(PAIR.select, _pair_of(owner, entry.account, direction)) for entry in some
            )
            for entry, rows in zip(some, found, strict=True):
                if not _has(state_of(rows[0] if rows else None), entry, direction, is_open=is_open):
                    yield f"{direction.value} of account {owner}: what stands on second {entry.position} is no interval"


def _wrong_unbegun(session: Session, owner: int, lists: StoredLists, direction: Direction) -> Iterator[str]:
    for some in _in_parts(lists.unbegun):
        found = session.rows_of_all(Statement(PAIR.select, _pair_of(owner, entry.account, direction)) for entry in some)
        for entry, rows in zip(some, found, strict=True):
            if not is_unbegun(state_of(rows[0] if rows else None)):
                yield f"{direction.value} of account {owner}: account {entry.account} is among what never began"


def _pair_of(owner: int, other: int, direction: Direction) -> tuple[int, int]:
    return (owner, other) if direction is Direction.FOLLOWING else (other, owner)


def _has(state: State, entry: Entry, direction: Direction, *, is_open: bool) -> bool:
    return any(
        (getattr(placed, direction.value), placed.interval.start) == (entry.position, entry.second)
        and (placed.interval.end is None) == is_open
        for placed in state.placed_intervals
    )


def _slot_runs(lists: StoredLists) -> list[SlotRun]:
    """Return the runs to store: two slots or more, or a hidden one."""
    seen = {entry.position for entry in lists.visible}
    found: list[SlotRun] = []
    for position in sorted({entry.position for entry in lists.all()}):
        if found and found[-1][1] == position - 1:
            found[-1] = (found[-1][0], position)
        else:
            found.append((position, position))
    return [(first, last) for first, last in found if first < last or first not in seen]


def _lists(session: Session, account: int, direction: Direction, by_kind: Mapping[str, Partitioning]) -> StoredLists:
    return StoredLists(
        *(
            [
                entry_of(row)
                for bucket in by_kind.get(kind, Partitioning()).buckets
                for row in session.stream(ENTRY.select_prefix, (account, kind, bucket.number))
            ]
            for kind in _kinds(direction)
        )
    )


def _by_kind(session: Session, account: int) -> dict[str, Partitioning]:
    return _by_kind_in(session.rows(LIST.select_prefix, (account,)))


def _by_kind_in(rows: Iterable[Row]) -> dict[str, Partitioning]:
    return {kind: partitioning_of(tuple(row)) for kind, *row in rows}


def _kinds(direction: Direction) -> list[str]:
    return [f"{direction.value}{side}" for side in ("", "_aside", "_ended", "_unbegun")]


def _in_parts(entries: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    return (entries[begin : begin + _AT_ONCE] for begin in range(0, len(entries), _AT_ONCE))
