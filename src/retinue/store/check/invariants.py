"""Every invariant of a graph, and its size."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from retinue.errors import StoreUnavailable
from retinue.model import Direction
from retinue.store.check.accounts import wrong_finders, wrong_meta, wrong_names
from retinue.store.check.columns import parts_of
from retinue.store.check.lists import one_sided, one_sided_histories, wrong_lists, wrong_visibility
from retinue.store.check.tombstones import wrong_changes, wrong_future_events, wrong_tombstones
from retinue.store.layout.sealing import unseal
from retinue.store.layout.stored_accounts import kind_of
from retinue.store.layout.tables import ACCOUNT, CHANGE, FUTURE_EVENT, META, RELOCATION, TOMBSTONE, Source

UNCHECKED = "cannot be checked:"
_MAX_LISTED = 20
_UNRELATED = META, CHANGE, RELOCATION, TOMBSTONE, FUTURE_EVENT  # no other row tells what is in them


def invariants(source: Source) -> Iterator[Iterable[str]]:
    """Yield for each invariant the sentences about its violations."""
    yield _damaged_rows(source)
    yield wrong_meta(source)
    yield wrong_names(source)
    yield wrong_finders(source)
    for direction in Direction:
        yield wrong_lists(source, direction)
    yield one_sided(source)
    yield one_sided_histories(source)
    yield wrong_visibility(source)
    yield wrong_changes(source)
    yield wrong_tombstones(source)
    yield wrong_future_events(source)


def listed(problems: Iterable[str], shown: Callable[[Exception], str]) -> Iterator[str]:
    """Yield the first problems of an invariant, and its error."""
    try:
        for count, problem in enumerate(problems):
            if count == _MAX_LISTED:
                yield "... and more of this kind"
                break
            yield problem
    except Exception as error:  # noqa: BLE001 - our own code may fail in any way on damage
        yield f"{UNCHECKED} {shown(error)}"


def shown(error: Exception) -> str:
    """Return the text of an error, on one line."""
    text = " ".join(str(error).split())
    return text if isinstance(error, StoreUnavailable) else f"{type(error).__name__}: {text}"


def _damaged_rows(source: Source) -> Iterator[str]:
    for table in _UNRELATED:
        for key, value in source.all_rows(table):
            try:
                unseal(table, key, value)
            except StoreUnavailable as error:
                yield error.detail


def facts(source: Source) -> dict[str, int]:
    """Return numbers of accounts and follows, and the largest displacement in seconds."""
    count = sum(kind_of(unseal(ACCOUNT, key, value)) > 0 for key, value in source.all_rows(ACCOUNT))
    return {"accounts": count, **_count_follows(source)}


def _count_follows(source: Source) -> dict[str, int]:
    follows = ended = displacement = 0
    for direction in Direction:
        for part in parts_of(source, direction):
            if direction is Direction.FOLLOWING:
                ends = part.hidden.entries.ends
                follows += part.visible.entries.size + int((ends == 0).sum())
                ended += int((ends != 0).sum())
            entries = part.entries
            displacement = max(displacement, int(np.abs(entries.positions - entries.starts).max(initial=0)))
    return {"follows": follows, "ended_follows": ended, "largest_displacement": displacement}
