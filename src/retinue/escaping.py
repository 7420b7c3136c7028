r"""Escapes for terminals and logs, spreadsheets, and SQL.

For a terminal these characters are escaped as in JSON, such as `\u001b`: C0, DEL and C1 (which a terminal obeys), line
and paragraph separators (at which some viewers break lines), the bidirectional controls of Unicode (which reorder the
text around them) and lone surrogates (which no encoding has). Joiners of emoji stay.
"""

import re
from typing import Any

# For Python and for RE2. Spreadsheets also take wide signs, and the text after a tab or line break, for formulas.
FORMULA = "^[=+@'\t\r\n\uff1d\uff0b\uff0d\uff20-]"

_SEPARATORS = "\u2028\u2029"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_SURROGATES = "\ud800-\udfff"
_WITHIN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_SEPARATORS}{_BIDI}{_SURROGATES}]")
_ALL = re.compile(rf"[\t\n{_WITHIN_LINES.pattern[1:]}")
_formula = re.compile(FORMULA)


def printable(text: str) -> str:
    """Return the text as one line without control characters."""
    return _ALL.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Return the text without control characters other than line breaks and tabs."""
    return _WITHIN_LINES.sub(_escape, text)


def spreadsheet_cell(cell: Any) -> Any:
    """Put an apostrophe before text that looks like a formula.

    One before each text that begins with one can be removed again, which restores the texts exactly.
    """
    return f"'{cell}" if isinstance(cell, str) and _formula.match(cell) else cell


def sql_text(text: object) -> str:
    """Quote a text for SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """Quote the name of a table or column for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"
