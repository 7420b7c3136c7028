"""The plain-dict model of the graph contract: slow, obvious, and what every store must agree with.

The contract leaves some choices, and the model takes these. A username is compared as it is answered. An account
created by key alone claims that key as username at second 0, and so does one that is only erased, but for a row of an
accounts file that has no username. A follow of oneself is refused as such also where the account is erased. An import
name means an erased account only if it means no living one. An event that names an account by a present or former
username is rejected, unless that is also the key of an account, maybe of an erased one; so is one that names an unknown
account by an erased username. Only an erasure may name a key that was an erased username. An erased account's entries
in others' lists keep their slots until `run_maintenance`. An event that claimed a time in the future is a duplicate
whenever it comes again.
"""

from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from retinue import names
from retinue.history import Interval, Moment, intervals
from retinue.model import (
    Account,
    AccountEvent,
    AccountRecord,
    Direction,
    ErasureEvent,
    Event,
    FollowEvent,
    FollowRecord,
    PageRequest,
    PageRows,
    Profile,
    Row,
    Visibility,
)
from retinue.store.contract import Decision, NotAKey, Verdict

# The initial state of an account.
UNSAID: dict[str, Any] = {
    "display_name": "",
    "visibility": Visibility.PUBLIC,
    "bio_description": "",
    "avatar_url": "",
    "bio_url": "",
    "is_verified": False,
    "likes_count": 0,
    "video_count": 0,
}

# Of each position in a list: the other account's id, and the true start of the interval that stands there.
Entries = dict[int, tuple[int, int]]
# The seconds that an interval should have in the following list and in the followers list.
Places = Sequence[int | None]


@dataclass(eq=False)
class Person:
    """An account: of each field, and of its username, the latest value and its second."""

    id: int
    key: str
    said: dict[str, tuple[int, Any]] = field(default_factory=dict)
    claim: tuple[int, str] = (-1, "")

    def value(self, of: str) -> Any:
        """Return the value of a field that counts."""
        return self.said[of][1] if of in self.said else UNSAID[of]

    def tell(self, record: AccountRecord, at: int) -> None:
        """Apply a record at a second. The latest value wins, and at the same second the larger one."""
        for of in UNSAID:
            value = getattr(record, of)
            if value is not None:
                self.said[of] = max(self.said.get(of, (at, value)), (at, value))


class ModelGraph:
    """A `GraphReader` of rows and a `GraphWriter` in dicts."""

    def __init__(self) -> None:
        self.people: dict[int, Person] = {}
        # For each folded username: who ever claimed it, and when last.
        self.claims: dict[str, dict[int, int]] = {}
        self.born = 0
        self.moments: dict[tuple[int, int], frozenset[Moment]] = {}
        self.lists: dict[tuple[int, Direction], Entries] = {}
        self.postdated: set[Event] = set()
        self.erased_keys: set[str] = set()
        self.erased_names: set[str] = set()

    # Writing

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts, each record an event at `now`."""
        return [self._import_account(record, now) for record in records]

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        """Store follows in the given order."""
        return [self._import_follow(record, seen_at) for record in records]

    async def keys_of(self, names: Sequence[str]) -> list[str | None]:
        """The keys of those whom names in an imported row mean."""
        meant = [self.meant_by(name) for name in names]
        return [None if person is None else person.key for person in meant]

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        """Return for each key why events must not name an account so, or None."""
        return [self._not_a_key(key) for key in keys]

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        """Unfollow at a second all accounts followed then, except those named."""
        person = self.meant_by(follower)
        if person is None:
            return 0
        spared = [self.meant_by(name) for name in followees]
        missing = [other for other in self._followed_at(person, at) if other not in spared]
        ended = [self._learn(person, other, Moment(at, is_unfollow=True)) for other in missing]
        return ended.count(Verdict.ACCEPTED)

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        """Apply events in the given order."""
        return [self._apply(event, received_at) for event in events]

    async def run_maintenance(self) -> bool:
        """Free all slots of erased accounts' entries in others' lists."""
        self.lists = {
            owned: {position: entry for position, entry in entries.items() if entry[0] in self.people}
            for owned, entries in self.lists.items()
        }
        return False

    async def compact(self) -> None:
        """The same."""
        await self.run_maintenance()

    async def settle(self) -> None:
        """Nothing to wait for."""

    # Reading

    async def find_account(self, folded: str) -> Account | None:
        """The live account with a folded username."""
        person = self.with_username(folded)
        return Account(person.id, person.value("visibility")) if person else None

    async def read(self, request: PageRequest) -> PageRows[Row]:
        """Return the visible rows of a page request, newest first."""
        found = [entry for entry in self.visible(request) if entry[0] <= request.bound]
        page = found[: request.limit]
        return PageRows([self.row(other) for _, other in page], page[-1][0] if page else 0, len(found) > request.limit)

    async def profile(self, account_id: int) -> Profile | None:
        """An account as itself."""
        person = self.people.get(account_id)
        if person is None:
            return None
        shown = {of: person.value(of) for of in UNSAID if of != "visibility"}
        return Profile(
            **shown,
            following_count=self._count(account_id, Direction.FOLLOWING),
            follower_count=self._count(account_id, Direction.FOLLOWERS),
        )

    def visible(self, request: PageRequest) -> list[tuple[int, int]]:
        """All (position, account id) that a list shows, newest first, whatever the bound and the limit."""
        entries = self.entries(request.account_id, request.direction)
        return [
            (position, other)
            for position, (other, start) in sorted(entries.items(), reverse=True)
            if self.is_visible(other) and stands(self._interval(request, other, start), request.as_of)
        ]

    def entries(self, account_id: int, direction: Direction) -> Entries:
        """All that stands in a list, open or ended, visible or not."""
        return self.lists.get((account_id, direction), {})

    def row(self, account_id: int) -> Row:
        """Return the row of an account in a list."""
        person = self.people.get(account_id)
        assert person is not None
        return Row(person.value("display_name"), self.username(person) or "")

    def is_visible(self, account_id: int) -> bool:
        """Whether lists show an account: it is public enough and has a name."""
        person = self.people.get(account_id)
        return person is not None and person.value("visibility").is_visible and self.username(person) is not None

    def _interval(self, request: PageRequest, other: int, start: int) -> Interval:
        """The interval of an entry."""
        pair = (request.account_id, other) if request.direction is Direction.FOLLOWING else (other, request.account_id)
        return next(interval for interval in intervals(self.moments[pair]) if interval.start == start)

    def _count(self, account_id: int, direction: Direction) -> int:
        """Count the entries of a list that go on, hidden ones included."""
        today = PageRequest(account_id, direction, 0, 0)
        entries = self.entries(account_id, direction).values()
        alive = [(other, start) for other, start in entries if other in self.people]
        return sum(stands(self._interval(today, other, start), None) for other, start in alive)

    def has_ghosts(self) -> bool:
        """Whether something that erased accounts left still keeps seconds."""
        return any(other not in self.people for entries in self.lists.values() for other, _ in entries.values())

    # Identity

    def with_key(self, key: str) -> Person | None:
        """The live account with a key."""
        return next((person for person in self.people.values() if person.key == key), None)

    def with_username(self, folded: str) -> Person | None:
        """The live account that has a username."""
        best = self._best_claimant(folded)
        return best if best and names.fold(best.claim[1]) == folded else None

    def username(self, person: Person) -> str | None:
        """The username that an account has: its latest claim, unless another's claim to that name is better."""
        _, name = person.claim
        return name if self._best_claimant(names.fold(name)) is person else None

    def meant_by(self, name: str) -> Person | None:
        """The live account that an import means: by key, else by username, else by the key made of that name."""
        by_username = self.with_username(names.fold(name))
        return self.with_key(name) or by_username or self.with_key(names.keys_of_name(name)[0])

    def _best_claimant(self, folded: str) -> Person | None:
        """Return the account with the latest claim to a name; at one second the smaller key."""
        claims = self.claims.get(folded, {})
        best = min(claims, key=lambda one: (-claims[one], self.people[one].key), default=None)
        return None if best is None else self.people[best]

    def _not_a_key(self, key: str) -> NotAKey | None:
        """Return which account a name means that is no key, or None; an erased account's only while it is carried."""
        folded = names.fold(key)
        named = self._best_claimant(folded) or self.with_key(names.without_at(key))
        if self.with_key(key) or named is None:
            return None
        is_current = self.with_username(folded) is named
        return None if key in self.erased_keys and not is_current else NotAKey(key, named.key, is_current=is_current)

    def _refusal(self, keys: Sequence[str]) -> Decision | None:
        """Return why an event must not name accounts so, or None: erased keys, then usernames, then erased ones."""
        unknown = [key for key in keys if not self.with_key(key)]
        if not self.erased_keys.isdisjoint(unknown):
            return Verdict.ERASED
        mistakes = [mistake for key in unknown if (mistake := self._not_a_key(key))]
        if mistakes:
            return mistakes[0]
        return Verdict.ERASED if any(map(self._was_erased, unknown)) else None

    def _means_somebody_erased(self, name: str) -> bool:
        """Return whether an import names an erased account and no living one, by key or username."""
        return self._was_erased(name) and self.meant_by(name) is None

    def _was_erased(self, name: str) -> bool:
        """Whether a name was an erased account's key, one of its usernames, or what its key was made of."""
        keys = {name, *names.keys_of_name(name)}
        return not self.erased_keys.isdisjoint(keys) or names.fold(name) in self.erased_names

    def _create(self, key: str, name: str) -> Person:
        """A new account. Its claim to the name that it is first known by is the weakest there can be."""
        self.born += 1
        person = self.people[self.born] = Person(self.born, key)
        if names.fault_in_username(name) is None:
            self._claim(person, name, 0)
        return person

    def _tell(self, person: Person, record: AccountRecord, at: int) -> None:
        """Take notice of what a record says."""
        person.tell(record, at)
        if record.username is not None:
            self._claim(person, record.username, at)

    def _claim(self, person: Person, name: str, at: int) -> None:
        """Take notice of a claim to a username."""
        person.claim = max(person.claim, (at, names.as_answered(name)))
        claims = self.claims.setdefault(names.fold(name), {})
        claims[person.id] = max(claims.get(person.id, 0), at)

    def _forget(self, person: Person) -> set[str]:
        """Forget an account; return the usernames it ever claimed."""
        del self.people[person.id]
        return {name for name, claims in self.claims.items() if claims.pop(person.id, None) is not None}

    def _knowledge(self, person: Person) -> object:
        """Return everything known of an account that may matter later."""
        return dict(person.said), person.claim, [claims.get(person.id) for claims in self.claims.values()]

    # Accounts

    def _import_account(self, record: AccountRecord, now: int) -> Verdict:
        """A row of an accounts file. It is accepted where a value changed that can be seen."""
        person = self._spoken_of(record)
        if record.key in self.erased_keys or (person is None and self._is_of_an_erased_name(record)):
            return Verdict.ERASED
        before = person and self._seen(person)
        person = person or self._create_for(record)
        person.key = record.key or person.key
        self._tell(person, record, now)
        if before is None:
            return Verdict.ACCEPTED
        return Verdict.DUPLICATE if before == self._seen(person) else Verdict.UPDATED

    def _seen(self, person: Person) -> tuple[Any, ...]:
        return person.key, self.username(person), *(person.value(of) for of in UNSAID)

    def _spoken_of(self, record: AccountRecord) -> Person | None:
        """The account of a row. A source that begins to give ids takes over what it named before."""
        name = record.username
        named = self.with_username(names.fold(name)) if name else None
        if record.key is None:
            return named or (self._without_its_name(name) if name else None)
        made_of_name = named and name and names.is_made_of(named.key, names.fold(name))
        return self.with_key(record.key) or (named if made_of_name else None)

    def _without_its_name(self, name: str) -> Person | None:
        """The account that was first known by a name, and lost it to another."""
        for key in names.keys_of_name(name):
            person = self.with_key(key)
            if person and names.fold(person.claim[1]) == names.fold(name):
                return person
        return None

    def _is_of_an_erased_name(self, record: AccountRecord) -> bool:
        return record.key is None and self._was_erased(record.username or "")

    def _create_for(self, record: AccountRecord) -> Person:
        """Create an account for a row; without an id its key is derived from its name."""
        if record.key is not None:
            return self._create(record.key, record.username or "")
        name = record.username or ""
        key, hashed = names.keys_of_name(name)
        while self.with_key(key):
            key, hashed = hashed, names.next_key(hashed)
        return self._create(key, name)

    def _apply_account(self, event: AccountEvent, at: int) -> Verdict:
        """Apply an account event. Anything that can make a difference later is an update."""
        key = event.record.key
        assert key is not None
        if event in self.postdated:
            return Verdict.DUPLICATE
        person = self.with_key(key)
        before = person and self._knowledge(person)
        person = person or self._create(key, key)
        self._tell(person, event.record, at)
        return Verdict.DUPLICATE if before == self._knowledge(person) else Verdict.ACCEPTED

    def _erase(self, key: str) -> Verdict:
        """Forget an account except for the names that identify it."""
        if key in self.erased_keys:
            return Verdict.DUPLICATE
        person = self.with_key(key) or self._create(key, key)
        self.erased_keys.add(person.key)
        self.erased_names |= self._forget(person)
        self.moments = {pair: moments for pair, moments in self.moments.items() if person.id not in pair}
        self.lists = {owned: entries for owned, entries in self.lists.items() if owned[0] != person.id}
        return Verdict.ACCEPTED

    # Follows

    def _apply(self, event: Event, received_at: int) -> Decision:
        """Apply one event. One from the future counts once, when it comes."""
        at = min(event.at, received_at)
        if isinstance(event, ErasureEvent):
            return self._not_a_key(event.key) or self._erase(event.key)
        if not is_of_one(event) and (refusal := self._refusal(keys_in(event))):
            return refusal
        if isinstance(event, AccountEvent):
            verdict = self._apply_account(event, at)
        else:
            verdict = self._apply_follow(event, Moment(at, not event.is_follow))
        if event.at > received_at and verdict in (Verdict.ACCEPTED, Verdict.DUPLICATE):
            self.postdated.add(event)
        return verdict

    def _apply_follow(self, event: FollowEvent, moment: Moment) -> Verdict:
        """Apply a follow or an unfollow."""
        keys = (event.follower, event.followee)
        is_new_spelling = not any(map(self.with_key, keys)) and names.fold(keys[0]) == names.fold(keys[1])
        if is_of_one(event):
            return Verdict.SELF_FOLLOW
        if is_new_spelling:
            return Verdict.SELF_FOLLOW
        if event in self.postdated:
            return Verdict.DUPLICATE
        follower, followee = (self.with_key(key) or self._create(key, key) for key in keys)
        return self._learn(follower, followee, moment)

    def _import_follow(self, record: FollowRecord, seen_at: int | None) -> Verdict:
        """A row of a follows file."""
        if self._is_one(record.follower, record.followee):
            return Verdict.SELF_FOLLOW
        if self._means_somebody_erased(record.follower) or self._means_somebody_erased(record.followee):
            return Verdict.ERASED
        for name in (record.follower, record.followee):
            if names.fault_in_username(name) and self.meant_by(name) is None:
                return Verdict.NO_ACCOUNT
        follower, followee = (self._found_or_created(name) for name in (record.follower, record.followee))
        is_known = self._follows(follower, followee)
        now, verdict = record.received_at, Verdict.DUPLICATE
        places = [
            None if place is None or place > now else place
            for place in (record.following_position, record.followers_position)
        ]
        has_time = record.followed_at is not None and record.followed_at <= now
        at = min(record.followed_at or now, now)
        if has_time or not is_known:
            verdict = self._learn_row((follower, followee), record, at, places)
        seen = None if seen_at is None else min(seen_at, now)
        if seen is not None and followee not in self._followed_at(follower, seen):
            verdict = self._learn(follower, followee, Moment(seen))
        return Verdict.UPDATED if verdict is Verdict.ACCEPTED and is_known else verdict

    def _learn_row(self, pair: tuple[Person, Person], record: FollowRecord, at: int, places: Places) -> Verdict:
        """Learn what a row says, its end first; accepted if one of both is new."""
        verdicts = []
        if record.ended_at is not None:
            verdicts.append(self._learn(*pair, Moment(record.ended_at, is_unfollow=True)))
        verdicts.append(self._learn(*pair, Moment(at), places))
        return Verdict.ACCEPTED if Verdict.ACCEPTED in verdicts else Verdict.DUPLICATE

    def _is_one(self, name: str, other: str) -> bool:
        """Whether two names mean one account, be it known or not."""
        person, another = self.meant_by(name), self.meant_by(other)
        if person or another:
            return person is another
        same_key = names.keys_of_name(name)[0] == names.keys_of_name(other)[0]
        return same_key or names.fold(name) == names.fold(other)

    def _found_or_created(self, name: str) -> Person:
        return self.meant_by(name) or self._create(names.keys_of_name(name)[0], name)

    def _follows(self, follower: Person, followee: Person) -> bool:
        """Whether one follows the other as far as is known."""
        moments = self.moments.get((follower.id, followee.id), frozenset())
        return any(interval.end is None for interval in intervals(moments))

    def _followed_at(self, person: Person, second: int) -> list[Person]:
        """Return the accounts followed at a second, in the order of the list."""
        then = PageRequest(person.id, Direction.FOLLOWING, 0, 0, second)
        return [
            self.people[other]
            for _, (other, start) in sorted(self.entries(person.id, then.direction).items(), reverse=True)
            if other in self.people and stands(self._interval(then, other, start), second)
        ]

    def _learn(self, follower: Person, followee: Person, moment: Moment, places: Places = (None, None)) -> Verdict:
        """Add a moment to a pair's history, and place the intervals that it has now in both lists."""
        known = self.moments.get((follower.id, followee.id), frozenset())
        if moment in known:
            return Verdict.DUPLICATE
        starts = {interval.start for interval in intervals(known | {moment})}
        self.moments[follower.id, followee.id] = known | {moment}
        for owner, other, direction, place in (
            (follower, followee, Direction.FOLLOWING, places[0]),
            (followee, follower, Direction.FOLLOWERS, places[1]),
        ):
            entries = self.entries(owner.id, direction)
            self.lists[owner.id, direction] = placed(entries, other.id, starts, {moment.at: place})
        return Verdict.ACCEPTED


def keys_in(event: Event) -> list[str]:
    """Return the keys by which an event names accounts."""
    if isinstance(event, FollowEvent):
        return [event.follower, event.followee]
    if isinstance(event, AccountEvent):
        return [event.record.key or ""]
    return [event.key]


def is_of_one(event: Event) -> bool:
    """Return whether an event is of an account that follows itself."""
    return isinstance(event, FollowEvent) and event.follower == event.followee


def stands(interval: Interval, as_of: int | None) -> bool:
    """Whether a list shows an interval: today the open ones, as of a second those that held it."""
    if as_of is None:
        return interval.end is None
    return interval.holds(as_of)


def placed(entries: Entries, other: int, starts: Iterable[int], places: Mapping[int, int | None]) -> Entries:
    """Return a list in which an account's intervals have these true starts.

    An interval that keeps its start keeps its position. Removed starts free theirs first, then the new ones are
    placed, oldest first, where they are wanted if that is free.
    """
    wanted = set(starts)
    after = {position: (one, start) for position, (one, start) in entries.items() if one != other or start in wanted}
    kept = {start for one, start in after.values() if one == other}
    for start in sorted(wanted - kept):
        place = places.get(start)
        after[free_second(after, start) if place is None or place in after else place] = (other, start)
    return after


def free_second(occupied: Container[int], wanted: int) -> int:
    """The nearest free earlier second, or the nearest later one where none is left: by walking along the run."""
    second = wanted
    while second in occupied:
        second -= 1
    if second >= 1:
        return second
    second = wanted
    while second in occupied:
        second += 1
    return second
