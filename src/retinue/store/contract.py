"""The contract of every store: small Protocols, each method with its promise.

The embedded store never suspends, unless a method writes. Any method may raise `StoreUnavailable`. Stores know no HTTP
and read no clock.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from retinue.model import (
    Account,
    AccountRecord,
    Event,
    FollowRecord,
    PageRequest,
    PageRows,
    Profile,
    Shown_co,
)


class Verdict(Enum):
    """The result of a record or event. A rejection's value is its reason."""

    ACCEPTED = "accepted"
    UPDATED = "updated"
    DUPLICATE = "duplicate"
    SELF_FOLLOW = "an account cannot follow itself"
    NO_ACCOUNT = "a name cannot be a username, and is no account's key"
    ERASED = "the account was erased"


class NotAKey(Struct, frozen=True):
    """A rejection: an event names an account by a username, maybe a former one."""

    name: str
    key: str
    is_current: bool

    @property
    def value(self) -> str:
        """The reason of the rejection."""
        name = "the username" if self.is_current else "a former name"
        return f"{self.name} is {name} of an account whose key is {self.key}"


Decision = Verdict | NotAKey  # the result of an event


class GraphReader(Protocol[Shown_co]):
    """The read access of requests. Each call sees one consistent state.

    Names and visibility are at most one second behind the store, positions never.
    """

    async def find_account(self, folded: str) -> Account | None:
        """Return the live account with a folded username (`names.fold`)."""
        ...

    async def read(self, request: PageRequest) -> PageRows[Shown_co]:
        """Return the rows of a page request, short only at the end."""
        ...

    async def profile(self, account_id: int) -> Profile | None:
        """Return an account's profile with exact counts, None if erased."""
        ...


class EncodedRows(Struct, frozen=True, gc=False):
    """Encoded rows of a page request: `count` rows, newest first, separated by commas."""

    text: bytes
    count: int
    oldest: int
    has_more: bool


class Closing(Protocol):
    """An open part, to be closed by its user."""

    def close(self) -> None:
        """Release files and connections."""
        ...


class FastGraph(Closing, Protocol):
    """Answers of a `GraphReader` from memory, without awaiting. None: ask the reader."""

    def find_account_nowait(self, username: str) -> Account | None:
        """Return the live account with a username. Raises `UnknownAccount`."""
        ...

    def read_nowait(self, request: PageRequest) -> EncodedRows | None:
        """Return the encoded rows of a page request for the current list."""
        ...


class GraphWriter(Protocol):
    """The write access of imports and events.

    Each call is idempotent and, on return, survives `kill -9`. One writer works at a time: for a second if no other
    waits, for 200 ms while one does or did a moment ago. A bulk load works longer. A pair's intervals depend only on
    the *set* of its events (`history.py`). Each keeps its position in both lists while its true start stays the same.
    An event takes effect at its claimed time or its receipt, whichever is earlier.
    """

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts, each by an event at `now`.

        The latest value of each field counts, at one second the larger. A username belongs to its latest claim, at one
        second to the smaller key. Its former owner is withheld until it claims another.
        """
        ...

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        """Store follows in the given order, and create unknown accounts.

        A record without a time counts at `received_at`, and is a duplicate if the follow exists. `seen_at` asserts that
        the follow existed then: if its history says otherwise, an interval starts there.
        """
        ...

    async def keys_of(self, names: Sequence[str]) -> list[str | None]:
        """Return the keys of the accounts that imported names mean, or None."""
        ...

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        """Return why `apply` would reject the erasure of each key, or None."""
        ...

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        """End a follower's follows of a second, except these; return their number."""
        ...

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        """Apply events in the given order. On return they survive a power loss.

        Accounts are named by key. Unknown ones are created, except under a name that another account has claimed
        (`NotAKey`). Events for an erased account, by key or username, are ERASED. An erasure of an unknown key is
        remembered.
        """
        ...

    async def run_maintenance(self) -> bool:
        """Do a short piece of maintenance; return whether more remains.

        It relocates entries of hidden or shown accounts, and removes those of erased ones. Readers skip them meanwhile.
        """
        ...

    async def compact(self) -> None:
        """Finish maintenance, then remove every byte of erased accounts."""
        ...

    async def settle(self) -> None:
        """Make all writes so far survive a power loss."""
        ...


class Checker(Closing, Protocol):
    """The store's own consistency check."""

    def problems(self) -> AsyncIterator[str]:
        """Yield a sentence for each broken invariant."""
        ...

    async def facts(self) -> dict[str, int]:
        """Return counts of the content, and the largest displacement in seconds."""
        ...
