"""The contract of every store: small Protocols, each method with its promise.

Async, so that a store over the network can wait; the embedded one answers without suspending, except where a
method says that it writes. Any method may raise `StoreUnavailable`. Stores know no HTTP and read no clock.
"""

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import Protocol

from retinue.model import Account, AccountRecord, Client, FollowRecord, Grant, Shown_co, Slice


class Verdict(Enum):
    """What became of a record; the value of a rejection is its reason."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    SELF_FOLLOW = "an account cannot follow itself"
    LIST_FULL = "no second from 1 to now is free in this list"


class GraphReader(Protocol[Shown_co]):
    """What answering needs of the graph. Each call sees one consistent state."""

    async def find_account(self, folded: str) -> Account | None:
        """The live account with this folded username (`names.fold`)."""
        ...

    async def following(self, account_id: int, bound: int, limit: int) -> Slice[Shown_co]:
        """The newest `limit` visible rows of a following list at positions <= `bound`, by one range of one index.

        What is not visible is passed over inside the range, so a slice is short only at the list's end.
        Names and visibility are at most one second behind the store; positions are not behind at all.
        """
        ...


class GraphWriter(Protocol):
    """What import needs of the graph. Every call is idempotent and, when it returns, survives `kill -9`.

    One writer works at a time; others wait. The store holds its write lock for at most 200 ms at a stretch.
    """

    async def add_accounts(self, records: Sequence[AccountRecord], now: int) -> list[Verdict]:
        """Create or change accounts; a verdict for each record. DUPLICATE: nothing was new.

        A username belongs to its latest claim (at one second: to the smaller key). Who loses it has none.
        """
        ...

    async def add_follows(self, records: Sequence[FollowRecord]) -> list[Verdict]:
        """Store follows in the given order; a verdict for each. Unknown accounts are created.

        A follow stands on its own second of the list: the effective time min(followed_at, received_at), or the
        nearest free earlier one. A follow that is there already changes only when it is told to be older.
        """
        ...

    async def settle(self) -> None:
        """Make everything written so far survive a power loss."""
        ...


class AccessStore(Protocol):
    """Clients and tokens. Secrets and tokens come and stay as SHA-256 digests of 32 bytes."""

    async def add_client(self, client: Client, secret_digest: bytes) -> None:
        """Store a new client. Writes."""
        ...

    async def find_client(self, key: str) -> tuple[Client, bytes] | None:
        """A client and its secret's digest."""
        ...

    async def clients(self) -> list[Client]:
        """All clients, oldest first."""
        ...

    async def revoke_client(self, key: str, at: int) -> bool:
        """End a client and with it its tokens; False where there is no such client. Writes."""
        ...

    async def add_token(self, digest: bytes, client_key: str, expires_at: int) -> None:
        """Store a token. Writes, without holding up the caller's event loop."""
        ...

    async def find_grant(self, digest: bytes) -> Grant | None:
        """What a stored token allows; None for unknown tokens and for those of revoked clients."""
        ...

    async def forget_tokens(self, expired_at: int) -> int:
        """Remove tokens that expired at or before a second; returns how many. Writes."""
        ...


class Checker(Protocol):
    """The store's own consistency check."""

    def problems(self) -> AsyncIterator[str]:
        """Every broken invariant as a sentence that says what is wrong and where."""
        ...

    async def facts(self) -> dict[str, int]:
        """Counts worth knowing: accounts, follows, clients, tokens, largest displacement in seconds."""
        ...
