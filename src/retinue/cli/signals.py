"""Signals, for commands that clean up before they end."""

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, TypeVar

import typer

_ENDED = 128  # and the signal's number
_T = TypeVar("_T")


@contextmanager
def ending_in_order() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the block like Ctrl-C."""
    received: int = signal.SIGINT

    def end(number: int, _frame: FrameType | None) -> None:
        nonlocal received
        received = number
        signal.raise_signal(signal.SIGINT)  # all libraries are prepared for Ctrl-C

    before = {number: signal.signal(number, end) for number in _heeded(signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(_ENDED + received) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def run(main: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run an event loop that signals end between two steps.

    The signal is then raised again. asyncio itself cancels from within the handler of Ctrl-C, so in the middle of a
    step. Signals are blocked while the loop starts or closes: interrupted there, it would end with a traceback.
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
    """Return the signals that are not ignored, such as by `nohup`."""
    return [number for number in numbers if signal.getsignal(number) != signal.SIG_IGN]
