"""What the rules need of a store: small tables, each a Protocol.

Called by one writer at a time, inside its unit of work: what was saved is read again at once, and all of it becomes
durable together or not at all. Knows no rule.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from retinue.model import Direction
from retinue.store.rules.values import (
    LAST_SECOND,
    Around,
    Claimed,
    Entry,
    Found,
    Pair,
    Relocation,
    SlotRun,
    State,
    Stored,
)


class AccountTable(Protocol):
    """Accounts. An erased one stays as a number without a key, so that it is never another's."""

    def add(self, key: str) -> int:
        """A new account of which nothing else is known; its number."""
        ...

    def load(self, account: int) -> Stored:
        """An account that is there and was not erased."""
        ...

    def is_visible(self, account: int) -> bool:
        """Whether others' lists show an account; an erased one is not shown."""
        ...

    def with_key(self, key: str) -> Found | None:
        """The account with a key."""
        ...

    def with_username(self, folded: str) -> Found | None:
        """The account that has a username."""
        ...

    def save(self, stored: Stored) -> None:
        """Store an account that is there in another state."""
        ...

    def revise(self, account: int) -> None:
        """Let readers take notice of a change of a name or visibility."""
        ...

    def wipe(self, account: int) -> None:
        """Leave nothing of an account but its number."""
        ...

    def profile_field(self, account: int, field: str) -> tuple[int, Any] | None:
        """The second and the value of a profile field of which something was said."""
        ...

    def set_profile_field(self, account: int, field: str, value: Any, at: int) -> None:
        """Store a profile field."""
        ...


class ClaimTable(Protocol):
    """All claims to usernames; of each account and name the latest is kept."""

    def owner_of(self, folded: str) -> int | None:
        """The account with the latest claim to a name, at one second that with the smaller key."""
        ...

    def claim(self, account: int, folded: str, at: int) -> bool:
        """Claim a name; whether that says anything new."""
        ...

    def names_of(self, account: int) -> list[str]:
        """Every name that an account has ever claimed."""
        ...

    def remove_all(self, account: int) -> None:
        """Forget an account's claims."""
        ...


class TombstoneTable(Protocol):
    """HMACs of what was erased, and the store's secret for them."""

    @property
    def secret(self) -> bytes:
        """32 bytes."""
        ...

    def any(self) -> bool:
        """Whether there is one."""
        ...

    def has(self, mac: bytes) -> bool:
        """Whether one is there."""
        ...

    def add(self, mac: bytes) -> None:
        """Keep one."""
        ...


class FutureEventTable(Protocol):
    """Events that claimed a time in the future when they came."""

    def any(self) -> bool:
        """Whether there is one."""
        ...

    def has(self, claimed: Claimed) -> bool:
        """Whether one is there."""
        ...

    def add(self, claimed: Claimed, at: int) -> None:
        """Keep one, with the second that counted."""
        ...

    def forget(self, account: int) -> None:
        """Remove all of an account, on either side."""
        ...


class RelocationTable(Protocol):
    """Accounts whose entries in others' lists are not all on their side yet."""

    def any(self) -> bool:
        """Whether there is one."""
        ...

    def has(self, account: int) -> bool:
        """Whether an account is among them."""
        ...

    def next(self) -> Relocation | None:
        """One of them."""
        ...

    def start(self, account: int, *, merge: bool) -> None:
        """Put an account in, or begin again with it. `merge`: readers cannot go by the range of pages meanwhile."""
        ...

    def save_position(self, account: int, direction: Direction, position: int) -> None:
        """Remember how far it is."""
        ...

    def finish(self, account: int) -> None:
        """Take an account out."""
        ...


class EntryTable(Protocol):
    """The entries of the lists of all owners, of one direction and side."""

    def has(self, owner: int, position: int) -> bool:
        """Whether an entry stands at a second."""
        ...

    def look(self, owner: int, second: int) -> Around:
        """Whether entries stand at a second and at its neighbours."""
        ...

    def count(self, owner: int) -> int:
        """How many entries a list has."""
        ...

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """The entries of a list at or before a second; the list must not change meanwhile."""
        ...

    def insert(self, owner: int, entry: Entry) -> None:
        """Put an entry on a free second of a list."""
        ...

    def remove(self, owner: int, position: int) -> Entry:
        """Take an entry away that is there."""
        ...


class SlotRunTable(Protocol):
    """Stretches of occupied seconds of the lists of one direction, each as long as it can be."""

    def all(self, owner: int, limit: int) -> list[SlotRun]:
        """The first stretches of a list, at most so many."""
        ...

    def near(self, owner: int, second: int) -> list[SlotRun]:
        """Those that hold a second or one of its neighbours, the later one first; maybe others."""
        ...

    def add(self, owner: int, run: SlotRun) -> None:
        """Store a stretch that touches no other."""
        ...

    def remove(self, owner: int, run: SlotRun) -> None:
        """Remove a stretch that is there."""
        ...


class ListTables(NamedTuple):
    """The tables of one direction. Of what stands aside the account is no row."""

    visible: EntryTable
    hidden: EntryTable
    slot_runs: SlotRunTable


class PairTable(Protocol):
    """The history of pairs."""

    def state(self, pair: Pair) -> State:
        """What is stored of a pair; `UNKNOWN` where nothing is."""
        ...

    def save(self, pair: Pair, before: State, after: State) -> None:
        """Store another state; with `UNKNOWN` nothing stays. Open intervals are in the lists' tables already."""
        ...

    def positions(self, pair: Pair, entry: Entry) -> tuple[int, int]:
        """Where an open pair stands in both lists, given its entry in one of them."""
        ...

    def over(self, account: int, limit: int) -> list[Pair]:
        """Some pairs of an account of which something is stored. Asked for when none stands in its lists any more."""
        ...

    def followed_at(self, owner: int, second: int) -> Sequence[int]:
        """Whom an account followed at a second, in the order of its list."""
        ...

    def note_late(self, owner: int, direction: Direction) -> None:
        """Remember for readers of the past that something stands behind its true start in a list."""
        ...


class Tables(NamedTuple):
    """All tables of a graph."""

    accounts: AccountTable
    claims: ClaimTable
    tombstones: TombstoneTable
    future_events: FutureEventTable
    relocations: RelocationTable
    following: ListTables
    followers: ListTables
    pairs: PairTable

    def of(self, direction: Direction) -> ListTables:
        """The lists of a direction."""
        return self.following if direction is Direction.FOLLOWING else self.followers
