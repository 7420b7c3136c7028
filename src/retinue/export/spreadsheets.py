"""Cells that a spreadsheet would take for formulas. Guarded, they begin with an apostrophe and are text. Pure.

A text that begins with an apostrophe already gets a second one, so removing one from each text that begins with one
restores all of them exactly.
"""

import re
from typing import Any

# For Python and for RE2. Spreadsheets take wide signs, and what follows a tab or line break, for formulas as well.
GUARDED = "^[=+@'\t\r\n\uff1d\uff0b\uff0d\uff20-]"

_guarded = re.compile(GUARDED)


def guarded(cell: Any) -> Any:
    """Return a cell as a spreadsheet shows it. Numbers stay: a negative one is no formula."""
    return f"'{cell}" if isinstance(cell, str) and _guarded.match(cell) else cell
