"""Groups of records and events.

Accounts are resolved together, and ordinary follows placed together. The rest then goes through the rules, one by one,
in the given order.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from retinue import names
from retinue.history import Moment
from retinue.model import AccountEvent, AccountRecord, Direction, ErasureEvent, Event, FollowEvent, FollowRecord
from retinue.store.bulk import Follows
from retinue.store.contract import Decision, Verdict
from retinue.store.layout.columns import Numbers, is_among, owners_of
from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import LAST_SECOND
from retinue.store.load.loader import (
    NEW_PAIR,
    NEW_SECOND,
    ODD,
    REPEATED,
    Kinds,
    Loader,
    sorted_follows,
)
from retinue.store.rules.changes import GraphChanges
from retinue.store.rules.pairs import Pair

MIN_GROUP = 32  # fewer are stored one by one in less time


_VERDICTS = {NEW_PAIR: Verdict.ACCEPTED, NEW_SECOND: Verdict.UPDATED, REPEATED: Verdict.DUPLICATE}


class _Candidate(NamedTuple):
    """A follow that may be ordinary, with its index in the group."""

    row: int
    follower: int
    followee: int
    second: int
    has_time: bool


class GroupChanges:
    """Groups of changes in one writer's graph."""

    def __init__(self, rows: Rows, changes: GraphChanges) -> None:
        self._rows = rows
        self._changes = changes

    def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts; return a verdict for each record."""
        if len(records) < MIN_GROUP:
            return [self._changes.import_account(record, now) for record in records]
        plain = self._changes.import_plain(records, now)
        others = [record for index, record in enumerate(records) if index not in plain]
        self._changes.resolver.prefetch(text for record in others for text in (record.key, record.username) if text)
        return [
            Verdict.ACCEPTED if index in plain else self._changes.import_account(record, now)
            for index, record in enumerate(records)
        ]

    def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None) -> list[Verdict]:
        """Store imported rows; return a verdict for each."""
        if len(records) < MIN_GROUP:
            return [self._changes.add_follow(record, seen_at) for record in records]
        self._changes.resolver.prefetch(name for record in records for name in (record.follower, record.followee))
        verdicts: dict[int, Verdict] = {}
        for index, record in enumerate(records):
            if refusal := self._changes.refusal_of_row(record.follower, record.followee):
                verdicts[index] = refusal
        stored = [(index, record) for index, record in enumerate(records) if index not in verdicts]
        self._changes.create_named((record.follower, record.followee) for _, record in stored)
        candidates: list[_Candidate] = []
        others: list[_Candidate] = []
        for index, record in stored:
            received_at, at = min(record.received_at, LAST_SECOND), record.followed_at
            has_time = at is not None and at <= received_at
            pair = self._changes.account_of(record.follower), self._changes.account_of(record.followee)
            is_odd = record.ended_at is not None or _has_other_position(record)
            second = at if has_time and at is not None else received_at
            is_odd |= seen_at is not None and second > seen_at
            (others if is_odd else candidates).append(_Candidate(index, *pair, second, has_time))
        verdicts.update(self._place(candidates, others, seen_at))
        for index, record in enumerate(records):
            if index not in verdicts:
                verdicts[index] = self._changes.add_follow(record, seen_at)
        return [verdicts[index] for index in range(len(records))]

    def apply(self, events: Sequence[Event], received_at: int, is_time_left: Callable[[], bool]) -> list[Decision]:
        """Apply events until no time is left, at least one.

        Return their decisions.
        """
        if len(events) >= MIN_GROUP:
            self._changes.resolver.prefetch(key for event in events for key in _keys_of(event))
        decisions: list[Decision] = []
        while len(decisions) < len(events) and (not decisions or is_time_left()):
            begin = len(decisions)
            end = begin + 1
            if self._is_movable(events[begin]):
                end = next((at for at in range(end, len(events)) if not self._is_movable(events[at])), len(events))
            decisions += self._apply_movable(events[begin:end], received_at)
        return decisions

    def _is_movable(self, event: Event) -> bool:
        """Return whether an event commutes with the follows around it."""
        if isinstance(event, AccountEvent):
            key = event.record.key or ""
            return event.record.username is None and self._changes.resolver.with_key(key) is not None
        return isinstance(event, FollowEvent)

    def _apply_movable(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        if len(events) < MIN_GROUP:
            return [self._changes.apply(event, received_at) for event in events]
        follows = [(index, event) for index, event in enumerate(events) if isinstance(event, FollowEvent)]
        decisions = {
            index: self._changes.apply(event, received_at)
            for index, event in enumerate(events)
            if not isinstance(event, FollowEvent)
        }
        decided = self._apply_follows([event for _, event in follows], received_at)
        decisions.update((index, decision) for (index, _), decision in zip(follows, decided, strict=True))
        return [decisions[index] for index in range(len(events))]

    def _apply_follows(self, events: Sequence[FollowEvent], received_at: int) -> list[Decision]:
        self._changes.create_keyed(
            (event.follower, event.followee)
            for event in events
            if self._changes.is_any_unknown(event.follower, event.followee)
            and names.fold(event.follower) != names.fold(event.followee)
        )
        decisions: dict[int, Decision] = {}
        candidates: list[_Candidate] = []
        others: list[_Candidate] = []
        for index, event in enumerate(events):
            found = self._changes.accounts_of(event, received_at)
            if not isinstance(found, Pair):
                decisions[index] = found
                continue
            at = min(event.at, received_at, LAST_SECOND)
            (candidates if event.is_follow else others).append(_Candidate(index, *found, at, has_time=True))
        for index, verdict in self._place(candidates, others).items():
            # Events tell of moments: another one is new, whatever it does to the list.
            decisions[index] = Verdict.ACCEPTED if verdict is Verdict.UPDATED else verdict
        for each in sorted((*candidates, *others)):
            if each.row not in decisions:
                moment = Moment(each.second, not events[each.row].is_follow)
                decisions[each.row] = self._changes.pairs.learn(Pair(each.follower, each.followee), moment)
        return [decisions[index] for index in range(len(events))]

    def _place(
        self, candidates: Sequence[_Candidate], others: Iterable[_Candidate], seen_at: int | None = None
    ) -> dict[int, Verdict]:
        """Place ordinary candidates; return their verdicts by index."""
        if len(candidates) < MIN_GROUP:
            return {}
        self._changes.pairs.flush()  # the loader reads what single events changed before
        table = np.array(candidates, np.int64)
        indexes, followers, followees, seconds, has_time = table.T
        odd_pairs = np.array(sorted((each.follower << 32) + each.followee for each in others), np.int64)
        loader = Loader(self._rows, self._kinds(np.unique(table[:, 1:3])))
        forth = sorted_follows(followers, followees, seconds, has_time.astype(np.bool_))
        hubs = {
            direction: self._hubs(loader, direction, ids)
            for direction, ids in zip(Direction, (followers, followees), strict=True)
        }
        forth = forth.where(~is_among((forth.owners << 32) + forth.accounts, odd_pairs))
        classified = loader.classify(forth, hubs, LAST_SECOND if seen_at is None else seen_at)
        placed = forth.where(classified.is_placed)
        loader.place(Direction.FOLLOWING, placed, classified.stored)
        chosen = np.sort(placed.rows)
        back = sorted_follows(followees[chosen], followers[chosen], seconds[chosen], has_time[chosen].astype(np.bool_))
        loader.place(Direction.FOLLOWERS, back)
        self._changes.pairs.following.lists.drop(set(placed.owners.tolist()))
        self._changes.pairs.followers.lists.drop(set(back.owners.tolist()))
        self._prefetch(forth.where(classified.outcomes == ODD))
        verdicts: dict[int, Verdict] = {}
        for outcome, verdict in _VERDICTS.items():
            verdicts |= dict.fromkeys(indexes[classified.rows(outcome, forth)].tolist(), verdict)
        return verdicts

    def _prefetch(self, left: Follows) -> None:
        self._changes.pairs.following.lists.prefetch(owners_of(left.owners)[0].tolist())
        self._changes.pairs.followers.lists.prefetch(np.unique(left.accounts).tolist())

    def _hubs(self, loader: Loader, direction: Direction, ids: Numbers) -> Numbers:
        owners, new = np.unique(ids, return_counts=True)
        return loader.hubs(direction, owners, new)

    def _kinds(self, ids: Numbers) -> Kinds:
        kinds = np.array(self._changes.account_table.kinds(ids.tolist()), np.int8)
        return lambda some: kinds[np.searchsorted(ids, some)]


def _keys_of(event: Event) -> tuple[str, ...]:
    if isinstance(event, FollowEvent):
        return event.follower, event.followee
    return (event.key,) if isinstance(event, ErasureEvent) else (event.record.key or "",)


def _has_other_position(record: FollowRecord) -> bool:
    return any(
        position is not None and position != record.followed_at
        for position in (record.following_position, record.followers_position)
    )
