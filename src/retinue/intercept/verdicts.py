"""A verdict for each list of a run: its delivered rows, compared with the store if that is known."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

from msgspec import Struct, structs

from retinue.clock import Clock
from retinue.errors import PrivateAccount, UnknownAccount, WithheldAccount
from retinue.following import Following
from retinue.intercept.list_log import MAX_ROWS, DeliveredList, ListKey, ListLog, row_hash
from retinue.model import Direction, Query, Row
from retinue.store.open import open_store

MAX_LINES = 20
_MAX_LABEL = 60
_TWICE = 2
_PAGE_ROWS = 1000

# Returns the hashes of a list's rows from a second on, newest first; None if there are more than a limit.
# Raises a `Refusal` if the account is unavailable.
Expected = Callable[[ListKey, int, int], list[int] | None]


@contextmanager
def expected_rows(store: str, clock: Clock) -> Iterator[Expected]:
    """Open a store for comparison with a run. Raises `InputError`."""
    with closing(open_store(store).graph(clock)) as graph, asyncio.Runner() as runner:
        following = Following(graph, clock)
        yield lambda key, start, limit: runner.run(_row_hashes(following, key, start, limit))


async def _row_hashes(following: Following[Row], key: ListKey, start: int, limit: int) -> list[int] | None:
    account = await following.account(key.username)
    query = Query(key.username, _PAGE_ROWS, start, key.as_of)
    rows: list[int] = []
    has_more = True
    while has_more:
        page = await following.page(account, query, key.direction)
        rows += [row_hash(row.username) for row in page.rows]
        query, has_more = structs.replace(query, cursor=page.cursor), page.has_more
        if len(rows) > limit:
            return None
    return rows


class ListVerdict(Struct, frozen=True):
    """One list's verdict, as a sentence."""

    text: str
    is_good: bool


def verdict_lines(log: ListLog, expected: Expected | None) -> list[str]:
    """Return a line for each list, incomplete lists first."""
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
    for key, delivered in log.lists.items():
        label, rows = _label(key, delivered), None
        try:
            if expected is not None:
                rows = expected(key, delivered.start, budget)
        except (UnknownAccount, PrivateAccount, WithheldAccount) as refusal:
            verdicts.append(ListVerdict(f"{label}: {_REFUSED[type(refusal)]}", is_good=False))
            continue
        budget -= len(rows or ())
        verdicts.append(_verdict(label, delivered, rows))
    return verdicts


_REFUSED = {
    UnknownAccount: "no such account",
    PrivateAccount: "the list is private",
    WithheldAccount: "the account is withheld",
}


def _verdict(label: str, delivered: DeliveredList, expected: list[int] | None) -> ListVerdict:
    if not delivered.is_recorded:
        return ListVerdict(f"{label}: too many rows to compare", is_good=False)
    deliveries = Counter(delivered.rows)
    repeated = sum(times > 1 for times in deliveries.values())
    missing = [row for row in expected or () if row not in deliveries]
    unknown = 0 if expected is None else len(deliveries.keys() - set(expected))
    is_at_end = not delivered.has_more and not delivered.trouble
    is_whole = not missing and (bool(expected) or (is_at_end and (expected is not None or delivered.is_gapless)))
    figures = f"{len(deliveries):,}" if expected is None else f"{len(expected) - len(missing):,} of {len(expected):,}"
    parts = []
    if not is_whole:
        parts.append(f"{figures} rows, {_why_incomplete(delivered, expected, missing)}")
    elif expected is None:
        parts.append(f"{figures} rows, to the end")
    elif not repeated and not unknown:
        parts.append("complete")
    if repeated:
        parts.append(f"{repeated:,} rows {'twice' if max(deliveries.values()) == _TWICE else 'more than once'}")
    if unknown:
        parts.append(f"{unknown:,} rows that the store does not have")
    if is_whole and expected is not None and (repeated or unknown):
        parts.append("none missing")
    return ListVerdict(f"{label}: {', '.join(parts)}", is_whole and not repeated and not unknown)


def _why_incomplete(delivered: DeliveredList, expected: list[int] | None, missing: list[int]) -> str:
    if delivered.trouble:
        return f"broken off after {delivered.trouble}"
    if delivered.has_more:
        return "the rest was not asked for"
    if expected is None:
        return "a part in between was not asked for"
    if expected[-1] != missing[-1]:
        return "others are missing in between"
    return "the server ended the list there"


def _label(key: ListKey, delivered: DeliveredList) -> str:
    notes = ["followers"] if key.direction is Direction.FOLLOWERS else []
    notes += [] if key.as_of is None else [f"as of {key.as_of}"]
    notes += [] if delivered.is_from_now else [f"from {delivered.start}"]
    name = delivered.label if len(delivered.label) <= _MAX_LABEL else f"{delivered.label[:_MAX_LABEL]}…"
    return f"{name} ({', '.join(notes)})" if notes else name
