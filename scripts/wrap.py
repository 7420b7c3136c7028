"""Wrap the paragraphs of Markdown pages at 120 columns.

Tables, code and headings stay as they are.

python scripts/wrap.py docs/tutorial.md
"""

import re
import sys
import textwrap
from pathlib import Path

from prose import LINE_WIDTH

_SPACE, _HYPHEN = "\x00", "\x01"
_ITEM = re.compile(r"(\s*)([-*]|\d+\.) (.*)")


def wrapped(page: str) -> str:
    """Return a page with each paragraph and list item wrapped."""
    lines: list[str] = []
    paragraph: tuple[str, str, str] | None = None  # text, first indent, other indents
    is_code = False
    for line in [*page.rstrip("\n").split("\n"), ""]:
        is_fence = line.lstrip().startswith("```")
        item = None if is_code or is_fence else _ITEM.match(line)
        is_verbatim = is_code or is_fence or not line.strip() or line.startswith(("|", "#", "<"))
        if paragraph and (item or is_verbatim):
            lines += _filled(*paragraph)
            paragraph = None
        if item:
            indent, mark, text = item.groups()
            paragraph = (text, f"{indent}{mark} ", " " * len(f"{indent}{mark} "))
        elif is_verbatim:
            lines.append(line)
        elif paragraph:
            paragraph = (f"{paragraph[0]} {line.strip()}", *paragraph[1:])
        else:
            indent = line[: len(line) - len(line.lstrip())]
            paragraph = (line.strip(), indent, indent)
        is_code ^= is_fence
    return "\n".join(lines)


def _filled(text: str, first: str, others: str) -> list[str]:
    """Fill a paragraph without breaking the code in it."""
    protected = re.sub(r"`[^`]*`", lambda code: code[0].replace(" ", _SPACE).replace("-", _HYPHEN), text)
    lines = textwrap.wrap(
        protected, LINE_WIDTH, initial_indent=first, subsequent_indent=others,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return [line.replace(_SPACE, " ").replace(_HYPHEN, "-") for line in lines]


if __name__ == "__main__":
    for name in sys.argv[1:]:
        Path(name).write_text(wrapped(Path(name).read_text()))
