"""Raw rows to records, pure: which columns a table has, and what a row of them says.

A raw row is a mapping from column to whatever the file held; `values.py` knows what each value may be.
"""

from msgspec import Struct

from retinue.ingest import values as read
from retinue.ingest.values import Values
from retinue.model import AccountRecord, FollowRecord


class Columns(Struct, frozen=True):
    """The columns that one kind of table has."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def known(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.required + self.optional)


PROFILE_FIELDS = ("bio_description", "avatar_url", "bio_url", "is_verified", "likes_count", "video_count")
FOLLOW_COLUMNS = Columns(("follower", "followee"), ("followed_at",))
ACCOUNT_COLUMNS = Columns(("username",), ("display_name", "id", "visibility", *PROFILE_FIELDS))


def follow_record(values: Values, received_at: int) -> FollowRecord:
    """A follow; without a time it is one of now. Raises `BadRecord`."""
    follower, followee = read.name(values, "follower"), read.name(values, "followee")
    return FollowRecord(follower, followee, read.second(values, "followed_at"), received_at)


def account_record(values: Values) -> AccountRecord:
    """What a row says of an account. Raises `BadRecord`."""
    return described(values, read.name(values, "username"), read.key(values, "id"))


def described(values: Values, username: str | None, key: str | None) -> AccountRecord:
    """What the other fields say of an account that these names are for. Raises `BadRecord`."""
    return AccountRecord(
        username,
        key,
        read.text(values, "display_name"),
        read.visibility(values, "visibility"),
        read.text(values, "bio_description"),
        read.text(values, "avatar_url"),
        read.text(values, "bio_url"),
        read.boolean(values, "is_verified"),
        read.count(values, "likes_count"),
        read.count(values, "video_count"),
    )


def nuls_in(values: Values) -> int:
    """How many NUL characters `account_record` leaves out."""
    return sum(value.count("\0") for value in values.values() if isinstance(value, str))
