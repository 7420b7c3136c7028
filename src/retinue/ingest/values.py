"""The accepted forms of each field of a row or event.

Except in texts such as a display name, surrounding whitespace is ignored, and empty text is an absent value.
"""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Any

import msgspec

from retinue import names
from retinue.model import Visibility

FIRST_MILLISECONDS = 10**11
MAX_COUNT = 2**63 - 1

VISIBILITIES = {visibility.name.lower(): visibility for visibility in Visibility}

_BOOLEANS = {"true": True, "false": False, "1": True, "0": False, "1.0": True, "0.0": False, "yes": True, "no": False}
_WHOLE = re.compile(r"(-?[0-9]{1,20})(?:\.0*)?")

_SHOWN_CHARACTERS = 60  # of a value in a reason, which is one line
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair is a character
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",  # any other escape, so that an escaped backslash begins none
    re.DOTALL,
)
_REPLACEMENT = rb"\ufffd"
_as_object = msgspec.json.Decoder(dict[str, Any]).decode

Values = Mapping[str, Any]


class BadRecord(ValueError):
    """A rejected row or event. `kind` is the message without values."""

    def __init__(self, kind: str, message: str = "") -> None:
        super().__init__(message or kind)
        self.kind = kind


def json_object(content: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object. Raises `BadRecord`."""
    try:
        return _as_object(content)
    except UnicodeDecodeError:
        raise BadRecord("broken UTF-8") from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise BadRecord("expected a JSON object", f"expected a JSON object: {error}") from None


def unexpected(field: str, expected: str, value: Any) -> BadRecord:
    """Return the error for a value of the wrong form."""
    kind = f"{field}: expected {expected}"
    return BadRecord(kind, f"{kind}, got {shown(value)}")


def unfit(field: str, value: Any, fault: str) -> BadRecord:
    """Return the error for a well-formed value with a fault."""
    return BadRecord(f"{field}: {fault}", "" if value == "" else f"{field}: {shown(value)} {fault}")


def halved(field: str, value: Any) -> BadRecord:
    """Return the error for a name with a lone surrogate."""
    return unfit(field, value, "has half of a character")


def name(values: Values, field: str) -> str:
    """Return a username, or a key that has its form; required."""
    word = _word(values.get(field), field)
    if word is None:
        raise BadRecord(f"{field}: is missing")
    if fault := names.fault_in_username(word):
        raise unfit(field, word, fault)
    return word


def name_or_key(values: Values, field: str) -> str:
    """Return a username or any account's key; required."""
    word = _word(values.get(field), field)
    return word if word and names.fault_in_key(word) is None else name(values, field)


def key(values: Values, field: str) -> str | None:
    """Return an account's key."""
    word = _word(values.get(field), field)
    if not word:
        return None
    if fault := names.fault_in_key(word):
        raise unfit(field, word, fault)
    return word


def text(values: Values, field: str) -> str | None:
    """Return text without NUL characters, which databases refuse."""
    value = values.get(field)
    if value is None:
        return None
    if not isinstance(value, str):
        raise unexpected(field, "text", value)
    return whole_characters(value.replace("\0", "") if "\0" in value else value)


def visibility(values: Values, field: str) -> Visibility | None:
    """Return one of the four visibilities by name."""
    value = _bare(values.get(field))
    if value is None:
        return None
    if not isinstance(value, str) or value.lower() not in VISIBILITIES:
        raise unexpected(field, f"one of {', '.join(VISIBILITIES)}", value)
    return VISIBILITIES[value.lower()]


def boolean(values: Values, field: str) -> bool | None:
    """Return a truth value, also of words and digits."""
    value = _bare(values.get(field))
    if value is None:
        return None
    truth = _BOOLEANS.get(str(value).lower())
    if truth is None:
        raise unexpected(field, "true or false", value)
    return truth


def count(values: Values, field: str) -> int | None:
    """Return a whole number from 0 to `MAX_COUNT`."""
    value = _bare(values.get(field))
    if value is None:
        return None
    number = _whole(value)
    if number is None or not 0 <= number <= MAX_COUNT:
        raise unexpected(field, "a whole number of 0 or more", value)
    return number


def second(values: Values, field: str) -> int | None:
    """Return the Unix second of a number or ISO 8601 time. The default zone is UTC."""
    value = _bare(values.get(field))
    if value is None:
        return None
    number = _whole(value)
    at = _unix_second(value) if number is None else number
    if at is None:
        raise unexpected(field, "Unix seconds or an ISO 8601 time", value)
    if at < 1:
        raise unfit(field, value, "is not a Unix second of 1 or later")
    if number is not None and number >= FIRST_MILLISECONDS:  # a written time may be in the far future
        raise unfit(field, value, "is too large for a Unix second (milliseconds?)")
    return at


def is_empty(values: Values, field: str) -> bool:
    """Return whether a value is absent or only whitespace."""
    return _bare(values.get(field)) is None


def shown(value: Any) -> str:
    """Quote a value for a reason, shortened to fit a line."""
    quoted = repr(value)
    return quoted if len(quoted) <= _SHOWN_CHARACTERS else f"{quoted[: _SHOWN_CHARACTERS - 3]}..."


def whole_characters(value: str) -> str:
    """Replace each lone surrogate with U+FFFD; stores cannot hold them."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return value


def replace_surrogates(line: bytes, by: bytes = _REPLACEMENT) -> tuple[bytes, int]:
    """Replace lone surrogates in a line of JSON, and count them."""
    # Tools write them that cut a text within an emoji.
    if rb"\ud" not in line and rb"\uD" not in line:
        return line, 0
    count = 0

    def replacement(escape: re.Match[bytes]) -> bytes:
        nonlocal count
        if escape["lone"] is None:
            return escape[0]
        count += 1
        return by

    return _ESCAPE.sub(replacement, line), count


def fields_with_surrogates(line: bytes) -> frozenset[str]:
    """Return the fields of a JSON object that have a lone surrogate."""
    values, others = (_as_object(replace_surrogates(line, by)[0]) for by in (_REPLACEMENT, b"?"))
    return frozenset(field for field, value in values.items() if value != others.get(field))


def _bare(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


def _word(value: Any, field: str) -> str | None:
    # Ids often come as integers.
    if isinstance(value, str):
        return whole_characters(value.strip())
    if value is None or type(value) is int:
        return None if value is None else str(value)
    raise unexpected(field, "text", value)


def _unix_second(value: Any) -> int | None:
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
    # Tables write `12.0` if other rows of the column are empty.
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (digits := _WHOLE.fullmatch(value)):
        return int(digits[1])
    return None
