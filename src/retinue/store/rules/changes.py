"""The changes that records and events make."""

from collections.abc import Callable, Collection

from retinue import names
from retinue.history import Moment
from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent, FollowRecord
from retinue.store.bulk import NO_ACCOUNT
from retinue.store.contract import Decision, NotAKey, Verdict
from retinue.store.rules.accounts import Accounts
from retinue.store.rules.maintenance import Maintenance
from retinue.store.rules.pairs import Pairs
from retinue.store.rules.resolver import Resolver
from retinue.store.rules.tables import Tables
from retinue.store.rules.tombstones import FutureEvents, Tombstones, digest_of_record
from retinue.store.rules.values import LAST_SECOND, Claimed, Pair, State, Wanted
from retinue.store.rules.visibility import VisibilityCache

_COUNTED = (Verdict.ACCEPTED, Verdict.DUPLICATE)


class GraphChanges:
    """The changes of one writer."""

    def __init__(self, tables: Tables, visibility: VisibilityCache) -> None:
        self._table = tables.pairs
        self._visibility = visibility
        self._resolver = Resolver(tables.accounts, self._visibility)
        self._tombstones = Tombstones(tables.tombstones)
        self._future_events = FutureEvents(tables.future_events)
        self._accounts = Accounts(tables, self._resolver, self._visibility, self._tombstones)
        self._pairs = Pairs(tables, self._visibility)
        self._maintenance = Maintenance(tables, self._visibility, self._pairs)

    def begin(self) -> None:
        """Clear caches: after another writer may have written, or after a failure."""
        self._resolver.forget()
        self._pairs.forget()
        self._visibility.begin()
        self._tombstones.begin()
        self._future_events.begin()

    def bring(self, record: AccountRecord, now: int) -> Verdict:
        """Create or change the account of an imported row."""
        return self._accounts.bring(record, _second(now))

    def account_id_of(self, name: str) -> int:
        """Return the id of an imported name, or `NO_ACCOUNT`. Unknown accounts are created."""
        if self.is_refused(name):
            return NO_ACCOUNT
        return self._resolver.find(name) or self._accounts.create(names.keys_of_name(name)[0], name)

    def is_refused(self, name: str) -> bool:
        """Return whether an imported name is invalid or means an erased account."""
        if names.fault_in_username(name) is not None:
            return self._resolver.find(name) is None
        return self._tombstones.has_name(name) and self._resolver.find(name) is None

    def add_follow(self, record: FollowRecord, seen_at: int | None) -> Verdict:
        """Store an imported follow between accounts by key or username."""
        found = self._resolver.find(record.follower), self._resolver.find(record.followee)
        if _is_one(found, record.follower, record.followee):
            return Verdict.SELF_FOLLOW
        unknown = [name for name, account in zip((record.follower, record.followee), found, strict=True) if not account]
        if any(map(self._tombstones.has_name, unknown)):
            return Verdict.ERASED  # before any other fault, since such a row must not be kept as a reject
        if any(map(names.fault_in_username, unknown)):
            return Verdict.NO_ACCOUNT
        received_at = _second(record.received_at)
        # A future time is dropped; otherwise each import would store another one.
        followed_at = None if record.followed_at is None or record.followed_at > received_at else record.followed_at
        at = received_at if followed_at is None else followed_at
        if not self._pairs.has_room(found, at, received_at):
            return Verdict.LIST_FULL
        follower = found[0] or self._accounts.create(names.keys_of_name(record.follower)[0], record.follower)
        followee = found[1] or self._accounts.create(names.keys_of_name(record.followee)[0], record.followee)
        pair = Pair(follower, followee)
        state = self._pairs.state(pair)
        verdict = Verdict.DUPLICATE
        if followed_at is not None or state.open is None:
            verdict = self._learn(pair, state, record, at)
        if seen_at is not None and verdict is not Verdict.LIST_FULL:
            verdict = self._see(pair, min(seen_at, received_at), received_at) or verdict
        return Verdict.UPDATED if verdict is Verdict.ACCEPTED and state.open is not None else verdict

    def _learn(self, pair: Pair, state: State, record: FollowRecord, at: int) -> Verdict:
        latest = _second(record.received_at)
        positions = (record.following_position, record.followers_position)
        wanted = Wanted(*(None if position is None or position > latest else position for position in positions))
        if record.ended_at is None:
            return self._pairs.learn(pair, state, Moment(at), latest, wanted)
        # The end first: without it the follow might merge with a later interval, which would lose its slots.
        ended = self._pairs.learn(pair, state, Moment(record.ended_at, is_unfollow=True), latest)
        if ended is Verdict.LIST_FULL:
            return ended
        followed = self._pairs.learn(pair, self._pairs.state(pair), Moment(at), latest, wanted)
        return ended if followed is Verdict.DUPLICATE else followed

    def apply(self, event: Event, received_at: int) -> Decision:
        """Apply one event. It names accounts by key."""
        received_at = _second(received_at)
        if isinstance(event, FollowEvent):
            return self._follow(event, received_at)
        if isinstance(event, AccountEvent):
            return self._change(event, received_at)
        return self._erase(event)

    def key_of(self, name: str) -> str | None:
        """Return the key of the account behind an imported name."""
        account = self._resolver.find(name)
        return None if account is None else self._accounts.stored(account).key

    def not_a_key(self, key: str) -> NotAKey | None:
        """Return why an erasure must not name an account so, or None."""
        mistake = None if self._resolver.with_key(key) is not None else self._accounts.named_instead(key)
        if mistake is None or (self._tombstones.has_key(key) and not mistake.is_current):
            return None
        return mistake

    def missing(self, follower: str, followees: Collection[str], at: int) -> list[Pair]:
        """Return an account's follows at a second, except those of `followees`."""
        owner = self._resolver.find(follower)
        if owner is None:
            return []
        spared = {self._resolver.find(name) for name in followees}
        return [Pair(owner, account) for account in self._table.followed_at(owner, at) if account not in spared]

    def end(self, pair: Pair, at: int) -> Verdict:
        """End a follow at a second."""
        return self._pairs.learn(pair, self._pairs.state(pair), Moment(at, is_unfollow=True), at)

    def is_maintained(self) -> bool:
        """Return whether no maintenance is pending."""
        return self._maintenance.is_done()

    def run_maintenance(self, is_time_left: Callable[[], bool]) -> bool:
        """Do maintenance while time is left; return whether more is pending."""
        return self._maintenance.work(is_time_left)

    def _follow(self, event: FollowEvent, received_at: int) -> Decision:
        if event.follower == event.followee:
            return Verdict.SELF_FOLLOW
        at = min(event.at, received_at)
        pair = self._pair(event, at, received_at)
        if not isinstance(pair, Pair):
            return pair
        claimed = Claimed(pair.follower, pair.followee, "follow" if event.is_follow else "unfollow", event.at)
        if self._future_events.has(claimed):
            return Verdict.DUPLICATE
        verdict = self._pairs.learn(pair, self._pairs.state(pair), Moment(at, not event.is_follow), received_at)
        if event.at > at and verdict in _COUNTED:
            self._future_events.add(claimed, at)
        return verdict

    def _pair(self, event: FollowEvent, at: int, received_at: int) -> Pair | Decision:
        found = self._resolver.with_key(event.follower), self._resolver.with_key(event.followee)
        follower, followee = found
        if follower is None or followee is None:
            if refusal := self._refusal(event.follower, event.followee):
                return refusal
            if found == (None, None) and names.fold(event.follower) == names.fold(event.followee):
                return Verdict.SELF_FOLLOW
            if event.is_follow and not self._pairs.has_room(found, at, received_at):
                return Verdict.LIST_FULL
            follower = follower or self._accounts.create(event.follower, event.follower)
            followee = followee or self._accounts.create(event.followee, event.followee)
        return Pair(follower, followee)

    def _refusal(self, *keys: str) -> Decision | None:
        """Return why an event must not name accounts so, or None.

        An unknown key becomes a username, which must not be that of an erased account.
        """
        unknown = [key for key in keys if self._resolver.with_key(key) is None]
        if any(map(self._tombstones.has_key, unknown)):
            return Verdict.ERASED
        for key in unknown:
            if mistake := self._accounts.named_instead(key):
                return mistake
        return Verdict.ERASED if any(map(self._tombstones.has_name, unknown)) else None

    def _change(self, event: AccountEvent, received_at: int) -> Decision:
        key = event.record.key
        assert key is not None
        if refusal := self._refusal(key):
            return refusal
        found = self._resolver.with_key(key)
        if found and self._future_events.has(Claimed(found, 0, digest_of_record(event.record), event.at)):
            return Verdict.DUPLICATE
        at = min(event.at, received_at)
        verdict = self._accounts.apply(event.record, at)
        if event.at > at and verdict in _COUNTED:
            account = self._resolver.with_key(key)
            assert account is not None
            self._future_events.add(Claimed(account, 0, digest_of_record(event.record), event.at), at)
        return verdict

    def _see(self, pair: Pair, seen_at: int, received_at: int) -> Verdict | None:
        """Add a follow at `seen_at`. None if the history has one."""
        state = self._pairs.state(pair)
        if any(placed.interval.holds(seen_at) for placed in state.placed_intervals):
            return None
        return self._pairs.learn(pair, state, Moment(seen_at), received_at)

    def _erase(self, event: ErasureEvent) -> Decision:
        if mistake := self.not_a_key(event.key):
            return mistake
        account = self._resolver.with_key(event.key)
        if account is not None:
            self._accounts.wipe(account)
            return Verdict.ACCEPTED
        if self._tombstones.has_key(event.key):
            return Verdict.DUPLICATE
        self._tombstones.add(event.key, [names.fold(event.key)])  # a name-only source would call it that
        return Verdict.ACCEPTED


def _is_one(found: tuple[int | None, int | None], follower: str, followee: str) -> bool:
    if found != (None, None):
        return found[0] == found[1]
    same_key = names.keys_of_name(follower)[0] == names.keys_of_name(followee)[0]
    return same_key or names.fold(follower) == names.fold(followee)


def _second(now: int) -> int:
    """Return a time of receipt, at most the last possible slot."""
    return min(now, LAST_SECOND)
