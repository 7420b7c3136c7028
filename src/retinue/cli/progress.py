"""A bar for what takes long, on standard error, if that is a terminal."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def bar(text: str) -> "Iterator[Callable[[int, int | None], None]]":
    """Show a bar; it is told how much is done, and of how much if that is known."""
    from retinue.cli.terminal import bars

    with bars() as shown:
        one = shown.add(text)
        yield lambda done, total: one.update(done, total=total, text=_described(text, done, total))


def _described(text: str, done: int, total: int | None) -> str:
    return text if total is not None else f"{text} ({done:,} rows)"
