r"""Untrusted text for a terminal or a log: control characters become escapes. Pure.

Escaped are C0, DEL and C1 (which control terminals), line and paragraph separators (line breaks in some viewers), the
bidirectional controls of Unicode (which reorder text) and lone surrogates (which cannot be encoded). Joiners of emoji
stay. The escapes are JSON's, such as `\u001b`, so that JSON keeps its meaning.
"""

import re

_SEPARATORS = "\u2028\u2029"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_SURROGATES = "\ud800-\udfff"
_WITHIN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_SEPARATORS}{_BIDI}{_SURROGATES}]")
_ALL = re.compile(rf"[\t\n{_WITHIN_LINES.pattern[1:]}")


def printable(text: str) -> str:
    """Return text as one line without control characters."""
    return _ALL.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return text without control characters but line breaks and tabs."""
    return _WITHIN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"
