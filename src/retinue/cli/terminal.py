"""Tables and progress bars for people: the only use of Rich. No text in them is markup or can control a terminal.

Rich writes control sequences of its own, so it gets streams without escapes; hence texts are made printable here.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TaskProgressColumn, TextColumn
from rich.progress import TimeRemainingColumn as TimeColumn
from rich.table import Table
from rich.text import Text

from retinue import streams
from retinue.escaping import printable

width_of = cell_len


@dataclass(frozen=True)
class Column:
    """A column of a table. Cells are folded if the terminal is too narrow, except for whole ones."""

    heading: str = ""
    justify: Literal["left", "right"] = "left"
    is_whole: bool = False
    min_width: int | None = None


def print_table(
    columns: Sequence[Column], rows: Iterable[Iterable[str]], *, title: str | None = None, caption: str | None = None
) -> None:
    """Print a table; without headings also without a frame."""
    is_framed = any(column.heading for column in columns)
    frame: dict[str, Any] = {} if is_framed else {"box": None, "show_header": False}
    table = Table(title=title, caption=caption, caption_justify="left", **frame)
    for column in columns:
        options: dict[str, Any] = {"no_wrap": True} if column.is_whole else {"overflow": "fold"}
        table.add_column(column.heading, justify=column.justify, min_width=column.min_width, **options)
    for row in rows:
        table.add_row(*map(printable, row))
    _console(streams.controlling_output()).print(table)


class Bars:
    """Progress bars on standard error, hidden if that is not a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @property
    def is_hidden(self) -> bool:
        """Whether no terminal shows them."""
        return bool(self._progress.disable)

    def add(self, text: str, total: int | None = None) -> "Bar":
        """Add a bar."""
        return Bar(self._progress, self._progress.add_task(printable(text), total=total, note=""))

    def note(self, text: str) -> None:
        """Write a line above the bars."""
        self._progress.console.print(Text(printable(text)), soft_wrap=True)


class Bar:
    """One bar; `note` is a text that changes."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task

    def update(
        self,
        completed: int | None = None,
        *,
        total: int | None = None,
        text: str | None = None,
        note: str | None = None,
    ) -> None:
        """Show new values; None leaves one as it is."""
        texts: dict[str, Any] = {} if note is None else {"note": printable(note)}
        description = None if text is None else printable(text)
        self._progress.update(self._task, completed=completed, total=total, description=description, **texts)


@contextmanager
def bars(*formats: str) -> Iterator[Bars]:
    """Show bars. `formats` are the columns of text in place of the usual ones, as formats of Rich's `task`."""
    columns: list[ProgressColumn] = [TextColumn(text, markup=False) for text in formats or ("{task.description}",)]
    if not formats:
        columns += [BarColumn(), TaskProgressColumn(), TimeColumn()]
    console = _console(streams.controlling_errors())
    # Other output goes to the streams themselves meanwhile: by way of Rich, control sequences in it would be obeyed.
    with Progress(
        *columns, console=console, disable=not console.is_terminal, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield Bars(progress)


def _console(stream: TextIO) -> Console:
    return Console(file=stream, markup=False, emoji=False, highlight=False)
