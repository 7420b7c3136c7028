"""The contract of every store: small Protocols, each method with its promise.

Async, so that a store over the network can wait; the embedded one answers without suspending, except where a
method says that it writes. Any method may raise `StoreUnavailable`. Stores know no HTTP and read no clock.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from enum import Enum
from typing import Protocol

from msgspec import Struct

from retinue.model import (
    Account,
    AccountRecord,
    Client,
    ClientChange,
    Event,
    FollowRecord,
    Grant,
    Profile,
    Secrets,
    Shown_co,
    Slice,
    Stretch,
)


class Verdict(Enum):
    """The result of a record or event; the value of a rejection is its reason.

    An imported record is accepted if its account or follow is new, and an update if it only told more of a known one.
    """

    ACCEPTED = "accepted"
    UPDATED = "updated"
    DUPLICATE = "duplicate"
    SELF_FOLLOW = "an account cannot follow itself"
    LIST_FULL = "no second from 1 to now is free in this list"
    NO_ACCOUNT = "a name cannot be a username, and is no account's key"
    ERASED = "the account was erased"


class NotAKey(Struct, frozen=True):
    """A rejection: an event names the account with `key` by a username instead, maybe by a former one."""

    name: str
    key: str
    is_current: bool

    @property
    def value(self) -> str:
        """The reason."""
        name = "the username" if self.is_current else "a former name"
        return f"{self.name} is {name} of an account whose key is {self.key}"


Decision = Verdict | NotAKey  # what became of an event


class GraphReader(Protocol[Shown_co]):
    """What answering needs of the graph. Each call sees one consistent state.

    Names and visibility are at most one second behind the store; positions are not behind at all.
    """

    async def find_account(self, folded: str) -> Account | None:
        """The live account with this folded username (`names.fold`)."""
        ...

    async def read(self, stretch: Stretch) -> Slice[Shown_co]:
        """The rows of a stretch of a list.

        What is not visible is passed over inside the range, so a slice is short only at the list's end.
        """
        ...

    async def profile(self, account_id: int) -> Profile | None:
        """An account as itself, with exact counts; None where it is gone."""
        ...


class Run(Struct, frozen=True, gc=False):
    """What a stretch holds, as it stands on the wire: `count` rows, newest first, with commas between."""

    text: bytes
    count: int
    oldest: int
    has_more: bool


class HotGraph(Protocol):
    """What a graph can answer at once, without a coroutine, for the requests that come by the thousand.

    The promises are those of `GraphReader`, whose answers these must equal. None: ask there.
    """

    def account_at_once(self, folded: str) -> Account | None:
        """The live account with this folded username."""
        ...

    def run_at_once(self, stretch: Stretch) -> Run | None:
        """The rows of a stretch of today's list."""
        ...


class GraphWriter(Protocol):
    """What import and events need of the graph. Every call is idempotent and survives `kill -9` when it returns.

    One writer works at a time; others wait. The store holds its write lock for at most 200 ms at a stretch, unless many
    follows are loaded at once (`bulk.py`).

    Of a pair's follows and unfollows only the *set* counts (`history.py`): each interval stands on its own second in
    both lists, its true start or the nearest free earlier one, and keeps it while its true start stays the same.
    The effective time of everything is min(claimed time, time of receipt).
    """

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts named by username or key, each an event at `now`; a verdict for each record.

        Of each field the latest value counts, at one second the larger. A username belongs to its latest claim (at
        one second: to the smaller key); who loses it has none and is no row until it claims another.
        DUPLICATE: nothing was new.
        """
        ...

    async def add_follows(self, records: Sequence[FollowRecord], seen_at: int | None = None) -> list[Verdict]:
        """Store follows in the given order; a verdict for each. Unknown accounts are created.

        A record without a time is one of `received_at`, and a duplicate where the follow is there already. With
        `seen_at` the follow stood at that second: where, by all that is known, it did not, it begins anew there.
        """
        ...

    async def keys_of(self, names: Sequence[str]) -> list[str | None]:
        """The keys of the accounts that names in an imported row mean now; None where there is none."""
        ...

    async def not_keys(self, keys: Sequence[str]) -> list[NotAKey | None]:
        """Return for each key why `apply` rejects its erasure as one by username, or None. Changes nothing."""
        ...

    async def end_missing(self, follower: str, followees: Collection[str], at: int) -> int:
        """Unfollow at a second everybody whom an account followed then, but for those named; returns how many.

        One after the other, in the order of the list, since each may give a place to what follows later.
        """
        ...

    async def apply(self, events: Sequence[Event], received_at: int) -> list[Decision]:
        """Apply events in the given order; a decision for each. DUPLICATE: known already.

        When it returns, they also survive a power loss. Accounts are named by key. Unknown ones are created, but not
        under a name to which another account has a claim: that event is a mistake, and answered with `NotAKey`.
        An erased account's key and usernames are remembered as HMACs, and whatever comes for it is ERASED, also by a
        username; but for an erasure, which is remembered for a key that nothing was known of.
        """
        ...

    async def tidy(self) -> bool:
        """Do a short piece of what is left to do in the background; whether there is more.

        Accounts that are no rows any more are moved out of the range of pages, those that are rows again back to
        their places, and the follows of erased accounts are removed. Until then readers pass them over.
        """
        ...

    async def compact(self) -> None:
        """Finish what is left to do, then leave no byte in the store's files of what was erased."""
        ...

    async def settle(self) -> None:
        """Make everything written so far survive a power loss."""
        ...


class AccessStore(Protocol):
    """Clients and tokens. Secrets and tokens come and stay as SHA-256 digests of 32 bytes."""

    async def add_client(self, client: Client, secret: bytes) -> Client:
        """Store a new client with its secret's digest; the client with its number. Writes."""
        ...

    async def find_client(self, key: str) -> tuple[Client, Secrets] | None:
        """A client and the digests of its secrets."""
        ...

    async def clients(self) -> list[Client]:
        """All clients, oldest first."""
        ...

    async def change_client(self, key: str, change: ClientChange) -> bool:
        """Change what is named; False where there is no such client. Writes."""
        ...

    async def rotate_secret(self, key: str, secret: bytes, former_until: int) -> bool:
        """Give a client another secret; the one it had is good up to a second. Else as `change_client`."""
        ...

    async def suspend_client(self, key: str, at: int | None) -> bool:
        """Suspend a client, or (None) let it in again. Else as `change_client`."""
        ...

    async def revoke_client(self, key: str, at: int) -> bool:
        """End a client and with it its tokens, for good. Else as `change_client`."""
        ...

    async def add_token(self, digest: bytes, client_id: int, expires_at: int) -> None:
        """Store a token. Writes, without holding up the caller's event loop."""
        ...

    async def remove_token(self, digest: bytes, client_id: int) -> bool:
        """Remove a token of a client; False where it has no such token. Writes."""
        ...

    async def find_grant(self, digest: bytes) -> Grant | None:
        """What a stored token allows; None for unknown tokens and for those of suspended or revoked clients."""
        ...

    async def forget_tokens(self, expired_at: int) -> int:
        """Remove tokens that expired at or before a second; returns how many. Writes."""
        ...


class Checkpoint(Struct, frozen=True):
    """What the store knows of the audit log's chain, so that whoever cannot write here cannot change that there.

    `count` and `hash` are the last record's that is known to be in the log, `before_count` and `before_hash` those of
    the record before the oldest file that is kept. While `is_open`, more may have been written.
    """

    secret: bytes
    count: int
    hash: bytes
    before_count: int
    before_hash: bytes
    is_open: bool


class AuditStore(Protocol):
    """The checkpoint of the audit log."""

    async def audit_checkpoint(self) -> Checkpoint:
        """The checkpoint as it is."""
        ...

    async def save_audit_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Write it anew, all but the secret. Writes, without holding up the caller's event loop."""
        ...


class Checker(Protocol):
    """The store's own consistency check."""

    def problems(self) -> AsyncIterator[str]:
        """Every broken invariant as a sentence that says what is wrong and where."""
        ...

    async def facts(self) -> dict[str, int]:
        """Counts worth knowing: accounts, follows, ended follows, clients, tokens, largest displacement in seconds."""
        ...
