"""The changes of records and events, composed of accounts, pairs and tombstones.

They run inside the writer's unit of work. Everything read is cached until `forget`.
"""

from collections.abc import Collection, Iterable, Sequence

from retinue import names
from retinue.history import Moment
from retinue.model import AccountEvent, AccountRecord, ErasureEvent, Event, FollowEvent, FollowRecord
from retinue.store.contract import Decision, NotAKey, Verdict
from retinue.store.layout.accounts import AccountTable
from retinue.store.layout.relocations import RelocationQueue
from retinue.store.layout.rows import Rows
from retinue.store.layout.tables import LAST_SECOND
from retinue.store.rules.accounts import Accounts
from retinue.store.rules.pairs import Pair, Pairs, Positions
from retinue.store.rules.relocation import Relocator
from retinue.store.rules.resolver import Resolver
from retinue.store.rules.tombstones import FutureEvent, FutureEvents, Tombstones, digest_of_record

_COUNTED = (Verdict.ACCEPTED, Verdict.DUPLICATE)


class GraphChanges:
    """Changes of one writer's graph."""

    def __init__(self, rows: Rows) -> None:
        self.account_table = AccountTable(rows)
        queue = RelocationQueue(rows)
        self.resolver = Resolver(self.account_table)
        self.tombstones = Tombstones(rows)
        self._future_events = FutureEvents(rows)
        self._accounts = Accounts(self.account_table, self._future_events, self.resolver, queue, self.tombstones)
        self.pairs = Pairs(rows, self.account_table)
        self.relocator = Relocator(queue, self.account_table, self.pairs)

    def forget(self) -> None:
        """Call first, after other writers' changes, and after a failure."""
        self.account_table.forget()
        self.resolver.forget()
        self.pairs.forget()
        self.tombstones.begin()
        self._future_events.begin()

    def flush(self) -> None:
        self.pairs.flush()
        self.account_table.flush()

    def committed(self) -> None:
        self.pairs.committed()
        self.account_table.committed()

    def import_account(self, record: AccountRecord, now: int) -> Verdict:
        return self._accounts.import_record(record, _second(now))

    def import_plain(self, records: Sequence[AccountRecord], now: int) -> set[int]:
        """Create the accounts that nothing stored mentions. Return their records' indexes."""
        return self._accounts.import_plain(records, _second(now))

    def is_refused(self, name: str) -> bool:
        """Return whether an imported name is invalid or of an erased account."""
        if names.fault_in_username(name) is not None:
            return self.resolver.find(name) is None
        return self.tombstones.has_name(name) and self.resolver.find(name) is None

    def create_named(self, records: Iterable[Sequence[str]]) -> None:
        """Create the accounts of imported rows, if nothing stored mentions them."""
        self._accounts.create_plain(records, self.resolver.find)

    def create_keyed(self, records: Iterable[Sequence[str]]) -> None:
        """Create the accounts of events, if nothing stored mentions them."""
        self._accounts.create_plain(records, self.resolver.with_key)

    def is_any_unknown(self, *keys: str) -> bool:
        return any(self.resolver.with_key(key) is None for key in keys)

    def account_of(self, name: str) -> int:
        """Return the account that an imported name means; create it if needed."""
        return self.resolver.find(name) or self._accounts.create(names.keys_of_name(name)[0], name)

    def account_with_key(self, key: str) -> int:
        """Return the account with a key; create it if needed."""
        return self.resolver.with_key(key) or self._accounts.create(key, key)

    def refusal_of_row(self, follower: str, followee: str) -> Verdict | None:
        """Return why an imported row is refused, or None."""
        found = self.resolver.find(follower), self.resolver.find(followee)
        if _is_one(found, follower, followee):
            return Verdict.SELF_FOLLOW
        unknown = [name for name, account in zip((follower, followee), found, strict=True) if not account]
        if any(map(self.tombstones.has_name, unknown)):
            return Verdict.ERASED  # before any other fault, since the row is not kept then
        return Verdict.NO_ACCOUNT if any(map(names.fault_in_username, unknown)) else None

    def add_follow(self, record: FollowRecord, seen_at: int | None) -> Verdict:
        """Store an imported row, with accounts by key or username."""
        if refusal := self.refusal_of_row(record.follower, record.followee):
            return refusal
        received_at = _second(record.received_at)
        # A time in the future is no time: otherwise each import would bring the row a new one.
        followed_at = None if record.followed_at is None or record.followed_at > received_at else record.followed_at
        pair = Pair(self.account_of(record.follower), self.account_of(record.followee))
        is_open = self._is_open(pair)
        verdict = Verdict.DUPLICATE
        if followed_at is not None or not is_open:
            verdict = self._learn(pair, record, received_at if followed_at is None else followed_at)
        if seen_at is not None:
            verdict = self._see(pair, min(seen_at, received_at)) or verdict
        return Verdict.UPDATED if verdict is Verdict.ACCEPTED and is_open else verdict

    def apply(self, event: Event, received_at: int) -> Decision:
        received_at = _second(received_at)
        if isinstance(event, FollowEvent):
            return self._follow(event, received_at)
        if isinstance(event, AccountEvent):
            return self._change(event, received_at)
        return self._erase(event)

    def key_of(self, name: str) -> str | None:
        account_id = self.resolver.find(name)
        return None if account_id is None else self.account_table.load(account_id).key

    def not_a_key(self, key: str) -> NotAKey | None:
        """Return why an erasure cannot use a key, or None."""
        mistake = None if self.resolver.with_key(key) is not None else self._accounts.named_instead(key)
        if mistake is None or (self.tombstones.has_key(key) and not mistake.is_current):
            return None
        return mistake

    def missing(self, follower: str, followees: Collection[str], at: int) -> list[Pair]:
        """Return the pairs of a follower at a second, except some followees."""
        owner = self.resolver.find(follower)
        if owner is None:
            return []
        spared = {self.resolver.find(name) for name in followees}
        entries = self.pairs.following.lists.newest_first(owner)
        return [
            Pair(owner, entry.account)
            for entry in entries
            if entry.start <= at
            and (not entry.end or at < entry.end)
            and entry.account not in spared
            and self.account_table.find(entry.account) is not None
        ]

    def end(self, pair: Pair, at: int) -> Verdict:
        return self.pairs.learn(pair, Moment(at, is_unfollow=True))

    def refusal_of_event(self, keys: Sequence[str]) -> Decision | None:
        """Return why an event cannot use these keys, or None.

        An unknown key would become a username, and bring an erased account back.
        """
        unknown = [key for key in keys if self.resolver.with_key(key) is None]
        if any(map(self.tombstones.has_key, unknown)):
            return Verdict.ERASED
        for key in unknown:
            if mistake := self._accounts.named_instead(key):
                return mistake
        return Verdict.ERASED if any(map(self.tombstones.has_name, unknown)) else None

    def _is_open(self, pair: Pair) -> bool:
        return any(not entry.end for entry in self.pairs.entries(pair))

    def _learn(self, pair: Pair, record: FollowRecord, at: int) -> Verdict:
        """Add the follow of an imported row, and its end."""
        latest = _second(record.received_at)
        positions = (record.following_position, record.followers_position)
        wanted = Positions(*(None if position is None or position > latest else position for position in positions))
        if record.ended_at is None:
            return self.pairs.learn(pair, Moment(at), wanted)
        # The end first: a follow without it might swallow a later interval, which would lose its slots.
        ended = self.pairs.learn(pair, Moment(record.ended_at, is_unfollow=True))
        followed = self.pairs.learn(pair, Moment(at), wanted)
        return ended if followed is Verdict.DUPLICATE else followed

    def accounts_of(self, event: FollowEvent, received_at: int) -> Pair | Decision:
        """Return the pair of an event, or why it is not applied.

        Accounts are created if needed. A future event is stored.
        """
        if event.follower == event.followee:
            return Verdict.SELF_FOLLOW
        found = self.resolver.with_key(event.follower), self.resolver.with_key(event.followee)
        if None in found:
            if refusal := self.refusal_of_event((event.follower, event.followee)):
                return refusal
            if found == (None, None) and names.fold(event.follower) == names.fold(event.followee):
                return Verdict.SELF_FOLLOW
        pair = Pair(self.account_with_key(event.follower), self.account_with_key(event.followee))
        is_future = event.at > _second(received_at)
        if not is_future and self._future_events.is_empty:
            return pair
        future = FutureEvent(*pair, "follow" if event.is_follow else "unfollow", event.at)
        if self._future_events.has(future):
            return Verdict.DUPLICATE
        if is_future:
            self._future_events.add(future)
        return pair

    def _follow(self, event: FollowEvent, received_at: int) -> Decision:
        pair = self.accounts_of(event, received_at)
        if not isinstance(pair, Pair):
            return pair
        return self.pairs.learn(pair, Moment(min(event.at, received_at), not event.is_follow))

    def _change(self, event: AccountEvent, received_at: int) -> Decision:
        key = event.record.key
        assert key is not None
        if refusal := self.refusal_of_event((key,)):
            return refusal
        found = self.resolver.with_key(key)
        digest = digest_of_record(event.record) if event.at > received_at or found else ""
        if found and self._future_events.has(FutureEvent(found, 0, digest, event.at)):
            return Verdict.DUPLICATE
        at = min(event.at, received_at)
        verdict = self._accounts.apply(event.record, at)
        if event.at > at and verdict in _COUNTED:
            self._future_events.add(FutureEvent(self.account_with_key(key), 0, digest, event.at))
        return verdict

    def _see(self, pair: Pair, seen_at: int) -> Verdict | None:
        """Assert that a follow existed at a second. None: it did."""
        entries = self.pairs.entries(pair)
        if any(entry.start <= seen_at and (not entry.end or seen_at < entry.end) for entry in entries):
            return None
        return self.pairs.learn(pair, Moment(seen_at))

    def _erase(self, event: ErasureEvent) -> Decision:
        if mistake := self.not_a_key(event.key):
            return mistake
        account_id = self.resolver.with_key(event.key)
        if account_id is not None:
            self._accounts.wipe(account_id)
            return Verdict.ACCEPTED
        if self.tombstones.has_key(event.key):
            return Verdict.DUPLICATE
        self.tombstones.add(event.key, [names.fold(event.key)])  # a name-only source would call it that
        return Verdict.ACCEPTED


def _is_one(found: tuple[int | None, int | None], follower: str, followee: str) -> bool:
    """Return whether two names mean one account."""
    if found != (None, None):
        return found[0] == found[1]
    same_key = names.keys_of_name(follower)[0] == names.keys_of_name(followee)[0]
    return same_key or names.fold(follower) == names.fold(followee)


def _second(now: int) -> int:
    return min(now, LAST_SECOND)
