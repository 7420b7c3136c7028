"""The values everything else speaks of. No I/O, no clock, no rules beyond their own shape.

Times are Unix seconds in UTC; ids are the store's own 64-bit numbers and never leave it on the wire.
"""

from collections.abc import Sequence
from enum import IntEnum
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


class Account(Struct, frozen=True, gc=False):
    """What a lookup by username finds."""

    id: int
    visibility: Visibility


class Row(Struct, frozen=True, gc=False):
    """One account in a list, with the two fields that the wire gives it."""

    display_name: str
    username: str


class Slice(Struct, Generic[Shown_co], frozen=True):
    """A stretch of a list: visible rows, newest first; `oldest` is the last one's position (0 without rows)."""

    rows: Sequence[Shown_co]
    oldest: int
    has_more: bool


class Query(Struct, frozen=True, gc=False):
    """A request for one page. `username` is as sent; `cursor` is None for now."""

    username: str
    max_count: int
    cursor: int | None


class Page(Struct, Generic[Shown_co], frozen=True):
    """An answer: rows, the cursor to ask next, and whether anything visible is left."""

    rows: Sequence[Shown_co]
    cursor: int
    has_more: bool


class AccountRecord(Struct, frozen=True):
    """What a source says of an account. A None says nothing: the store keeps what it has."""

    username: str
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
