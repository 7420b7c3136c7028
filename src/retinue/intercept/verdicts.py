"""A verdict for each list of a run: which of its rows were delivered, compared with the store if that is at hand."""

from collections import Counter
from collections.abc import Callable

from msgspec import Struct

from retinue.errors import AccountNotFound, AccountPrivate, AccountWithheld
from retinue.intercept.lists import MAX_ROWS, DeliveredList, ListKey, ListLog
from retinue.model import Direction

MAX_LINES = 20
_MAX_LABEL = 60
_TWICE = 2

# Returns the hashes of a list's rows from a second on, newest first; None if they are more than a limit.
# Raises a `Refusal` if the account has no list to show.
Expected = Callable[[ListKey, int, int], list[int] | None]


class ListVerdict(Struct, frozen=True):
    """One list's verdict, as a sentence."""

    text: str
    is_good: bool


def verdict_lines(log: ListLog, expected: Expected | None) -> list[str]:
    """Return a line for each list, incomplete lists first; beyond `MAX_LINES` lists only counts."""
    verdicts = _verdicts(log, expected)
    verdicts.sort(key=lambda verdict: verdict.is_good)
    lines = [verdict.text for verdict in verdicts[:MAX_LINES]]
    if rest := verdicts[MAX_LINES:]:
        good = sum(verdict.is_good for verdict in rest)
        lines.append(
            f"{len(rest):,} more lists: {good:,} complete, {len(rest) - good:,} incomplete or with surplus rows"
        )
    if log.unrecorded:
        lines.append(f"{log.unrecorded:,} answers for further lists are not compared")
    return lines


def _verdicts(log: ListLog, expected: Expected | None) -> list[ListVerdict]:
    verdicts, budget = [], MAX_ROWS
    for key, progress in log.lists.items():
        label, rows = _label(key, progress), None
        try:
            if expected is not None:
                rows = expected(key, progress.start, budget)
        except (AccountNotFound, AccountPrivate, AccountWithheld) as refusal:
            verdicts.append(ListVerdict(f"{label}: {_REFUSED[type(refusal)]}", is_good=False))
            continue
        budget -= len(rows or ())
        verdicts.append(_verdict(label, progress, rows))
    return verdicts


_REFUSED = {
    AccountNotFound: "no such account",
    AccountPrivate: "the list is private",
    AccountWithheld: "the account is withheld",
}


def _verdict(label: str, progress: DeliveredList, expected: list[int] | None) -> ListVerdict:
    """`expected`: the hashes of all rows that the list has, newest first; None if they are not known."""
    if not progress.is_recorded:
        return ListVerdict(f"{label}: too many rows to compare", is_good=False)
    deliveries = Counter(progress.rows)
    repeated = sum(times > 1 for times in deliveries.values())
    missing = [row for row in expected or () if row not in deliveries]
    unknown = 0 if expected is None else len(deliveries.keys() - set(expected))
    is_at_end = not progress.has_more and not progress.trouble
    is_whole = not missing and (bool(expected) or (is_at_end and (expected is not None or progress.is_gapless)))
    found = f"{len(deliveries):,}" if expected is None else f"{len(expected) - len(missing):,} of {len(expected):,}"
    parts = []
    if not is_whole:
        parts.append(f"{found} rows, {_why_incomplete(progress, expected, missing)}")
    elif expected is None:
        parts.append(f"{found} rows, to the end")
    elif not repeated and not unknown:
        parts.append("complete")
    if repeated:
        parts.append(f"{repeated:,} rows {'twice' if max(deliveries.values()) == _TWICE else 'more than once'}")
    if unknown:
        parts.append(f"{unknown:,} rows that the store does not have")
    if is_whole and expected is not None and (repeated or unknown):
        parts.append("none missing")
    return ListVerdict(f"{label}: {', '.join(parts)}", is_whole and not repeated and not unknown)


def _why_incomplete(progress: DeliveredList, expected: list[int] | None, missing: list[int]) -> str:
    if progress.trouble:
        return f"broken off after {progress.trouble}"
    if progress.has_more:
        return "the rest was not asked for"
    if expected is None:
        return "a part in between was not asked for"
    if expected[-1] != missing[-1]:
        return "others are missing in between"
    return "the server ended the list there"


def _label(key: ListKey, progress: DeliveredList) -> str:
    notes = ["followers"] if key.direction is Direction.FOLLOWERS else []
    notes += [] if key.as_of is None else [f"as of {key.as_of}"]
    notes += [] if progress.is_from_now else [f"from {progress.start}"]
    name = progress.label if len(progress.label) <= _MAX_LABEL else f"{progress.label[:_MAX_LABEL]}…"
    return f"{name} ({', '.join(notes)})" if notes else name
