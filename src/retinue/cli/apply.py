"""`retinue apply`."""

import os
import signal
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.flags import Store, flag
from retinue.cli.output import print_json, print_lines, warn
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from retinue.ingest.apply import ApplyResult
    from retinue.ingest.stream import LineStream

REJECTED = 1
STOPPED = 128  # and the signal's number: 130 after Ctrl-C, 143 after SIGTERM

_HELP_FILES = "Events as JSON lines, with .gz packed; standard input where it is - or nothing is named."
_HELP_SCHEMA = "Print the JSON Schema of an event and exit."


def apply(
    files: Annotated[list[str] | None, typer.Argument(help=_HELP_FILES)] = None,
    store: Store = default_of("store"),
    schema: Annotated[bool, flag("schema", _HELP_SCHEMA)] = False,
) -> None:
    """Apply events to a store, as they come; a store is made if there is none.

    Whenever a group of events is durable, a line of JSON says up to which line that is, how many events were applied
    and how many known already, and which lines were rejected and why; the exit code is then 1. A pipe may stay open:
    what has come through it is applied at once. Ctrl-C stops after the group at hand. Applying the same events again
    changes nothing.
    """
    if schema:
        _print_schema()
        return
    import asyncio

    from retinue import assemble
    from retinue.ingest.stream import STANDARD_INPUT, open_stream

    with _stopping() as stopping, ExitStack() as opened:
        # All files are opened before the store is touched, so that a wrong name costs nothing.
        names = files or [STANDARD_INPUT]
        streams = {name: opened.enter_context(closing(open_stream(name, stopping.descriptor))) for name in names}
        if assemble.create_store(store):
            warn(f"made the store {store}")
        report = _Report()
        asyncio.run(_apply(store, streams, report))
    if stopping.number:
        warn(f"stopped after {report.place}; applying the same again changes nothing")
        raise typer.Exit(STOPPED + stopping.number)
    if report.has_rejected:
        raise typer.Exit(REJECTED)


class _Stopping:
    """Whether a signal came that stops us: its number, and a descriptor that can be read from then on."""

    def __init__(self) -> None:
        self.number = 0
        self.descriptor, self._alarm = os.pipe()

    def stop(self, number: int, _frame: "FrameType | None") -> None:
        """Remember a signal. The next one ends the program at once; nothing that was acknowledged is lost then."""
        self.number = number
        signal.signal(number, signal.SIG_DFL)
        os.write(self._alarm, b"\n")

    def close(self) -> None:
        """Give the pipe back."""
        os.close(self.descriptor)
        os.close(self._alarm)


@contextmanager
def _stopping() -> "Iterator[_Stopping]":
    with closing(_Stopping()) as stopping:
        before = {number: signal.signal(number, stopping.stop) for number in (signal.SIGINT, signal.SIGTERM)}
        yield stopping
        for number, handler in before.items():
            signal.signal(number, handler)


class _Report:
    """What is told of each group, and what is kept of it."""

    def __init__(self) -> None:
        self.place = "no line"
        self.has_rejected = False

    def tell(self, stream: "LineStream", file: str | None, line: int, outcome: "ApplyResult") -> None:
        """Print a line on a group that is durable. Raises `InputError` if it cannot be written."""
        from retinue.errors import InputError, UnwritableOutput

        self.place = f"line {line} of {stream.name}"
        self.has_rejected |= bool(outcome.rejected)
        said = ({"file": file} if file else {}) | {"line": line} | outcome.report()
        try:
            print_json(said)
        except UnwritableOutput as error:
            raise InputError(f"{error}; stopped after {self.place}") from None


async def _apply(store: str, streams: "dict[str, LineStream]", report: _Report) -> None:
    from retinue import assemble
    from retinue.clock import SystemClock
    from retinue.ingest.apply import apply_lines
    from retinue.ingest.stream import STANDARD_INPUT

    clock = SystemClock()
    with closing(assemble.open_graph_writer(store, clock)) as writer:
        for name, stream in streams.items():
            file = None if name == STANDARD_INPUT else name
            for group in stream.groups():
                outcome = await apply_lines(writer, group, clock.now())
                report.tell(stream, file, group[-1].number, outcome)


def _print_schema() -> None:
    from msgspec import json

    from retinue.ingest.event_schema import schema

    print_lines(json.format(json.encode(schema()), indent=2).decode() + "\n")
