"""Lone surrogates in JSON: halves of an emoji, as tools write them that cut a text at a number of UTF-16 units."""

import re
from typing import Any

import msgspec

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair is a character
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",  # any other escape, so that an escaped backslash begins none
    re.DOTALL,
)


_REPLACEMENT = rb"\ufffd"
_as_object = msgspec.json.Decoder(dict[str, Any]).decode


def replaced(line: bytes, by: bytes = _REPLACEMENT) -> tuple[bytes, int]:
    """Return a line of JSON with U+FFFD for each escape of a lone surrogate, and their number."""
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


def changed_fields(line: bytes) -> frozenset[str]:
    """Return the fields of a JSON object whose values have a lone surrogate."""
    values, others = (_as_object(replaced(line, by)[0]) for by in (_REPLACEMENT, b"?"))
    return frozenset(field for field, value in values.items() if value != others.get(field))
