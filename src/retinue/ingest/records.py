"""Raw rows of tables, their columns, and the records that rows hold."""

from collections.abc import Iterator
from typing import Any, Protocol

from msgspec import Struct

from retinue.errors import InputError
from retinue.ingest import values as read
from retinue.ingest.values import BadRecord, Values
from retinue.model import AccountRecord, FollowRecord


class RawRow(Struct, frozen=True, gc=False):
    """One row of a file. With a `fault` its values cannot be read. `line` is a row number in Parquet.

    `replaced` counts lone surrogates, which are U+FFFD in the fields `changed`. Of a row that was read as an `account`
    already there are neither values nor text: a store refuses it only if it was erased, and then keeps no text.
    """

    line: int
    values: dict[str, Any]
    text: str
    fault: BadRecord | None = None
    replaced: int = 0
    changed: frozenset[str] = frozenset()
    account: AccountRecord | None = None


class InputTable(Protocol):
    """An opened file."""

    size: int

    @property
    def position(self) -> int:
        """How much of `size` has been read."""
        ...

    def __iter__(self) -> Iterator[RawRow]: ...

    def close(self) -> None:
        """Close the file."""
        ...


class Columns(Struct, frozen=True):
    """The columns of one kind of table."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def known(self) -> frozenset[str]:
        """All columns."""
        return frozenset(self.required + self.optional)

    def check(self, file: str, names: list[str]) -> None:
        """Raise `InputError` if a file's columns are not these."""
        for wrong, bad in (
            ("lacks the column", [name for name in self.required if name not in names]),
            ("has the unknown column", [name for name in names if name not in self.known]),
            ("has more than one column", [name for name in names if names.count(name) > 1]),
        ):
            if bad:
                known = ", ".join(self.required + self.optional)
                raise InputError(f"{file}: {wrong} {bad[0]!r}; columns are {known}; found: {', '.join(names)[:200]}")


PROFILE_FIELDS = ("bio_description", "avatar_url", "bio_url", "is_verified", "likes_count", "video_count")
FOLLOW_COLUMNS = Columns(
    ("follower", "followee"), ("followed_at", "ended_at", "following_position", "followers_position")
)
ACCOUNT_COLUMNS = Columns(("username",), ("display_name", "id", "visibility", *PROFILE_FIELDS))


def follow_record(values: Values, received_at: int) -> FollowRecord:
    """Return the follow of a row, by default begun at `received_at`. Raises `BadRecord`."""
    follower, followee = read.name_or_key(values, "follower"), read.name_or_key(values, "followee")
    followed_at, ended_at = read.second(values, "followed_at"), read.second(values, "ended_at")
    if ended_at is not None and ended_at > received_at:
        ended_at = None  # the follow has not ended yet
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


def account_of(row: RawRow) -> AccountRecord:
    """Return the account of a row. Raises `BadRecord`."""
    return row.account or account_record(row.values)


def account_record(values: Values) -> AccountRecord:
    """Return the account of a row, named by username or id. Raises `BadRecord`."""
    key = read.key(values, "id")
    is_nameless = key is not None and read.is_empty(values, "username")
    return described_account(values, None if is_nameless else read.name(values, "username"), key)


def described_account(values: Values, username: str | None, key: str | None) -> AccountRecord:
    """Return an account with the profile fields of some values. Raises `BadRecord`."""
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


def count_nuls(values: Values) -> int:
    """Return how many NUL characters `account_record` leaves out."""
    return sum(value.count("\0") for value in values.values() if isinstance(value, str))
