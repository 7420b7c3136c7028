"""What the lists and pairs of a keyspace must be: both directions agree, and each interval has a second of its own."""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from retinue.history import intervals
from retinue.model import Direction
from retinue.store.cassandra.accounts import AccountRow
from retinue.store.cassandra.buckets import Cut, cut_of
from retinue.store.cassandra.lists import entry_of
from retinue.store.cassandra.pairs import state_of
from retinue.store.cassandra.session import Session
from retinue.store.cassandra.shapes import ACCOUNT, ENTRY, LATE, LIST, OVER, PAIR, TAKEN
from retinue.store.rules.values import Entry, Seconds, State


class Entries(NamedTuple):
    """All that stands in an account's list of one direction, by kind."""

    main: list[Entry]
    aside: list[Entry]
    ended: list[Entry]

    def all(self) -> list[Entry]:
        """Of all kinds."""
        return [*self.main, *self.aside, *self.ended]


def lists_of(session: Session, account: int, direction: Direction) -> Entries:
    """Read a list of all kinds."""
    cuts = _cuts(session, account)
    return Entries(
        *(
            [
                entry_of(row)
                for bucket in cuts.get(kind, Cut()).buckets
                for row in session.stream(ENTRY.all_within, (account, kind, bucket.number))
            ]
            for kind in _kinds(direction)
        )
    )


def wrong_list(session: Session, account: int, row: AccountRow, direction: Direction) -> Iterator[str]:
    """What is wrong with one of an account's lists."""
    lists, cuts = lists_of(session, account, direction), _cuts(session, account)
    name = f"{direction.value} of account {account}"
    for entries, kind in zip(lists, _kinds(direction), strict=True):
        cut = cuts.get(kind, Cut())
        if cut.rows != len(entries):
            yield f"{kind} of account {account}: has {len(entries)} entries, but {cut.rows} are counted"
        if not cut.is_plain and not row.is_cut:
            yield f"{kind} of account {account}: is cut into buckets, which its account does not say"
    for position, count in Counter(entry.position for entry in lists.all()).items():
        if count > 1:
            yield f"{name}: {count} intervals stand on second {position}"
    yield from _wrong_sides(session, lists, name)
    yield from _wrong_entries(session, account, lists, direction)
    stored = sorted((first, last) for last, first in session.rows(TAKEN.all_within, (account, direction.value)))
    if stored != _stretches(lists):
        yield f"{name}: the stretches of taken seconds are {stored}, and should be {_stretches(lists)}"
    is_noted = bool(session.rows(LATE.select, (account, direction.value)))
    if not is_noted and any(entry.position > entry.second for entry in lists.all()):
        yield f"{name}: something stands later than it began, which is not noted"


def wrong_pair(session: Session, follower: int, followee: int) -> Iterator[str]:
    """What is wrong with a pair: its events make its intervals, and both lists have them."""
    found = session.rows(PAIR.select, (follower, followee))
    if not found:
        return
    state, name = state_of(found[0]), f"pair of accounts {follower} and {followee}"
    stored = [standing.interval for standing in state.standings]
    if sorted(stored, key=lambda interval: interval.start) != intervals(state.moments):
        yield f"{name}: its events make {intervals(state.moments)}, but stored is {stored}"
    for standing in state.standings:
        for owner, other, position, direction in (
            (follower, followee, standing.following, Direction.FOLLOWING),
            (followee, follower, standing.followers, Direction.FOLLOWERS),
        ):
            if not _stands(session, owner, direction, (position, other)):
                yield f"{name}: does not stand on second {position} of the {direction.value} list of account {owner}"
    is_over = bool(session.rows(OVER.select, (follower, Direction.FOLLOWING.value, followee)))
    if is_over != (state.open is None):
        yield f"{name}: is {'' if is_over else 'not '}among those that no list leads to"


def _wrong_sides(session: Session, lists: Entries, name: str) -> Iterator[str]:
    for entries, is_main in ((lists.main, True), (lists.aside, False)):
        for entry in entries:
            rows = session.rows(ACCOUNT.select, (entry.account,))
            if not rows:
                yield f"{name}: account {entry.account} is in it, which there is not"
            elif (other := AccountRow(*rows[0])).is_row != is_main and other.moving is None:
                side = "in the range of pages" if is_main else "aside"
                yield f"{name}: account {entry.account} stands {side}, where it does not belong"


def _wrong_entries(session: Session, owner: int, lists: Entries, direction: Direction) -> Iterator[str]:
    """Each entry is an interval of its pair."""
    for entries, is_open in ((lists.main, True), (lists.aside, True), (lists.ended, False)):
        for entry in entries:
            key = (owner, entry.account) if direction is Direction.FOLLOWING else (entry.account, owner)
            found = session.rows(PAIR.select, key)
            if not _has(state_of(found[0] if found else None), entry, direction, is_open=is_open):
                yield f"{direction.value} of account {owner}: what stands on second {entry.position} is no interval"


def _has(state: State, entry: Entry, direction: Direction, *, is_open: bool) -> bool:
    return any(
        (getattr(standing, direction.value), standing.interval.start) == (entry.position, entry.second)
        and (standing.interval.end is None) == is_open
        for standing in state.standings
    )


def _stands(session: Session, owner: int, direction: Direction, place: tuple[int, int]) -> bool:
    cuts = _cuts(session, owner)
    for kind in _kinds(direction):
        bucket = cuts.get(kind, Cut()).holding(place[0])
        more = " AND position = ? AND account = ?"
        if session.rows(ENTRY.all_within + more, (owner, kind, bucket.number, *place)):
            return True
    return False


def _stretches(lists: Entries) -> list[Seconds]:
    """The stretches that have to be stored: of two seconds and more, and single ones that are not seen in the list."""
    seen = {entry.position for entry in lists.main}
    found: list[Seconds] = []
    for position in sorted({entry.position for entry in lists.all()}):
        if found and found[-1][1] == position - 1:
            found[-1] = (found[-1][0], position)
        else:
            found.append((position, position))
    return [(first, last) for first, last in found if first < last or first not in seen]


def _cuts(session: Session, account: int) -> dict[str, Cut]:
    return {kind: cut_of(tuple(row)) for kind, *row in session.rows(LIST.all_within, (account,))}


def _kinds(direction: Direction) -> tuple[str, str, str]:
    return direction.value, f"{direction.value}_aside", f"{direction.value}_ended"
