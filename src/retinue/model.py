"""The values everything else speaks of. No I/O, no clock, no rules beyond their own shape.

Times are Unix seconds in UTC; ids are the store's own 64-bit numbers and never leave it on the wire.
"""

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Generic, TypeVar

from msgspec import Struct

RESEARCH_SCOPE = "research.data.basic"
TOKEN_SECONDS = 7200


# What a row is, is its user's choice: the server has them ready for the wire, others as `Row`.
Shown_co = TypeVar("Shown_co", covariant=True)


class Visibility(IntEnum):
    """Who may see an account. Up to FOLLOWING_HIDDEN it is a row in others' lists."""

    PUBLIC = 0
    FOLLOWING_HIDDEN = 1
    PRIVATE = 2
    WITHHELD = 3

    @property
    def is_row(self) -> bool:
        """Whether others' lists show the account."""
        return self <= Visibility.FOLLOWING_HIDDEN


class Direction(Enum):
    """Which of an account's two lists: whom it follows, or who follows it."""

    FOLLOWING = "following"
    FOLLOWERS = "followers"


class Account(Struct, frozen=True, gc=False):
    """What a lookup by username finds."""

    id: int
    visibility: Visibility


class Row(Struct, frozen=True, gc=False):
    """One account in a list, with the two fields that the wire gives it."""

    display_name: str
    username: str


class Stretch(Struct, frozen=True, gc=False):
    """Which rows of which list: the newest `limit` visible ones at positions <= `bound`.

    With `as_of` T the list is the one of that second: the intervals with start <= T < end, by true time.
    """

    account_id: int
    direction: Direction
    bound: int
    limit: int
    as_of: int | None = None


class Slice(Struct, Generic[Shown_co], frozen=True):
    """What a stretch holds: visible rows, newest first; `oldest` is the last one's position (0 without rows)."""

    rows: Sequence[Shown_co]
    oldest: int
    has_more: bool


class Query(Struct, frozen=True, gc=False):
    """A request for one page. `username` is as sent; `cursor` is None for now, `as_of` for today's list."""

    username: str
    max_count: int
    cursor: int | None
    as_of: int | None = None


class Page(Struct, Generic[Shown_co], frozen=True):
    """An answer: rows, the cursor to ask next, and whether anything visible is left."""

    rows: Sequence[Shown_co]
    cursor: int
    has_more: bool


class Profile(Struct, frozen=True):
    """An account as itself. The counts hold its visible, private and withheld followees or followers."""

    display_name: str
    bio_description: str
    avatar_url: str
    bio_url: str
    is_verified: bool
    likes_count: int
    video_count: int
    following_count: int
    follower_count: int


class AccountRecord(Struct, frozen=True):
    """What a source says of an account. A None says nothing: the store keeps what it has.

    An import names accounts by username and maybe key, an event by key and maybe username.
    """

    username: str | None = None
    key: str | None = None
    display_name: str | None = None
    visibility: Visibility | None = None
    bio_description: str | None = None
    avatar_url: str | None = None
    bio_url: str | None = None
    is_verified: bool | None = None
    likes_count: int | None = None
    video_count: int | None = None


class FollowRecord(Struct, frozen=True, gc=False):
    """What a source says of a follow; accounts by key or username. Without a time it is `received_at`'s."""

    follower: str
    followee: str
    followed_at: int | None
    received_at: int


class FollowEvent(Struct, frozen=True, gc=False):
    """Somebody followed or (`is_follow` False) unfollowed somebody at a second; accounts by key."""

    follower: str
    followee: str
    at: int
    is_follow: bool = True


class AccountEvent(Struct, frozen=True):
    """An account was created or changed at a second, its visibility included. The record has a key."""

    record: AccountRecord
    at: int


class ErasureEvent(Struct, frozen=True):
    """An account asked to be forgotten."""

    key: str
    at: int


Event = FollowEvent | AccountEvent | ErasureEvent


class Client(Struct, frozen=True):
    """A registered user of the API. `revoked_at` is None while it may be used."""

    key: str
    name: str
    scopes: frozenset[str]
    created_at: int
    revoked_at: int | None = None


class Grant(Struct, frozen=True):
    """What a token allows: its client's scopes, until it expires."""

    client_key: str
    scopes: frozenset[str]
    expires_at: int
