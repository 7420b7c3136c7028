"""Signals that would end a program at once, for commands that have something to put away first."""

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import typer

_ENDED = 128  # and the signal's number
_T = TypeVar("_T")


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
    before = {number: signal.signal(number, ending.end) for number in _heeded(signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(_ENDED + ending.number) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run an event loop that a signal ends between two of its steps; then the signal does what it does without one.

    By itself asyncio cancels from within the handler of Ctrl-C, so in the middle of whatever is being done. Signals
    that come while the loop is made or closed are held until that is done: half a loop ends in a traceback.
    """
    import asyncio

    before = {number: signal.getsignal(number) for number in _heeded(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    came: list[int] = []
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, before)

    async def cancellable() -> _T:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None

        def stop(number: int) -> None:
            came.append(number)
            task.cancel()

        for number in before:
            loop.add_signal_handler(number, stop, number)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        try:
            return await main()
        finally:
            signal.pthread_sigmask(signal.SIG_BLOCK, before)

    try:
        return asyncio.run(cancellable())
    except asyncio.CancelledError:
        if not came:
            raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    signal.raise_signal(came[0])
    raise KeyboardInterrupt


def _heeded(*numbers: signal.Signals) -> list[signal.Signals]:
    """Those that are not ignored, as under `nohup`."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
