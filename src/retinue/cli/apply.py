"""`retinue apply`."""

import os
import signal
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from retinue.cli.commands import StoreUrl, flag, store_at
from retinue.cli.output import print_document, print_json, warn
from retinue.errors import InputError, UnwritableOutput
from retinue.settings import default_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from retinue.ingest.stream import LineStream
    from retinue.store.open import Store

REJECTED = 1
STOPPED = 128  # and the signal's number: 130 after Ctrl-C, 143 after SIGTERM

_HELP_FILES = "Events as JSON lines; .gz files are compressed. Without a file, or as -, standard input."


def apply(
    files: Annotated[list[str] | None, typer.Argument(help=_HELP_FILES)] = None,
    url: StoreUrl = default_of("store"),
    schema: Annotated[bool, flag("schema", "Print the JSON Schema of an event and exit.")] = False,
) -> None:
    """Apply events to a store as they arrive. A missing store is created.

    When a group of events is durable, a line of JSON gives its last line, the numbers of applied and of duplicate
    events, and each rejected line with its reason. The exit code is 1 if lines were rejected. A pipe may stay open:
    its events are applied as they arrive. Ctrl-C stops after the current group. Applying the same events again changes
    nothing.
    """
    if schema:
        from retinue.ingest.event_schema import schema as event_schema

        print_document(event_schema())
        return
    import asyncio

    from retinue.ingest.stream import STANDARD_INPUT, open_stream

    with _stopping() as stopping, ExitStack() as opened:
        # Files are opened first, so that a wrong name changes nothing.
        names = files or [STANDARD_INPUT]
        streams = {name: opened.enter_context(closing(open_stream(name, stopping.descriptor))) for name in names}
        store = store_at(url)
        if store.create():
            warn(f"created the store {store}")
        progress = _Progress()
        asyncio.run(_apply(store, streams, progress))
    if stopping.number:
        warn(f"Interrupted after {progress.place}. Apply the same events again to resume.")
        raise typer.Exit(STOPPED + stopping.number)
    if progress.has_rejected:
        raise typer.Exit(REJECTED)


class _Stopping:
    """The number of the signal that arrived, or 0.

    From then on `descriptor` can be read.
    """

    def __init__(self) -> None:
        self.number = 0
        self.descriptor, self._alarm = os.pipe()

    def stop(self, number: int, _frame: "FrameType | None") -> None:
        """Note a signal. The next one ends the program; nothing that was acknowledged is lost."""
        self.number = number
        signal.signal(number, signal.SIG_DFL)
        os.write(self._alarm, b"\n")

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.descriptor)
        os.close(self._alarm)


@contextmanager
def _stopping() -> "Iterator[_Stopping]":
    with closing(_Stopping()) as stopping:
        before = {number: signal.signal(number, stopping.stop) for number in (signal.SIGINT, signal.SIGTERM)}
        yield stopping
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass
class _Progress:
    """The last durable line, and whether lines were rejected."""

    place: str = "no line"
    has_rejected: bool = False


async def _apply(store: "Store", streams: "dict[str, LineStream]", progress: _Progress) -> None:
    """Apply all lines and report each durable group. Raises `InputError` if that fails."""
    from retinue.clock import SystemClock
    from retinue.ingest.apply import apply_lines
    from retinue.ingest.stream import STANDARD_INPUT

    clock = SystemClock()
    with closing(store.writer(clock)) as writer:
        for name, stream in streams.items():
            file = {} if name == STANDARD_INPUT else {"file": name}
            for group in stream.groups():
                result, line = await apply_lines(writer, group, clock.now()), group[-1].number
                progress.place = f"line {line} of {stream.name}"
                progress.has_rejected |= bool(result.rejected)
                try:
                    print_json(file | {"line": line} | result.report())
                except UnwritableOutput as error:
                    raise InputError(f"{error}; stopped after {progress.place}") from None
