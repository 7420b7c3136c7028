"""Raw rows to records, pure: what each column may hold, and the reason why a row is rejected.

A raw row is a mapping from column to whatever the file held: text from CSV, any JSON scalar, any Parquet value.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from msgspec import Struct

from retinue import names
from retinue.model import AccountRecord, FollowRecord, Visibility

FIRST_MILLISECONDS = 10**11
MAX_COUNT = 2**63 - 1

_VISIBILITIES = {visibility.name.lower(): visibility for visibility in Visibility}
_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}


class BadRecord(ValueError):
    """A row that is rejected; the message says why."""


class Columns(Struct, frozen=True):
    """The columns that one kind of table has."""

    required: tuple[str, ...]
    optional: tuple[str, ...]

    @property
    def known(self) -> frozenset[str]:
        """All of them."""
        return frozenset(self.required + self.optional)


FOLLOW_COLUMNS = Columns(("follower", "followee"), ("followed_at",))
ACCOUNT_COLUMNS = Columns(
    ("username",),
    (
        "display_name",
        "id",
        "visibility",
        "bio_description",
        "avatar_url",
        "bio_url",
        "is_verified",
        "likes_count",
        "video_count",
    ),
)

Values = Mapping[str, Any]


def follow_record(values: Values, received_at: int) -> FollowRecord:
    """A follow; without a time it is one of now. Raises `BadRecord`."""
    follower, followee = _name(values, "follower"), _name(values, "followee")
    return FollowRecord(follower, followee, _time(values.get("followed_at")), received_at)


def account_record(values: Values) -> AccountRecord:
    """What a row says of an account. Raises `BadRecord`."""
    return AccountRecord(
        _name(values, "username"),
        _key(values.get("id")),
        _text(values, "display_name"),
        _visibility(values.get("visibility")),
        _text(values, "bio_description"),
        _text(values, "avatar_url"),
        _text(values, "bio_url"),
        _boolean(values.get("is_verified")),
        _count(values, "likes_count"),
        _count(values, "video_count"),
    )


def nuls_in(values: Values) -> int:
    """How many NUL characters `account_record` leaves out: databases of researchers refuse them."""
    return sum(value.count("\0") for value in values.values() if isinstance(value, str))


def _name(values: Values, column: str) -> str:
    name = _word(values.get(column), column)
    if name is None:
        raise BadRecord(f"{column}: is missing")
    fault = names.fault_in_username(name)
    if fault:
        raise BadRecord(f"{column}: {fault}")
    return name


def _key(value: Any) -> str | None:
    key = _word(value, "id")
    if key in (None, ""):
        return None
    fault = names.fault_in_key(key)
    if fault:
        raise BadRecord(f"id: {fault}")
    return key


def _word(value: Any, column: str) -> str | None:
    """Text, or a number that stands for a name: ids often come as integers."""
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise BadRecord(f"{column}: expected text, got {_shown(value)}")


def _text(values: Values, column: str) -> str | None:
    value = values.get(column)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRecord(f"{column}: expected text, got {_shown(value)}")
    return value.replace("\0", "") if "\0" in value else value


def _visibility(value: Any) -> Visibility | None:
    if value is None or value == "":
        return None
    visibility = _VISIBILITIES.get(value.lower()) if isinstance(value, str) else None
    if visibility is None:
        raise BadRecord(f"visibility: expected one of {', '.join(_VISIBILITIES)}, got {_shown(value)}")
    return visibility


def _boolean(value: Any) -> bool | None:
    if value is None or value == "":
        return None
    truth = _BOOLEANS.get(str(value).lower())
    if truth is None:
        raise BadRecord(f"is_verified: expected true or false, got {_shown(value)}")
    return truth


def _count(values: Values, column: str) -> int | None:
    value = values.get(column)
    if value is None or value == "":
        return None
    count = _whole(value)
    if count is None or not 0 <= count <= MAX_COUNT:
        raise BadRecord(f"{column}: expected a whole number of 0 or more, got {_shown(value)}")
    return count


def _time(value: Any) -> int | None:
    """A Unix second or an ISO 8601 time; a time without zone is UTC, a fraction is cut off."""
    if value is None or value == "":
        return None
    second = _whole(value)
    if second is None:
        second = _moment(value)
    if second is None:
        raise BadRecord(f"followed_at: expected Unix seconds or an ISO 8601 time, got {_shown(value)}")
    if not 1 <= second < FIRST_MILLISECONDS:
        hint = " (milliseconds?)" if second >= FIRST_MILLISECONDS else ""
        raise BadRecord(f"followed_at: {_shown(value)} is not a Unix second of 1 or later{hint}")
    return second


def _moment(value: Any) -> int | None:
    try:
        moment = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime.combine(moment, time())
        if not isinstance(moment, datetime):
            return None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1)
    except (ValueError, OverflowError):
        return None


def _whole(value: Any) -> int | None:
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str):
        digits = value.strip().removeprefix("-")
        return int(value) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None  # noqa: PLR2004
    return None


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."  # noqa: PLR2004 - fits a line
