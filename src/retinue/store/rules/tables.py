"""The tables that the rules need, each a Protocol.

One writer at a time calls them, inside its unit of work. Saved values are read again at once, and become durable
together or not at all.
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
    """Accounts. The row of an erased one stays, without a key."""

    def add(self, key: str) -> int:
        """Add an account with a key; return its id."""
        ...

    def load(self, account: int) -> Stored:
        """Return an existing account that was not erased."""
        ...

    def is_visible(self, account: int) -> bool:
        """Return whether an account appears in lists."""
        ...

    def with_key(self, key: str) -> Found | None:
        """Return the account with a key."""
        ...

    def with_username(self, folded: str) -> Found | None:
        """Return the account that owns a username."""
        ...

    def save(self, stored: Stored) -> None:
        """Save another state of an existing account."""
        ...

    def revise(self, account: int) -> None:
        """Make readers notice a change of a name or visibility."""
        ...

    def wipe(self, account: int) -> None:
        """Clear everything of an account but its id."""
        ...

    def profile_field(self, account: int, field: str) -> tuple[int, Any] | None:
        """Return the second and value of a profile field, or None."""
        ...

    def set_profile_field(self, account: int, field: str, value: Any, at: int) -> None:
        """Save a profile field."""
        ...


class ClaimTable(Protocol):
    """The latest claim of each account to each username."""

    def owner_of(self, folded: str) -> int | None:
        """Return the account with the latest claim to a name. Ties go to the smaller key."""
        ...

    def claim(self, account: int, folded: str, at: int) -> bool:
        """Claim a name; return whether the claim is new or later."""
        ...

    def names_of(self, account: int) -> list[str]:
        """Return every name that an account ever claimed."""
        ...

    def remove_all(self, account: int) -> None:
        """Remove an account's claims."""
        ...


class TombstoneTable(Protocol):
    """HMACs of erased keys and names, and the store's secret for them."""

    @property
    def secret(self) -> bytes:
        """The secret, 32 bytes."""
        ...

    def any(self) -> bool:
        """Return whether any is stored."""
        ...

    def has(self, mac: bytes) -> bool:
        """Return whether an HMAC is stored."""
        ...

    def add(self, mac: bytes) -> None:
        """Store an HMAC."""
        ...


class FutureEventTable(Protocol):
    """Events that claimed a time after their receipt."""

    def any(self) -> bool:
        """Return whether any is stored."""
        ...

    def has(self, claimed: Claimed) -> bool:
        """Return whether an event is stored."""
        ...

    def add(self, claimed: Claimed, at: int) -> None:
        """Store an event, with the second that counted."""
        ...

    def forget(self, account: int) -> None:
        """Remove all events of an account, on either side."""
        ...


class RelocationTable(Protocol):
    """Accounts whose entries may be in the wrong tables of others' lists."""

    def any(self) -> bool:
        """Return whether any is waiting."""
        ...

    def has(self, account: int) -> bool:
        """Return whether an account is waiting."""
        ...

    def next(self) -> Relocation | None:
        """Return a waiting one, or None."""
        ...

    def start(self, account: int, *, merge: bool) -> None:
        """Start or restart a relocation. `merge`: readers must merge visible and hidden entries."""
        ...

    def save_position(self, account: int, direction: Direction, position: int) -> None:
        """Save the progress of a relocation."""
        ...

    def finish(self, account: int) -> None:
        """Remove an account."""
        ...


class EntryTable(Protocol):
    """The entries of one direction, visible or hidden, of all lists."""

    def has(self, owner: int, position: int) -> bool:
        """Return whether a second has an entry."""
        ...

    def look(self, owner: int, second: int) -> Around:
        """Return whether a second and its neighbours have entries."""
        ...

    def count(self, owner: int) -> int:
        """Return the length of a list."""
        ...

    def newest_first(self, owner: int, bound: int = LAST_SECOND) -> Iterator[Entry]:
        """Yield entries at or before a second. The list must not change meanwhile."""
        ...

    def insert(self, owner: int, entry: Entry) -> None:
        """Insert an entry at a free slot."""
        ...

    def remove(self, owner: int, position: int) -> Entry:
        """Remove and return an existing entry."""
        ...


class SlotRunTable(Protocol):
    """Runs of adjacent taken slots, each as long as possible."""

    def all(self, owner: int, limit: int) -> list[SlotRun]:
        """Return the first runs of a list, at most `limit`."""
        ...

    def near(self, owner: int, second: int) -> list[SlotRun]:
        """Return the runs around a second, later first; maybe others too."""
        ...

    def add(self, owner: int, run: SlotRun) -> None:
        """Store a run that touches no other."""
        ...

    def remove(self, owner: int, run: SlotRun) -> None:
        """Remove a stored run."""
        ...


class ListTables(NamedTuple):
    """The tables of one direction. Hidden entries are of accounts that do not appear in lists."""

    visible: EntryTable
    hidden: EntryTable
    slot_runs: SlotRunTable


class PairTable(Protocol):
    """The history of pairs."""

    def state(self, pair: Pair) -> State:
        """Return the stored state of a pair, or `UNKNOWN`."""
        ...

    def save(self, pair: Pair, before: State, after: State) -> None:
        """Save a state; `UNKNOWN` removes the pair. The lists have the open interval's entries already."""
        ...

    def positions(self, pair: Pair, entry: Entry) -> tuple[int, int]:
        """Return an open pair's positions in both lists. `entry` is in one of them."""
        ...

    def over(self, account: int, limit: int) -> list[Pair]:
        """Return some pairs of an account without open ones."""
        ...

    def followed_at(self, owner: int, second: int) -> Sequence[int]:
        """Return the accounts followed at a second, in list order."""
        ...

    def note_late(self, owner: int, direction: Direction) -> None:
        """Note that a list has an entry later than its true start."""
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
        """Return the tables of a direction."""
        return self.following if direction is Direction.FOLLOWING else self.followers
