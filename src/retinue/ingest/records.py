"""Raw rows to records, pure: which columns a table has, and what a row of them says.

A raw row is a mapping from column to whatever the file held; `values.py` knows what each value may be.
"""

from msgspec import Struct

from retinue.ingest import values as read
from retinue.ingest.values import BadRecord, Values
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
FOLLOW_COLUMNS = Columns(
    ("follower", "followee"), ("followed_at", "ended_at", "following_position", "followers_position")
)
ACCOUNT_COLUMNS = Columns(("username",), ("display_name", "id", "visibility", *PROFILE_FIELDS))


def follow_record(values: Values, received_at: int) -> FollowRecord:
    """A follow; without a time it is one of now. Raises `BadRecord`."""
    follower, followee = read.name_or_key(values, "follower"), read.name_or_key(values, "followee")
    followed_at, ended_at = read.second(values, "followed_at"), read.second(values, "ended_at")
    if ended_at is not None and ended_at > received_at:
        ended_at = None  # it has not come yet: so the follow stands
    if ended_at is not None:
        _check_end(values, followed_at, ended_at)
    positions = read.second(values, "following_position"), read.second(values, "followers_position")
    return FollowRecord(follower, followee, followed_at, received_at, ended_at, *positions)


def _check_end(values: Values, followed_at: int | None, ended_at: int) -> None:
    if followed_at is None:
        raise read.unfit("ended_at", values["ended_at"], "is there, but followed_at is missing")
    if ended_at <= followed_at:
        kind = "ended_at: is not later than followed_at"
        end, start = read.shown(values["ended_at"]), read.shown(values["followed_at"])
        raise BadRecord(kind, f"ended_at: {end} is not later than followed_at, {start}")


def account_record(values: Values) -> AccountRecord:
    """What a row says of an account; with an id it may be without a username. Raises `BadRecord`."""
    key = read.key(values, "id")
    is_nameless = key is not None and read.is_empty(values, "username")
    return described(values, None if is_nameless else read.name(values, "username"), key)


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
