"""The values that all other code uses. Times are Unix seconds. Ids never leave the store."""

from collections.abc import Callable, Sequence
from enum import Enum, IntEnum
from typing import Generic, NamedTuple, TypeVar

from msgspec import UNSET, Struct, UnsetType

RESEARCH_SCOPE = "research.data.basic"
TOKEN_SECONDS = 7200
DEFAULT_COUNT = 20
MAX_SECOND = 253_402_300_799  # the end of the year 9999


# The type of rows: the server has them encoded for the wire, other users as `Row`.
Shown_co = TypeVar("Shown_co", covariant=True)


class Visibility(IntEnum):
    """The visibility of an account."""

    PUBLIC = 0
    FOLLOWING_HIDDEN = 1
    PRIVATE = 2
    WITHHELD = 3

    @property
    def is_visible(self) -> bool:
        """Whether lists show the account."""
        return self <= Visibility.FOLLOWING_HIDDEN


class Direction(Enum):
    """One of an account's two lists."""

    FOLLOWING = "following"
    FOLLOWERS = "followers"


class Account(Struct, frozen=True, gc=False):
    """The result of a lookup by username."""

    id: int
    visibility: Visibility


class Row(Struct, frozen=True, gc=False):
    """An account in a list."""

    display_name: str
    username: str


class RowEncoding(NamedTuple):
    """The encoding of rows, which all have the same beginning and end."""

    encode: Callable[[str, str], bytes]
    begin: bytes
    end: bytes

    def text(self, display_name: str, username: str) -> bytes:
        """Return a row without its beginning and end."""
        return self.encode(display_name, username)[len(self.begin) : -len(self.end)]


class PageRequest(Struct, frozen=True, gc=False):
    """A request for rows of a list: the newest `limit` visible ones at positions <= `bound`.

    With `as_of` T, the list has the intervals with start <= T < end, by true time.
    """

    account_id: int
    direction: Direction
    bound: int
    limit: int
    as_of: int | None = None


class PageRows(Struct, Generic[Shown_co], frozen=True):
    """Visible rows, newest first. `oldest` is the last position, or 0."""

    rows: Sequence[Shown_co]
    oldest: int
    has_more: bool


class Query(Struct, frozen=True, gc=False):
    """A query for a page. A `cursor` or `as_of` of None is now."""

    username: str
    max_count: int = DEFAULT_COUNT
    cursor: int | None = None
    as_of: int | None = None


class Page(Struct, Generic[Shown_co], frozen=True):
    """A page. `cursor` is the next one."""

    rows: Sequence[Shown_co]
    cursor: int
    has_more: bool


class Profile(Struct, frozen=True):
    """A profile. Counts include private and withheld accounts."""

    display_name: str
    bio_description: str
    avatar_url: str
    bio_url: str
    is_verified: bool
    likes_count: int
    video_count: int
    following_count: int
    follower_count: int


class AccountRecord(Struct, frozen=True, gc=False):
    """An account in a source, with username, key or both. None changes nothing."""

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
    """A follow in a source, by keys or usernames. `received_at` is its default time."""

    follower: str
    followee: str
    followed_at: int | None
    received_at: int
    ended_at: int | None = None
    following_position: int | None = None
    followers_position: int | None = None


class FollowEvent(Struct, frozen=True, gc=False):
    """A follow or unfollow at a second. Accounts are keys."""

    follower: str
    followee: str
    at: int
    is_follow: bool = True


class AccountEvent(Struct, frozen=True):
    """A change of an account with a key."""

    record: AccountRecord
    at: int


class ErasureEvent(Struct, frozen=True):
    """The erasure of an account."""

    key: str
    at: int


Event = FollowEvent | AccountEvent | ErasureEvent


class RateLimit(Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """At most `calls` in any window of `seconds` (1 to 60)."""

    calls: int
    seconds: int


class Quota(Struct, frozen=True, gc=False):
    """A client's limits for each day (UTC). None is unlimited."""

    list_calls: int | None = 20_000
    list_rows: int | None = 2_000_000
    other_calls: int | None = 1_000
    rate: RateLimit | None = None


class Pool(Enum):
    """Calls that are counted together."""

    LISTS = "lists"
    OTHERS = "others"


class QuotaKey(Struct, frozen=True, gc=False):
    """The key of a client's counters. `since` tells apart clients with a reused id."""

    id: int
    since: int


class Usage(Struct, frozen=True, gc=False):
    """A client's usage on one day (UTC)."""

    list_calls: int = 0
    list_rows: int = 0
    other_calls: int = 0


class RegisteredClient(Struct, frozen=True):
    """A client of the API, from `not_before` until before `not_after`. `id` is 0 until it is stored."""

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
        """The key of its quota counters."""
        return QuotaKey(self.id, self.created_at)


class ClientChange(Struct, frozen=True, forbid_unknown_fields=True):
    """New values for a client. A quota of None is unlimited."""

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
    """SHA-256 digests of a client's secrets."""

    current: bytes
    former: bytes | None = None
    former_until: int = 0


class TokenGrant(Struct, frozen=True, gc=False):
    """A token's rights from `begins_at` until before `expires_at`."""

    client_key: str
    scopes: frozenset[str]
    begins_at: int
    expires_at: int
    quota_key: QuotaKey
    quota: Quota
