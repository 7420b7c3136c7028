"""Signals that would end a program at once, for commands that have something to put away first."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import typer

_ENDED = 128  # and the signal's number


class _Ending:
    """Which signal it was."""

    def __init__(self) -> None:
        self.number = signal.SIGINT

    def end(self, number: int, _frame: FrameType | None) -> None:
        """End as Ctrl-C does, for which all libraries are prepared."""
        self.number = signal.Signals(number)
        signal.raise_signal(signal.SIGINT)


@contextmanager
def ending_in_order() -> Iterator[None]:
    """SIGTERM and SIGHUP end the block as Ctrl-C does: what was begun is put away. The exit code tells which it was."""
    ending = _Ending()
    before = {number: signal.signal(number, ending.end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(_ENDED + ending.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
