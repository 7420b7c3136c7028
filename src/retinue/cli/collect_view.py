"""What a person sees while lists are being collected: on standard error, a bar where somebody is watching."""

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from retinue.cli.output import warn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from retinue.cli.terminal import Bar, Bars
    from retinue.clock import Clock
    from retinue.collect.collector import CollectPlan, Observer
    from retinue.collect.progress import Progress

_SHOWN_EVERY_SECONDS = 0.2
_LONG_SECONDS = 5  # shorter waits are nothing to speak of
_TOLD_EVERY_SECONDS = 60  # where there is no bar


@contextmanager
def view(plan: "CollectPlan", progress: "Progress", clock: "Clock") -> "Iterator[Observer]":
    """A bar of lists, with rows, calls left today and the time that is left; and why it waits, if it does for long."""
    from retinue.cli.terminal import bars

    with bars("{task.description}", "{task.completed:,.0f} of {task.total:,.0f} lists", "{task.fields[note]}") as shown:
        yield _Shown(shown, shown.add("collecting", len(plan.items)), plan, progress, clock)


class _Shown:
    """Brings the bar up to date, not more often than a person can see."""

    def __init__(self, bars: "Bars", bar: "Bar", plan: "CollectPlan", progress: "Progress", clock: "Clock") -> None:
        self._bars, self._bar, self._plan, self._progress, self._clock = bars, bar, plan, progress, clock
        self._began = self._next = self._told = clock.elapsed()
        self._finished_before = self._finished()

    def on_progress(self) -> None:
        """Show how far it is."""
        now = self._clock.elapsed()
        if now < self._next or self._bars.is_hidden:
            return
        self._next = now + _SHOWN_EVERY_SECONDS
        finished = self._finished()
        from retinue.collect.progress import DAY_SECONDS

        day = self._clock.now() // DAY_SECONDS
        left = self._plan.calls_per_day["lists"] - self._progress.calls_on(day, "lists")
        said = f"{self._progress.rows:,} rows, {left:,} calls left today{self._time_left(finished, now)}"
        self._bar.update(finished, note=said)

    def on_wait(self, seconds: float, reason: str) -> None:
        """Say why."""
        if seconds < _LONG_SECONDS:
            return
        said = f"waiting for {timedelta(seconds=int(seconds))}: {reason}"
        now = self._clock.elapsed()
        if not self._bars.is_hidden:
            self._bar.update(note=said)
        elif now >= self._told:
            self._told = now + _TOLD_EVERY_SECONDS
            warn(f"{said}")

    def _finished(self) -> int:
        return sum(item.state != "incomplete" for item in self._progress.items.values())

    def _time_left(self, finished: int, now: float) -> str:
        """By the pace of this run; nothing before the first list is finished."""
        done = finished - self._finished_before
        if not done:
            return ""
        seconds = (len(self._plan.items) - finished) * (now - self._began) / done
        return f", {timedelta(seconds=int(seconds))} left"
