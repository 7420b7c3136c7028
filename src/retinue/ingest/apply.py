"""Events into the store: a group of lines at a time, each line with what became of it."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct, field

from retinue.ingest.events import event_of_halves
from retinue.ingest.stream import RawLine, Splitter
from retinue.ingest.values import BadRecord
from retinue.store.contract import Decision, GraphWriter, Verdict


class Rejection(Struct, frozen=True):
    """A line that was not applied."""

    line: int
    reason: str


class Outcome(Struct):
    """What became of a group of lines, empty ones left out. Duplicates were known already.

    `replaced` counts the lone surrogates in texts of events, each of which became U+FFFD.
    `latest` is the greatest time that an event claimed; None without events.
    """

    applied: int = 0
    duplicate: int = 0
    rejected: list[Rejection] = field(default_factory=list)
    replaced: int = 0
    latest: int | None = None

    def report(self) -> dict[str, Any]:
        """Return the answer to the sender. It has `replaced` only if that is not 0."""
        counts = {"applied": self.applied, "duplicate": self.duplicate, "rejected": self.rejected}
        return counts | ({"replaced": self.replaced} if self.replaced else {})


async def apply_lines(writer: GraphWriter, lines: Iterable[RawLine], received_at: int) -> Outcome:
    """Apply the events that lines hold, in their order. When it returns they are durable."""
    outcome = Outcome()
    events = []
    numbers = []
    for line in lines:
        if line.fault:
            outcome.rejected.append(Rejection(line.number, line.fault))
        elif line.content.strip():
            try:
                event, replaced = event_of_halves(line.content)
            except BadRecord as bad:
                outcome.rejected.append(Rejection(line.number, str(bad)))
                continue
            events.append(event)
            numbers.append(line.number)
            outcome.replaced += replaced
    outcome.latest = max((event.at for event in events), default=None)
    decisions = await writer.apply(events, received_at) if events else []
    for number, decision in zip(numbers, decisions, strict=True):
        _count(outcome, number, decision)
    outcome.rejected.sort(key=lambda rejection: rejection.line)
    return outcome


async def apply_body(writer: GraphWriter, body: bytes, received_at: int) -> Outcome:
    """Apply the events that a whole body holds."""
    splitter = Splitter()
    return await apply_lines(writer, [*splitter.feed(body), *splitter.finish()], received_at)


def _count(outcome: Outcome, line: int, decision: Decision) -> None:
    if decision is Verdict.ACCEPTED:
        outcome.applied += 1
    elif decision is Verdict.DUPLICATE:
        outcome.duplicate += 1
    else:
        outcome.rejected.append(Rejection(line, decision.value))
