"""Progress of a collection on standard error: a bar if it is a terminal, else lines."""

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from retinue.cli.output import warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retinue.cli.terminal import Bar, Bars
    from retinue.clock import Clock
    from retinue.collect.collector import CollectPlan
    from retinue.collect.progress import Progress

_SHOWN_EVERY_SECONDS = 0.2
_LONG_SECONDS = 5  # shorter waits are not shown
_PRINTED_EVERY_SECONDS = 60  # without a bar


@contextmanager
def view(plan: "CollectPlan", progress: "Progress", clock: "Clock") -> "Iterator[_Shown]":
    """Show a bar of lists, and the reasons of long waits."""
    from retinue.cli.terminal import bars

    with bars("{task.description}", "{task.completed:,.0f} of {task.total:,.0f} lists", "{task.fields[note]}") as shown:
        yield _Shown(shown, shown.add("collecting", len(plan.items)), plan, progress, clock)


class _Shown:
    """Updates the bar a few times a second."""

    def __init__(self, bars: "Bars", bar: "Bar", plan: "CollectPlan", progress: "Progress", clock: "Clock") -> None:
        self._bars, self._bar, self._plan, self._progress, self._clock = bars, bar, plan, progress, clock
        self._began = self._next = self._printed = clock.elapsed()
        self._finished_before = self._finished()

    def on_progress(self) -> None:
        """Update the bar."""
        now = self._clock.elapsed()
        if now < self._next or self._bars.is_hidden:
            return
        self._next = now + _SHOWN_EVERY_SECONDS
        finished = self._finished()
        left = self._plan.calls_per_day["lists"] - self._progress.calls_today(self._clock.now(), "lists")
        note = f"{self._progress.rows:,} rows, {left:,} calls left today{self._time_left(finished, now)}"
        self._bar.update(finished, note=note)

    def on_wait(self, seconds: float, reason: str) -> None:
        """Show the reason of a long wait."""
        if seconds < _LONG_SECONDS:
            return
        note = f"waiting for {timedelta(seconds=int(seconds))}: {reason}"
        now = self._clock.elapsed()
        if not self._bars.is_hidden:
            self._bar.update(note=note)
        elif now >= self._printed:
            self._printed = now + _PRINTED_EVERY_SECONDS
            warn(note)

    def _finished(self) -> int:
        return sum(item.state != "incomplete" for item in self._progress.items.values())

    def _time_left(self, finished: int, now: float) -> str:
        """Return the remaining time, once a list is finished."""
        done = finished - self._finished_before
        if not done:
            return ""
        seconds = (len(self._plan.items) - finished) * (now - self._began) / done
        return f", {timedelta(seconds=int(seconds))} left"
