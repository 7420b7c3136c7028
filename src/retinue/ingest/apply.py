"""Apply lines of events to a store, a group at a time."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from retinue.ingest.events import repaired_event
from retinue.ingest.stream import LineSplitter, RawLine
from retinue.ingest.values import BadRecord
from retinue.store.contract import Decision, GraphWriter, Verdict


class RejectedLine(Struct, frozen=True):
    """A line that was not applied."""

    line: int
    reason: str


class ApplyResult(Struct):
    """The results of a group of lines, without empty ones.

    `replaced` counts the lone surrogates that became U+FFFD. `latest` is the greatest claimed time.
    """

    applied: int = 0
    duplicate: int = 0
    rejected: list[RejectedLine] = field(default_factory=list)
    replaced: int = 0
    latest: int | None = None

    def report(self) -> dict[str, Any]:
        """Return the report to the sender, with `replaced` unless 0."""
        counts = {"applied": self.applied, "duplicate": self.duplicate, "rejected": self.rejected}
        return counts | ({"replaced": self.replaced} if self.replaced else {})


async def apply_lines(writer: GraphWriter, lines: Iterable[RawLine], received_at: int) -> ApplyResult:
    """Apply events in the order of their lines, durably."""
    result = ApplyResult()
    events, numbers = [], []
    for line in lines:
        if line.fault:
            result.rejected.append(RejectedLine(line.number, line.fault))
        elif line.content.strip():
            try:
                event, replaced = repaired_event(line.content)
            except BadRecord as bad:
                result.rejected.append(RejectedLine(line.number, str(bad)))
                continue
            events.append(event)
            numbers.append(line.number)
            result.replaced += replaced
    result.latest = max((event.at for event in events), default=None)
    decisions = await writer.apply(events, received_at) if events else []
    for number, decision in zip(numbers, decisions, strict=True):
        _count(result, number, decision)
    result.rejected.sort(key=lambda rejected: rejected.line)
    return result


async def apply_body(writer: GraphWriter, body: bytes, received_at: int) -> ApplyResult:
    """Apply the events of a whole request body."""
    splitter = LineSplitter()
    return await apply_lines(writer, [*splitter.feed(body), *splitter.finish()], received_at)


def _count(result: ApplyResult, line: int, decision: Decision) -> None:
    if decision is Verdict.ACCEPTED:
        result.applied += 1
    elif decision is Verdict.DUPLICATE:
        result.duplicate += 1
    else:
        result.rejected.append(RejectedLine(line, decision.value))
