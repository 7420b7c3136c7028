"""One value of a row or event to what it means, pure: the accepted forms, and the reason why a value is refused.

A value is whatever the source held: text from CSV, any JSON scalar, any Parquet value. Whitespace around it is ignored,
except in texts such as a display name. Every reason names the field and the value. None says nothing; so does empty
text, but for texts and names.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

from retinue import names
from retinue.model import Visibility

FIRST_MILLISECONDS = 10**11
MAX_COUNT = 2**63 - 1

VISIBILITIES = {visibility.name.lower(): visibility for visibility in Visibility}

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False, "yes": True, "no": False}
_WHOLE = re.compile(r"(-?[0-9]{1,20})(?:\.0*)?")

Values = Mapping[str, Any]


_SHOWN_CHARACTERS = 60  # of a value in a reason, which is one line


class BadRecord(ValueError):
    """A row or event that is rejected; the message says why.

    `kind` is the message without the value: equal for all rows with the same fault.
    """

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message or kind)
        self.kind = kind


def unexpected(field: str, expected: str, value: Any) -> BadRecord:
    """Return the error for a value of the wrong form."""
    kind = f"{field}: expected {expected}"
    return BadRecord(kind, f"{kind}, got {shown(value)}")


def unfit(field: str, value: Any, fault: str) -> BadRecord:
    """Return the error for a value of the right form that has a fault."""
    return BadRecord(f"{field}: {fault}", "" if value == "" else f"{field}: {shown(value)} {fault}")


def halved(field: str, value: Any) -> BadRecord:
    """Return the error for a name that had a lone surrogate, which U+FFFD has replaced."""
    return unfit(field, value, "has half of a character")


def name(values: Values, field: str) -> str:
    """A username or key; required."""
    found = _word(values.get(field), field)
    if found is None:
        raise BadRecord(f"{field}: is missing")
    fault = names.fault_in_username(found)
    if fault:
        raise unfit(field, found, fault)
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
    if not found:
        return None
    fault = names.fault_in_key(found)
    if fault:
        raise unfit(field, found, fault)
    return found


def text(values: Values, field: str) -> str | None:
    """Any text, without NUL characters: databases of researchers refuse them."""
    value = values.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise unexpected(field, "text", value)
    return whole_characters(value.replace("\0", "") if "\0" in value else value)


def visibility(values: Values, field: str) -> Visibility | None:
    """One of the four, by name."""
    value = _bare(values.get(field))
    if value is None:
        return None
    found = VISIBILITIES.get(value.lower()) if isinstance(value, str) else None
    if found is None:
        raise unexpected(field, f"one of {', '.join(VISIBILITIES)}", value)
    return found


def boolean(values: Values, field: str) -> bool | None:
    """True or false, also as the words and digits that tables have for them."""
    value = _bare(values.get(field))
    if value is None:
        return None
    truth = _BOOLEANS.get(str(value).lower())
    if truth is None:
        raise unexpected(field, "true or false", value)
    return truth


def count(values: Values, field: str) -> int | None:
    """A whole number of 0 or more."""
    value = _bare(values.get(field))
    if value is None:
        return None
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_COUNT:
        raise unexpected(field, "a whole number of 0 or more", value)
    return number


def second(values: Values, field: str) -> int | None:
    """A Unix second or an ISO 8601 time; a time without zone is UTC, a fraction is cut off.

    Times of the far future are times like others: only whole numbers may be milliseconds.
    """
    value = _bare(values.get(field))
    if value is None:
        return None
    number = _whole(value)
    found = _moment(value) if number is None else number
    if found is None:
        raise unexpected(field, "Unix seconds or an ISO 8601 time", value)
    if found < 1:
        raise unfit(field, value, "is not a Unix second of 1 or later")
    if number is not None and number >= FIRST_MILLISECONDS:
        raise unfit(field, value, "is too large for a Unix second (milliseconds?)")
    return found


def is_empty(values: Values, field: str) -> bool:
    """Whether there is no value, or only whitespace."""
    return _bare(values.get(field)) is None


def shown(value: Any) -> str:
    """A value as a reason quotes it: short enough for a line."""
    quoted = repr(value)
    return quoted if len(quoted) <= _SHOWN_CHARACTERS else f"{quoted[: _SHOWN_CHARACTERS - 3]}..."


def whole_characters(value: str) -> str:
    """Return the text with U+FFFD in place of each lone surrogate, which no store can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def _bare(value: Any) -> Any:
    """Return the value without whitespace around it; None if nothing is left."""
    return (value.strip() or None) if isinstance(value, str) else value


def _word(value: Any, field: str) -> str | None:
    """Text, or a number that stands for a name: ids often come as integers."""
    if isinstance(value, str):
        return whole_characters(value.strip())
    if value is None or type(value) is int:
        return None if value is None else str(value)
    raise unexpected(field, "text", value)


def _moment(value: Any) -> int | None:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, date) and not isinstance(moment, datetime):
            moment = datetime.combine(moment, time())
        if not isinstance(moment, datetime):
            return None
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() // 1)
    except (ValueError, OverflowError):
        return None


def _whole(value: Any) -> int | None:
    """A whole number; also text such as `12.0`, which tables have where other rows of the column are empty."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (digits := _WHOLE.fullmatch(value)):
        return int(digits[1])
    return None
