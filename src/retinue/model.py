"""The values everything else speaks of. No I/O, no clock, no rules beyond their own shape.

Times are Unix seconds in UTC; ids are the store's own 64-bit numbers and never leave it on the wire.
"""

from collections.abc import Sequence
from enum import Enum, IntEnum
from typing import Generic, TypeVar

from msgspec import UNSET, Struct, UnsetType

RESEARCH_SCOPE = "research.data.basic"
TOKEN_SECONDS = 7200
DEFAULT_COUNT = 20


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
    max_count: int = DEFAULT_COUNT
    cursor: int | None = None
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

    An import names accounts by username, key or both, an event by key and maybe username.
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
    """What a source says of a follow; accounts by key or username. Without a time it is `received_at`'s.

    It may also say when the follow ended, and on which seconds it stood in both lists of another store.
    """

    follower: str
    followee: str
    followed_at: int | None
    received_at: int
    ended_at: int | None = None
    following_position: int | None = None
    followers_position: int | None = None


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


class RateLimit(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A short-term limit: at most `calls` within any `seconds` (1 to 60) seconds that follow each other."""

    calls: int
    seconds: int


class Quota(Struct, frozen=True, gc=False):
    """What a client may have; None is no limit. All but the rate are for one day, from 00:00 to 00:00 UTC."""

    list_calls: int | None = 20_000
    list_rows: int | None = 2_000_000
    other_calls: int | None = 1_000
    rate: RateLimit | None = None


class Pool(Enum):
    """What is counted together: calls for lists of both directions, and all other calls."""

    LISTS = "lists"
    OTHERS = "others"


class QuotaKey(Struct, frozen=True, gc=False):
    """Whose counters: a client's number, and its creation, so that a number that is used again starts at nothing."""

    id: int
    since: int


class Usage(Struct, frozen=True, gc=False):
    """What a client used in a day."""

    list_calls: int = 0
    list_rows: int = 0
    other_calls: int = 0


class Client(Struct, frozen=True):
    """A registered user of the API: one research project.

    It may be used from `not_before` up to and without `not_after`, unless it is suspended or revoked at the moment.
    `id` is the store's own number, 0 until it has one.
    """

    key: str
    name: str
    scopes: frozenset[str]
    created_at: int
    id: int = 0
    contact: str = ""
    notes: str = ""
    not_before: int | None = None
    not_after: int | None = None
    quota: Quota = Quota()
    suspended_at: int | None = None
    revoked_at: int | None = None

    @property
    def quota_key(self) -> QuotaKey:
        """Its counters."""
        return QuotaKey(self.id, self.created_at)


class ClientChange(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to become of a client; what is not named stays. Quotas: None is no limit."""

    name: str | UnsetType = UNSET
    contact: str | UnsetType = UNSET
    notes: str | UnsetType = UNSET
    scopes: frozenset[str] | UnsetType = UNSET
    not_before: int | UnsetType | None = UNSET
    not_after: int | UnsetType | None = UNSET
    list_calls: int | UnsetType | None = UNSET
    list_rows: int | UnsetType | None = UNSET
    other_calls: int | UnsetType | None = UNSET
    rate: RateLimit | UnsetType | None = UNSET


class Secrets(Struct, frozen=True):
    """The SHA-256 digests of a client's secret, and of the one before it, which is good up to a second."""

    current: bytes
    former: bytes | None = None
    former_until: int = 0


class TokenGrant(Struct, frozen=True, gc=False):
    """What a token allows, from `begins_at` up to and without `expires_at`: scopes and quota of its client."""

    client_key: str
    scopes: frozenset[str]
    begins_at: int
    expires_at: int
    quota_key: QuotaKey
    quota: Quota
