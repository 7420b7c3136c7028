"""Tables and progress bars: the only use of Rich. Texts cannot contain markup or control the terminal.

Rich writes control sequences, so its streams do not escape them. Texts are made printable here.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
class TableColumn:
    """A column of a table. On a narrow terminal, cells are folded unless `is_whole`."""

    heading: str = ""
    justify: Literal["left", "right"] = "left"
    is_whole: bool = False


def print_table(
    columns: Sequence[TableColumn],
    rows: Iterable[Iterable[str]],
    *,
    title: str | None = None,
    caption: str | None = None,
) -> None:
    """Print a table. Without headings it has no frame."""
    is_framed = any(column.heading for column in columns)
    frame: dict[str, Any] = {} if is_framed else {"box": None, "show_header": False}
    table = Table(title=title, caption=caption, caption_justify="left", **frame)
    for column in columns:
        options: dict[str, Any] = {"no_wrap": True} if column.is_whole else {"overflow": "fold"}
        table.add_column(column.heading, justify=column.justify, **options)
    for row in rows:
        table.add_row(*map(printable, row))
    _console(streams.controlling_output()).print(table)


class Bars:
    """Progress bars on standard error, hidden unless it is a terminal."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @property
    def is_hidden(self) -> bool:
        """Whether standard error is not a terminal."""
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
    """Show bars. `formats` replaces the columns, as formats of Rich's `task`."""
    columns: list[ProgressColumn] = [TextColumn(text, markup=False) for text in formats or ("{task.description}",)]
    if not formats:
        columns += [BarColumn(), TaskProgressColumn(), TimeColumn()]
    console = _console(streams.controlling_errors())
    # Other output must not pass through Rich, where control sequences in it would take effect.
    with Progress(
        *columns, console=console, disable=not console.is_terminal, redirect_stdout=False, redirect_stderr=False
    ) as progress:
        yield Bars(progress)


@contextmanager
def bar(text: str) -> Iterator[Callable[[int, int | None], None]]:
    """Show a bar. The function takes how much is done, and the total if it is known."""

    def described(done: int, total: int | None) -> str:
        return text if total is not None else f"{text} ({done:,} rows)"

    with bars() as shown:
        one = shown.add(text)
        yield lambda done, total: one.update(done, total=total, text=described(done, total))


def _console(stream: TextIO) -> Console:
    return Console(file=stream, markup=False, emoji=False, highlight=False)
