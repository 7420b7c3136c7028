"""A bar for what takes long, on standard error, where a person is watching."""

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def bar(text: str) -> "Iterator[Callable[[int, int | None], None]]":
    """Show a bar; it is told how much is done, and of how much if that is known."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)
        yield lambda done, total: progress.update(
            task, completed=done, total=total, description=_described(text, done, total)
        )


def _described(text: str, done: int, total: int | None) -> str:
    return text if total is not None else f"{text} ({done:,} rows)"
