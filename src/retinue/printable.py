r"""Text from others for a terminal or a log: control characters are shown as escapes. Pure.

Escaped are C0, DEL and C1 (which a terminal obeys), line and paragraph separators (which some viewers break lines at),
the bidirectional controls of Unicode (which reorder the text around them) and lone surrogates (which no encoding has).
What joins emoji stays. The escapes are JSON's, such as `\u001b`, so that a JSON text with them means the same.
"""

import re

_SEPARATORS = "\u2028\u2029"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_SURROGATES = "\ud800-\udfff"
_WITHIN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_SEPARATORS}{_BIDI}{_SURROGATES}]")
_ALL = re.compile(rf"[\t\n{_WITHIN_LINES.pattern[1:]}")


def printable(text: str) -> str:
    """Return the text as one line without control characters."""
    return _ALL.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the text without control characters other than line breaks and tabs."""
    return _WITHIN_LINES.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"
