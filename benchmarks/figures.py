"""What runs of several servers say, pure: medians with their ranges, ratios, targets that are met or not, a table.

Runs of one round belong together: they follow each other within seconds, so what else the machine does hits all of
them, and a ratio is taken within each round before its median is.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

FULL_PERCENT = 90  # of its core a server uses when nothing else does

LIMIT = "nginx"
HANDMADE = "hand-made"
OURS = "Retinue"


@dataclass(frozen=True, slots=True)
class Run:
    """One server's part of one round: as fast as it answers, then at half of that."""

    server: str
    max_count: int
    requests_per_second: float
    cpu_microseconds: float  # a request, of all the server's processes
    core_percent: float  # far below 100: it waited for who asks, or something else ran on its core
    memory_mebibytes: float
    half_rate: float
    p50_milliseconds: float
    p99_milliseconds: float
    late_milliseconds: float  # of the sender at half load, 99 in 100 are less
    kept_schedule: bool


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, the lowest and the highest."""

    median: float
    low: float
    high: float

    def __format__(self, form: str) -> str:
        low, high = format(self.low, form), format(self.high, form)
        return f"{self.median:{form}} ({low}-{high})"


@dataclass(frozen=True, slots=True)
class Target:
    """A ratio of two servers' figures that is to stay on one side of a bound."""

    title: str
    max_count: int
    figure: str
    over: str
    bound: float
    is_most: bool

    def is_met(self, ratio: Spread) -> bool:
        """Whether the median is on the right side."""
        return ratio.median <= self.bound if self.is_most else ratio.median >= self.bound


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a target."""

    target: Target
    ratio: Spread
    is_met: bool

    @property
    def is_clear(self) -> bool:
        """Whether every round says the same."""
        ends = (Spread(end, end, end) for end in (self.ratio.low, self.ratio.high))
        return all(self.target.is_met(end) == self.is_met for end in ends)


_CPU = "cpu_microseconds"
_SPEED = "requests_per_second"
TARGETS = (
    Target(f"CPU of {OURS} / CPU of {LIMIT}", 20, _CPU, LIMIT, 2, is_most=True),
    Target(f"CPU of {OURS} / CPU of {LIMIT}", 100, _CPU, LIMIT, 3, is_most=True),
    Target(f"requests/s of {OURS} / {HANDMADE}", 20, _SPEED, HANDMADE, 25, is_most=False),
    Target(f"requests/s of {OURS} / {HANDMADE}", 100, _SPEED, HANDMADE, 25, is_most=False),
)
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("requests/s", _SPEED, ",.0f"),
    ("CPU us/request", _CPU, ".1f"),
    ("p50 ms at half", "p50_milliseconds", ".2f"),
    ("p99 ms at half", "p99_milliseconds", ".2f"),
    ("PSS MiB", "memory_mebibytes", ",.0f"),
    ("core %", "core_percent", ".0f"),
)


def spread(values: Iterable[float]) -> Spread:
    """The median and the ends."""
    ordered = sorted(values)
    return Spread(statistics.median(ordered), ordered[0], ordered[-1])


def of_server(runs: Iterable[Run], server: str, max_count: int) -> list[Run]:
    """One server's runs at one size of pages, in the order of the rounds."""
    return [run for run in runs if (run.server, run.max_count) == (server, max_count)]


def judge(runs: Sequence[Run], target: Target) -> Verdict:
    """The target's ratio, taken round by round."""
    ours, theirs = (
        [getattr(run, target.figure) for run in of_server(runs, server, target.max_count)]
        for server in (OURS, target.over)
    )
    ratio = spread(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Verdict(target, ratio, target.is_met(ratio))


def table(runs: Sequence[Run]) -> list[str]:
    """One line a server and size of pages, below a head."""
    servers = list(dict.fromkeys(run.server for run in runs))
    rows = [("rows", "", *(title for title, *_ in COLUMNS))]
    for max_count in sorted({run.max_count for run in runs}):
        for server in servers:
            own = of_server(runs, server, max_count)
            cells = (format(spread(getattr(run, name) for run in own), form) for _, name, form in COLUMNS)
            rows.append((str(max_count), server, *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]


def verdict_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """A sentence for each target."""
    return [
        f"{verdict.target.title} at {verdict.target.max_count} rows: {verdict.ratio:.2f};"
        f" target {'at most' if verdict.target.is_most else 'at least'} {verdict.target.bound:g}:"
        f" {'met' if verdict.is_met else 'MISSED'}{'' if verdict.is_clear else ', though not in every round'}"
        for verdict in verdicts
    ]


def disturbed_lines(runs: Iterable[Run]) -> list[str]:
    """A sentence for each server and size of pages at which something else ran on its core: its speed says little."""
    counts = Counter((run.server, run.max_count) for run in runs if run.core_percent < FULL_PERCENT)
    return [
        f"NOT A QUIET MACHINE: {server}, {max_count} rows, had less than {FULL_PERCENT} % of its core in {count} rounds"
        for (server, max_count), count in counts.items()
    ]


def late_lines(runs: Iterable[Run]) -> list[str]:
    """A sentence for each server and size of pages at which the sender could not keep its schedule."""
    counts = Counter((run.server, run.max_count) for run in runs if not run.kept_schedule)
    return [
        f"at half load of {server}, {max_count} rows, the sender could not keep its schedule in {count} rounds"
        for (server, max_count), count in counts.items()
    ]
