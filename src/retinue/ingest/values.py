"""One value of a row or event to what it means, pure: the accepted forms, and the reason why a value is refused.

A value is whatever the source held: text from CSV, any JSON scalar, any Parquet value. Every reason begins with the
name of the field. None says nothing; so does empty text, but for texts and names.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from retinue import names
from retinue.model import Visibility

FIRST_MILLISECONDS = 10**11
MAX_COUNT = 2**63 - 1

VISIBILITIES = {visibility.name.lower(): visibility for visibility in Visibility}

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "yes": True, "no": False}

Values = Mapping[str, Any]


class BadRecord(ValueError):
    """A row or event that is rejected; the message says why."""


def name(values: Values, field: str) -> str:
    """A username or key; required."""
    found = _word(values.get(field), field)
    if found is None:
        raise BadRecord(f"{field}: is missing")
    fault = names.fault_in_username(found)
    if fault:
        raise BadRecord(f"{field}: {fault}")
    return found


def name_or_key(values: Values, field: str) -> str:
    """A username, or an account's key, which may be no username; required."""
    found = _word(values.get(field), field)
    if found and names.fault_in_key(found) is None:
        return found
    return name(values, field)


def key(values: Values, field: str) -> str | None:
    """An account's key."""
    found = _word(values.get(field), field)
    if found is None or found == "":
        return None
    fault = names.fault_in_key(found)
    if fault:
        raise BadRecord(f"{field}: {fault}")
    return found


def text(values: Values, field: str) -> str | None:
    """Any text, without NUL characters: databases of researchers refuse them."""
    value = values.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise BadRecord(f"{field}: expected text, got {shown(value)}")
    return value.replace("\0", "") if "\0" in value else value


def visibility(values: Values, field: str) -> Visibility | None:
    """One of the four, by name."""
    value = values.get(field)
    if value is None or value == "":
        return None
    found = VISIBILITIES.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise BadRecord(f"{field}: expected one of {', '.join(VISIBILITIES)}, got {shown(value)}")
    return found


def boolean(values: Values, field: str) -> bool | None:
    """True or false, also as the words and digits that tables have for them."""
    value = values.get(field)
    if value is None or value == "":
        return None
    truth = _BOOLEANS.get(str(value).lower())
    if truth is None:
        raise BadRecord(f"{field}: expected true or false, got {shown(value)}")
    return truth


def count(values: Values, field: str) -> int | None:
    """A whole number of 0 or more."""
    value = values.get(field)
    if value is None or value == "":
        return None
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_COUNT:
        raise BadRecord(f"{field}: expected a whole number of 0 or more, got {shown(value)}")
    return number


def second(values: Values, field: str) -> int | None:
    """A Unix second or an ISO 8601 time; a time without zone is UTC, a fraction is cut off."""
    value = values.get(field)
    if value is None or value == "":
        return None
    found = _whole(value)
    if found is None:
        found = _moment(value)
    if found is None:
        raise BadRecord(f"{field}: expected Unix seconds or an ISO 8601 time, got {shown(value)}")
    if not 1 <= found < FIRST_MILLISECONDS:
        hint = " (milliseconds?)" if found >= FIRST_MILLISECONDS else ""
        raise BadRecord(f"{field}: {shown(value)} is not a Unix second of 1 or later{hint}")
    return found


def shown(value: Any) -> str:
    """A value as a reason quotes it: short enough for a line."""
    quoted = repr(value)
    return quoted if len(quoted) <= 60 else f"{quoted[:57]}..."  # noqa: PLR2004 - fits a line


def _word(value: Any, field: str) -> str | None:
    """Text, or a number that stands for a name: ids often come as integers."""
    if value is None or isinstance(value, str):
        return value
    if type(value) is int:
        return str(value)
    raise BadRecord(f"{field}: expected text, got {shown(value)}")


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
