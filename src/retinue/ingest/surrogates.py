"""Lone surrogates in JSON: halves of an emoji, as tools write them that cut a text at a number of UTF-16 units."""

import re

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"  # a pair is a character
    rb"|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})"
    rb"|.)",  # any other escape, so that an escaped backslash begins none
    re.DOTALL,
)


def replaced(line: bytes) -> tuple[bytes, int]:
    """Return a line of JSON with U+FFFD for each escape of a lone surrogate, and their number."""
    if rb"\ud" not in line and rb"\uD" not in line:
        return line, 0
    count = 0

    def replacement(escape: re.Match[bytes]) -> bytes:
        nonlocal count
        if escape["lone"] is None:
            return escape[0]
        count += 1
        return rb"\ufffd"

    return _ESCAPE.sub(replacement, line), count
