"""Escapes for terminals and logs, spreadsheets, and SQL."""

import re
from typing import Any

# For Python and for RE2. Spreadsheets also take wide signs, and the text after a tab or line break, for formulas.
FORMULA = "^[=+@'\t\r\n\uff1d\uff0b\uff0d\uff20-]"

# C0, DEL and C1, which a terminal obeys; separators, at which some viewers break lines; bidirectional controls, which
# reorder the text around them; lone surrogates, which no encoding has. Joiners of emoji stay.
_SEPARATORS = "\u2028\u2029"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_SURROGATES = "\ud800-\udfff"
_WITHIN_LINES = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f{_SEPARATORS}{_BIDI}{_SURROGATES}]")
_ALL = re.compile(rf"[\t\n{_WITHIN_LINES.pattern[1:]}")
_formula = re.compile(FORMULA)


def printable(text: str) -> str:
    """Escape all control characters, as in JSON."""
    return _ALL.sub(_escape, text)


def printable_lines(text: str) -> str:
    """Escape control characters other than line breaks and tabs."""
    return _WITHIN_LINES.sub(_escape, text)


def spreadsheet_cell(cell: Any) -> Any:
    """Put an apostrophe before text that looks like a formula."""
    return f"'{cell}" if isinstance(cell, str) and _formula.match(cell) else cell


def sql_text(text: object) -> str:
    """Quote a text for SQL."""
    return "'" + str(text).replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """Quote the name of a table or column for SQL."""
    return '"' + name.replace('"', '""') + '"'


def _escape(match: re.Match[str]) -> str:
    return _SHORT.get(match[0]) or f"\\u{ord(match[0]):04x}"
